//! Inventories as the workers read them: from files, for two organizations of one installation.

use actions::discovery::{self, DiscoveryFields, Listing};
use actions::{Error, cmdb};
use connectors::http::{Client, Destinations};
use domain::cmdb::{InventoryFormat, RunMode, RunStatus};
use domain::inventory::InventoryOptions;
use queue::Drain;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use store::blobs::Blobs;
use store::configuration_items::{ConfigurationItem, LIST};
use store::discovery_runs::DiscoveryRun;
use store::discovery_sources::DiscoverySource;
use store::listing::{Is, Wanted};
use templates::Templates;
use testkit::{Organization, TestDb};
use workers::{Settings, Shared, registry};

struct House {
    db: TestDb,
    acme: Organization,
    other: Organization,
    folder: tempfile::TempDir,
    shared: Shared,
}

/// Each organization has a folder `<slug>` for its inventories.
async fn house() -> House {
    let db = testkit::database().await;
    let (acme, other) = (testkit::organization(&db, "acme").await, testkit::organization(&db, "other").await);
    let folder = tempfile::tempdir().unwrap();
    for slug in ["acme", "other"] {
        std::fs::create_dir(folder.path().join(slug)).unwrap();
    }
    let shared = Shared {
        db: db.db.clone(),
        blobs: Blobs::new(folder.path().join("blobs")),
        templates: Arc::new(Templates::new()),
        http: Client::new(Destinations::default()).unwrap(),
        mailer: None,
        remote: None,
        secrets: queue::KeyRing::default(),
        settings: Arc::new(Settings {
            base_url: "http://localhost".into(),
            mail_domain: "localhost".into(),
            mail_from: "desk@localhost.example".into(),
            discovery_dir: Some(folder.path().to_owned()),
            pruning: workers::Pruning::default(),
        }),
    };
    House { db, acme, other, folder, shared }
}

fn hosts(range: std::ops::Range<u32>) -> Vec<Value> {
    range.map(|n| json!({"name": format!("host{n}"), "serial": format!("SN{n}"), "ram": 64})).collect()
}

impl House {
    fn write(&self, file: &str, items: &[Value]) {
        std::fs::write(self.folder.path().join(file), json!(items).to_string()).unwrap();
    }

    async fn source(&self, whose: &Organization, location: &str, options: Value) -> DiscoverySource {
        let mut tx = self.db.db.begin(whose.id).await.unwrap();
        let fields = DiscoveryFields {
            name: location.chars().take(100).collect(),
            format: InventoryFormat::Json,
            location: location.into(),
            identification_keys: vec!["serial".into()],
            options: serde_json::from_value::<InventoryOptions>(options).unwrap(),
            auth_header: None,
            schedule: None,
            time_zone: "UTC".into(),
            is_active: true,
        };
        let source = discovery::create(&mut tx, &whose.admin, &self.shared.secrets, fields).await.unwrap();
        tx.commit().await.unwrap();
        source
    }

    async fn run(&self, whose: &Organization, source: &DiscoverySource, mode: RunMode) -> DiscoveryRun {
        let mut tx = self.db.db.begin(whose.id).await.unwrap();
        let started = discovery::start(&mut tx, &whose.admin, source.id, mode).await.unwrap();
        tx.commit().await.unwrap();
        Drain::new(registry(), self.shared.clone()).run(self.db.db.pool()).await.unwrap();
        let mut tx = self.db.db.begin(whose.id).await.unwrap();
        store::discovery_runs::get(&mut tx, started.run).await.unwrap()
    }

    async fn items(&self, whose: &Organization, wanted: Wanted) -> Vec<ConfigurationItem> {
        let mut tx = self.db.db.begin(whose.id).await.unwrap();
        let rows = store::configuration_items::list(&mut tx, &wanted).await.unwrap();
        rows.into_iter().map(|row| row.item).collect()
    }

    async fn missing(&self) -> usize {
        self.items(&self.acme, LIST.only("missing", Is::Flag(true), 1000)).await.len()
    }
}

#[tokio::test]
async fn nobody_reads_the_inventory_of_another_organization() {
    let house = house().await;
    house.write("acme/hosts.json", &hosts(0..3));
    house.write("hosts.json", &hosts(0..3));
    let own = house.source(&house.acme, "hosts.json", json!({})).await;
    assert_eq!(house.run(&house.acme, &own, RunMode::Run).await.counts.created, 3);

    let absolute = house.folder.path().join("acme/hosts.json");
    let mut answers = Vec::new();
    for location in [
        "hosts.json",
        "acme/hosts.json",
        "../acme/hosts.json",
        "../hosts.json",
        "../acme/no-such-file.json",
        absolute.to_str().unwrap(),
        "/etc/hostname",
        "/etc/no-such-file",
    ] {
        let source = house.source(&house.other, location, json!({})).await;
        let run = house.run(&house.other, &source, RunMode::Preview).await;
        assert_eq!(run.status, RunStatus::Failed, "{location}");
        answers.push(run.error.unwrap().replace(location, "…"));
    }
    // What is there cannot be told from what is not.
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(house.items(&house.other, LIST.all(1000)).await.is_empty());
}

