use super::*;
use proptest::prelude::*;

fn item(row: usize, identifiers: &[(&str, &str)]) -> Item {
    Item {
        row,
        name: Some(format!("host{row}")),
        class: Some("server".into()),
        status: None,
        description: None,
        attributes: Map::new(),
        identifiers: identifiers.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
    }
}

fn defaults() -> Defaults {
    Defaults { class: "server".into() }
}

fn reconcile(items: &[Item], known: &[Known], defaults: &Defaults) -> Plan {
    super::reconcile(items, &[], known, defaults)
}

/// The configuration items after the plan was carried out.
fn after(known: &[Known], plan: &Plan, now: DateTime<Utc>) -> Vec<Known> {
    let updates: HashMap<CiId, &Known> =
        plan.updated.iter().map(|update| (update.after.id, &update.after)).collect();
    let mut all: Vec<Known> = known
        .iter()
        .map(|ci| updates.get(&ci.id).map_or_else(|| ci.clone(), |after| (*after).clone()))
        .map(|ci| if plan.missing.contains(&ci.id) { Known { missing_since: Some(now), ..ci } } else { ci })
        .collect();
    all.extend(plan.created.iter().map(|(_, ci)| ci.clone()));
    all
}

fn now() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

#[test]
fn created_updated_unchanged_missing() {
    let first: Vec<Item> = (1..=4).map(|row| item(row, &[("serial", &format!("S{row}"))])).collect();
    let plan = reconcile(&first, &[], &defaults());
    assert_eq!((plan.created.len(), plan.updated.len(), plan.missing.len()), (4, 0, 0));
    let known = after(&[], &plan, now());

    let mut second = first[..3].to_vec();
    second[0].attributes.insert("ram".into(), 64.into());
    let plan = reconcile(&second, &known, &defaults());
    assert_eq!(
        (plan.created.len(), plan.updated.len(), plan.unchanged.len(), plan.missing.len()),
        (0, 1, 2, 1)
    );
    assert_eq!(
        plan.updated[0].differences,
        [Difference { field: "attributes.ram".into(), from: Value::Null, to: 64.into() }]
    );
    let known = after(&known, &plan, now());
    let plan = reconcile(&second, &known, &defaults());
    assert_eq!((plan.unchanged.len(), plan.missing.len(), plan.still_missing.len()), (3, 0, 1));

    // It is back.
    let plan = reconcile(&first, &known, &defaults());
    let fields: Vec<_> = plan.updated.iter().flat_map(|u| &u.differences).map(|d| d.field.as_str()).collect();
    assert_eq!(fields, ["missing_since"]);
}

#[test]
fn the_first_key_that_is_known_decides_and_the_others_follow() {
    let known =
        after(&[], &reconcile(&[item(1, &[("serial", "S1"), ("host", "a")])], &[], &defaults()), now());
    let renamed = item(1, &[("serial", "S1"), ("host", "b")]);
    let plan = reconcile(&[renamed], &known, &defaults());
    assert_eq!(plan.updated[0].differences[0].field, "identifiers.host");
    // Without its serial number the host name still finds it.
    let plan = reconcile(&[item(1, &[("serial", "N/A"), ("host", "a")])], &known, &defaults());
    assert_eq!(plan.unchanged, [known[0].id]);
}

#[test]
fn a_conflict_is_reported_and_nothing_is_merged() {
    let both = [item(1, &[("serial", "S1"), ("host", "a")]), item(2, &[("serial", "S2"), ("host", "b")])];
    let known = after(&[], &reconcile(&both, &[], &defaults()), now());
    let plan = reconcile(&[item(1, &[("serial", "S1"), ("host", "b")])], &known, &defaults());
    assert!(plan.updated.is_empty() && plan.created.is_empty() && plan.missing.is_empty());
    assert!(plan.failed[0].error.starts_with("conflict: by serial it is host1"), "{}", plan.failed[0].error);
}

#[test]
fn a_row_that_could_not_be_read_is_there() {
    let rows: Vec<Item> = (1..=3).map(|row| item(row, &[("serial", &format!("S{row}"))])).collect();
    let known = after(&[], &reconcile(&rows, &[], &defaults()), now());
    let seen = [("serial".to_owned(), "S2".to_owned()), ("serial".to_owned(), String::new())];
    let plan = super::reconcile(&rows[..1], &seen, &known, &defaults());
    assert_eq!(plan.missing, [known[2].id]);
}

#[test]
fn a_plan_in_which_too_much_goes_missing_is_not_believed() {
    let rows: Vec<Item> = (1..=40).map(|row| item(row, &[("serial", &format!("S{row}"))])).collect();
    let known = after(&[], &reconcile(&rows, &[], &defaults()), now());
    let judge = |listed: usize, percent| {
        let plan = reconcile(&rows[..listed], &known, &defaults());
        verdict(&plan, &[], &known, percent)
    };
    assert_eq!(judge(20, None), Ok(()));
    let why = judge(19, None).unwrap_err();
    assert!(why.starts_with("21 items would go missing, of 40"), "{why}");
    assert!(judge(0, None).is_err());
    assert_eq!(judge(0, Some(100)), Ok(()));
    assert!(judge(30, Some(20)).is_err());
    assert_eq!(judge(31, Some(0)), Ok(()), "nine are few");
    // What is missing already does not go missing once more.
    let plan = reconcile(&rows[..20], &known, &defaults());
    let known = after(&known, &plan, now());
    let plan = reconcile(&rows[..9], &known, &defaults());
    assert!(verdict(&plan, &[], &known, None).unwrap_err().starts_with("11 items would go missing, of 20"));
}

