use crate::{house, opened};
use actions::tickets::{NewTicket, add_tag, open, resolve};
use domain::permission::Reach;
use domain::ticket::{Level, Priority, Source};
use store::listing::{Compare, Condition, Is};
use store::ticket_list::{FIELDS, TicketFilter, list, order};

#[tokio::test]
async fn filters_and_words_find_tickets() {
    let (db, acme) = house().await;
    let printer = opened(&db, &acme.agent, "Printer db-01 prints only blanks").await;
    let network = opened(&db, &acme.end_user, "No network on floor three").await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    add_tag(&mut tx, &acme.agent, printer.id, "paper").await.unwrap();
    resolve(&mut tx, &acme.agent, network.id, "cable").await.unwrap();
    let found = async |tx: &mut store::Tx, filter: TicketFilter| -> Vec<String> {
        let order = order(&[("number", false)]);
        let tickets = list(tx, &Reach::Everything, &filter, &order, None, 10).await.unwrap();
        tickets.into_iter().map(|ticket| ticket.item.number).collect()
    };
    let words = |q: &str| TicketFilter { q: Some(q.to_owned()), ..TicketFilter::default() };
    let on = |name: &str, is: Is| {
        let conditions = vec![Condition::new(FIELDS, name, is).expect("a field")];
        TicketFilter { conditions, ..TicketFilter::default() }
    };
    let texts = |all: &[&str]| Is::Text(all.iter().map(|text| (*text).to_owned()).collect());
    let user = |actor: &domain::Actor| Is::Id(vec![actor.user_id().unwrap().0]);
    let (first, second) = (vec![printer.number.clone()], vec![network.number.clone()]);
    for (filter, expected) in [
        (words("print"), &first),
        (words("db-01"), &first),
        (words("inc0000002"), &second),
        (words("network -printer"), &second),
        (words("\"floor three\""), &second),
        (words("zzz"), &vec![]),
        (words("'); drop table tickets; --"), &vec![]),
        (words("& | ! <-> :* \\ '"), &vec![]),
        (on("tag", texts(&["paper"])), &first),
        (on("tag", texts(&["'); drop table tickets; --"])), &vec![]),
        (on("open", Is::Flag(true)), &first),
        (on("open", Is::Flag(false)), &second),
        (on("status", texts(&["resolved", "closed"])), &second),
        (on("requester", user(&acme.end_user)), &second),
        (on("assignee", user(&acme.agent)), &vec![]),
        (on("source", texts(&["email"])), &vec![]),
        (on("created_at", Is::Time(Compare::Below, printer.created_at)), &vec![]),
        (on("created_at", Is::Time(Compare::AtMost, printer.created_at)), &first),
        (on("created_at", Is::Time(Compare::AtLeast, network.created_at)), &second),
        (on("resolved_at", Is::Null(true)), &first),
        (on("configuration_item", Is::Id(vec![domain::CiId::new().0])), &vec![]),
    ] {
        assert_eq!(&found(&mut tx, filter.clone()).await, expected, "{filter:?}");
    }
    let mut both = on("assignee", Is::Null(true));
    both.conditions.extend(on("impact", texts(&["medium"])).conditions);
    assert_eq!(found(&mut tx, both).await, [printer.number, network.number]);
}

#[tokio::test]
async fn pages_in_every_order_hold_each_ticket_once() {
    let (db, acme) = house().await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    // In one transaction: all created at the same time, so that only the id tells them apart.
    for n in 0..11 {
        let urgency = Level::ALL[n % 3];
        let new = NewTicket { urgency, ..NewTicket::incident(format!("ticket {n}"), Source::Api) };
        open(&mut tx, &acme.agent, new).await.unwrap();
    }
    let everything = TicketFilter::default();
    for names in [
        &["created_at"][..],
        &["updated_at"],
        &["priority"],
        &["number"],
        &["status", "priority"],
        &["urgency", "impact", "number"],
    ] {
        // Both directions for each field.
        for directions in 0..1_u32 << names.len() {
            let by = names.iter().enumerate().map(|(at, name)| (*name, directions >> at & 1 == 1));
            let order = order(&by.collect::<Vec<_>>());
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page =
                    list(&mut tx, &Reach::Everything, &everything, &order, after.as_ref(), 4).await.unwrap();
                let Some(last) = page.last() else { break };
                after = Some(order.read(last.place.clone()).expect("a place of this order"));
                seen.extend(page.into_iter().map(|ticket| ticket.item));
            }
            let whole = list(&mut tx, &Reach::Everything, &everything, &order, None, 100).await.unwrap();
            let whole: Vec<_> = whole.into_iter().map(|ticket| ticket.item).collect();
            assert_eq!(seen, whole, "{names:?} {directions:b}");
            assert_eq!(seen.len(), 11);
            if *names == ["priority"] && directions == 0 {
                assert_eq!(seen[0].priority, Priority::High);
            }
        }
    }
}