#[tokio::test]
async fn an_inventory_that_was_broken_overnight_changes_nothing() {
    let house = house().await;
    house.write("acme/hosts.json", &hosts(0..40));
    let source = house.source(&house.acme, "hosts.json", json!({})).await;
    assert_eq!(house.run(&house.acme, &source, RunMode::Run).await.counts.created, 40);

    // The feed calls the key otherwise; the feed was cut off; the feed is empty.
    let renamed: Vec<Value> = (0..40).map(|n| json!({"name": "x", "serial_no": format!("SN{n}")})).collect();
    for (broken, why) in [
        (renamed, "none of the 40 rows can be used"),
        (hosts(0..1), "39 items would go missing"),
        (vec![], "40 items would go missing"),
    ] {
        house.write("acme/hosts.json", &broken);
        for mode in [RunMode::Preview, RunMode::Run] {
            let run = house.run(&house.acme, &source, mode).await;
            assert_eq!(run.status, RunStatus::Failed, "{why}");
            assert!(run.error.as_ref().unwrap().contains(why), "{:?}", run.error);
            assert_eq!(run.counts.read, broken.len() as u64);
        }
        assert_eq!(house.missing().await, 0);
    }

    // A row that is refused names its item, which is there; the other one is not.
    let mut rows = hosts(0..38);
    rows.push(json!({"serial": "SN38", "note": "x".repeat(50_000)}));
    house.write("acme/hosts.json", &rows);
    let run = house.run(&house.acme, &source, RunMode::Run).await;
    assert_eq!((run.counts.unchanged, run.counts.failed, run.counts.missing), (38, 1, 1), "{:?}", run.errors);

    // Who says so may lose everything.
    house.write("acme/hosts.json", &hosts(0..1));
    let source = house.source(&house.acme, "./hosts.json", json!({"max_missing_percent": 100})).await;
    let mut owner = house.db.owner().await;
    sqlx::query("update configuration_items set discovery_source_id = $1")
        .bind(source.id.0)
        .execute(&mut owner)
        .await
        .unwrap();
    assert_eq!(house.run(&house.acme, &source, RunMode::Run).await.counts.missing, 38);
}

/// 1 MiB is all that PostgreSQL's index of words holds, for one row.
#[tokio::test]
async fn one_huge_row_does_not_fail_the_others() {
    let house = house().await;
    let row = |serial: &str, values: usize| {
        let mut row: Map<String, Value> =
            json!({"serial": serial, "name": serial}).as_object().unwrap().clone();
        let words = |at: usize| (0..1500).map(|n| format!("w{at}x{n}é")).collect::<Vec<_>>().join("-a b-");
        row.extend((0..values).map(|at| (format!("a{at}"), words(at).into())));
        Value::Object(row)
    };
    house.write("acme/hosts.json", &[row("SN1", 10), row("SN2", 300), row("SN3", 0)]);
    let source = house.source(&house.acme, "hosts.json", json!({})).await;
    let run = house.run(&house.acme, &source, RunMode::Run).await;
    assert_eq!((run.status, run.counts.created, run.counts.failed), (RunStatus::Succeeded, 2, 1), "{run:?}");
    assert!(run.errors.to_string().contains("longer than"), "{}", run.errors);
    let found = house.items(&house.acme, Wanted { q: Some("w0x7é".into()), ..LIST.all(1000) }).await;
    assert_eq!(found.len(), 1, "the beginning of it can be found");
}

#[tokio::test]
async fn an_edit_between_the_look_and_the_writing_is_not_lost() {
    let house = house().await;
    house.write("acme/hosts.json", &hosts(0..2));
    let source = house.source(&house.acme, "hosts.json", json!({})).await;
    house.run(&house.acme, &source, RunMode::Run).await;

    // A run has looked, and wants to write both …
    let mut rows = hosts(0..2);
    rows.iter_mut().for_each(|row| row["ram"] = json!(128));
    let inventory = connectors::discovery::parse(
        InventoryFormat::Json,
        json!(rows).to_string().as_bytes(),
        &source.identification_keys,
        &source.options,
    )
    .unwrap();
    let listing = Listing { items: &inventory.items, refused: &inventory.errors, seen: &inventory.seen };
    let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
    let known = discovery::known(&mut tx, &source).await.unwrap();
    tx.rollback().await.unwrap();
    let planned = discovery::plan(&source, listing, &known);
    assert_eq!(planned.plan.updated.len(), 2);

    // … a person is faster …
    let before = house.items(&house.acme, LIST.all(1000)).await.remove(0);
    let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
    let mut attributes = before.attributes.clone();
    attributes.insert("cost_center".into(), json!("42"));
    let fields = cmdb::CiFields {
        name: before.name.clone(),
        class: before.class.clone(),
        category: before.category,
        status: before.status,
        description: "looked after by Ada".into(),
        attributes,
        identifiers: before.identifiers.clone(),
    };
    cmdb::update(&mut tx, &house.acme.admin, before.clone(), fields).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
    let stale = discovery::carry_out(&mut tx, &house.acme.admin, &source, &planned).await;
    assert!(matches!(stale, Err(Error::Stale)), "{stale:?}");
    tx.rollback().await.unwrap();

    // … and the next look sees what they wrote.
    house.write("acme/hosts.json", &rows);
    assert_eq!(house.run(&house.acme, &source, RunMode::Run).await.counts.updated, 2);
    let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
    let after = store::configuration_items::get(&mut tx, before.id).await.unwrap();
    assert_eq!(after.description, "looked after by Ada");
    assert_eq!((&after.attributes["cost_center"], &after.attributes["ram"]), (&json!("42"), &json!(128)));
}