#[test]
fn a_plan_of_which_no_row_can_be_used_is_not_believed() {
    let known = after(&[], &reconcile(&[item(1, &[("serial", "S1")])], &[], &defaults()), now());
    // The key has another name now.
    let plan = reconcile(&[item(1, &[("serial", "")]), item(2, &[("serial", "")])], &known, &defaults());
    let why = verdict(&plan, &[], &known, None).unwrap_err();
    assert!(why.starts_with("none of the 2 rows can be used") && why.contains("row 1: nothing"), "{why}");
    let refused = [RowError { row: 3, error: "not an object".into() }];
    assert!(verdict(&Plan::default(), &refused, &known, Some(100)).is_err());
    let plan = reconcile(&[item(1, &[("serial", "S1")])], &known, &defaults());
    assert_eq!(verdict(&plan, &refused, &known, None), Ok(()));
}

#[test]
fn two_rows_of_one_item_are_an_error_of_the_second() {
    let rows = [
        item(1, &[("serial", "S1")]),
        item(2, &[("serial", "S1")]),
        item(3, &[("serial", "to be filled by O.E.M.")]),
    ];
    let plan = reconcile(&rows, &[], &defaults());
    assert_eq!(plan.created.len(), 1);
    let failed: Vec<_> = plan.failed.iter().map(|failure| failure.row).collect();
    assert_eq!(failed, [2, 3]);
}

#[test]
fn what_people_added_stays_and_null_removes() {
    let mut row = item(1, &[("serial", "S1")]);
    row.attributes.insert("ram".into(), 64.into());
    let mut known = after(&[], &reconcile(std::slice::from_ref(&row), &[], &defaults()), now());
    known[0].attributes.insert("cost_center".into(), "42".into());
    assert_eq!(reconcile(std::slice::from_ref(&row), &known, &defaults()).unchanged.len(), 1);
    row.attributes.insert("ram".into(), Value::Null);
    let plan = reconcile(&[row], &known, &defaults());
    let left: Vec<_> = plan.updated[0].after.attributes.keys().collect();
    assert_eq!(left, ["cost_center"]);
}

#[test]
fn an_item_kept_by_hand_is_adopted_once() {
    let row = item(1, &[("serial", "S1")]);
    let mut known = after(&[], &reconcile(std::slice::from_ref(&row), &[], &defaults()), now());
    (known[0].is_ours, known[0].is_unowned) = (false, true);
    let plan = reconcile(std::slice::from_ref(&row), &known, &defaults());
    assert_eq!(plan.updated[0].differences[0].field, "discovered");
    let known = after(&known, &plan, now());
    assert_eq!(reconcile(&[row], &known, &defaults()).unchanged.len(), 1);
    // An item of another source is updated, and not taken over: it does not go missing here.
    let mut foreign = known.clone();
    foreign[0].is_ours = false;
    assert!(reconcile(&[], &foreign, &defaults()).missing.is_empty());
}

fn inventories() -> impl Strategy<Value = Vec<Item>> {
    let row = (prop::option::of(0u8..12), prop::option::of(0u8..12), 0u8..3, any::<bool>());
    prop::collection::vec(row, 0..15).prop_map(|rows| {
        rows.into_iter()
            .enumerate()
            .map(|(index, (serial, host, ram, has_name))| {
                let mut all = item(index + 1, &[]);
                if !has_name {
                    all.name = None;
                }
                all.identifiers.extend(serial.map(|n| ("serial".to_owned(), format!("S{n}"))));
                all.identifiers.extend(host.map(|n| ("host".to_owned(), format!("h{n}"))));
                all.attributes.insert("ram".into(), ram.into());
                all
            })
            .collect()
    })
}

proptest! {
    /// Every row ends in exactly one pile, and every item of ours in exactly one too.
    #[test]
    fn nothing_is_counted_twice_or_lost(first in inventories(), second in inventories()) {
        let known = after(&[], &reconcile(&first, &[], &defaults()), now());
        let plan = reconcile(&second, &known, &defaults());
        prop_assert_eq!(plan.created.len() + plan.updated.len() + plan.unchanged.len() + plan.failed.len(), second.len());
        let mut touched: Vec<CiId> = plan.updated.iter().map(|update| update.after.id).collect();
        touched.extend(plan.unchanged.iter().chain(&plan.missing).chain(&plan.still_missing));
        let count = touched.len();
        touched.sort();
        touched.dedup();
        prop_assert_eq!(touched.len(), count);
    }

    /// The same inventory again changes nothing: what was used is unchanged, what failed fails again.
    #[test]
    fn a_second_run_is_all_unchanged(first in inventories(), second in inventories()) {
        let known = after(&[], &reconcile(&first, &[], &defaults()), now());
        let plan = reconcile(&second, &known, &defaults());
        let known = after(&known, &plan, now());
        let again = reconcile(&second, &known, &defaults());
        prop_assert!(again.created.is_empty(), "{:?}", again.created);
        prop_assert!(again.missing.is_empty());
        prop_assert_eq!(again.updated.len(), 0, "{:?}", again.updated);
    }

    /// No identifier belongs to two items.
    #[test]
    fn identifiers_stay_unique(runs in prop::collection::vec(inventories(), 1..5)) {
        let mut known = Vec::new();
        for items in runs {
            let plan = reconcile(&items, &known, &defaults());
            known = after(&known, &plan, now());
            let mut owners: HashMap<(&String, &String), CiId> = HashMap::new();
            for ci in &known {
                for pair in &ci.identifiers {
                    let before = owners.insert(pair, ci.id);
                    prop_assert!(before.is_none(), "{pair:?} belongs to two items");
                }
            }
        }
    }
}
