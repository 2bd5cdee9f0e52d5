//! SLA timers, escalations and the safety net as the workers run them. Time is moved, never waited for.

use actions::escalation_chains::{self, NewChain};
use actions::jobs::Sweep;
use actions::sla_policies::{self, NewPolicy};
use actions::tickets::{NewTicket, open, resolve};
use chrono::TimeDelta;
use connectors::http::{Client, Destinations};
use domain::TicketId;
use domain::escalation::{Action, Step};
use domain::ticket::{Level, Source};
use queue::{Drain, NewJob};
use std::sync::Arc;
use store::blobs::Blobs;
use store::sla_policies::Target;
use templates::Templates;
use testkit::{Organization, TestDb, database, organization};
use workers::{Settings, Shared, registry};

struct House {
    db: TestDb,
    acme: Organization,
    _blobs: tempfile::TempDir,
    shared: Shared,
}

/// Every incident has to be resolved within an hour; then the priority goes up, and again a quarter of an hour later.
async fn house() -> House {
    let db = database().await;
    let acme = organization(&db, "acme").await;
    let blobs = tempfile::tempdir().unwrap();
    let shared = Shared {
        db: db.db.clone(),
        blobs: Blobs::new(blobs.path()),
        templates: Arc::new(Templates::new()),
        http: Client::new(Destinations::default()).unwrap(),
        mailer: None,
        remote: None,
        secrets: queue::KeyRing::default(),
        settings: Arc::new(Settings {
            base_url: "http://localhost".into(),
            mail_domain: "localhost".into(),
            mail_from: "desk@localhost.example".into(),
            discovery_dir: None,
            pruning: workers::Pruning::default(),
        }),
    };
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let raise = |after_seconds| Step { action: Action::RaisePriority, after_seconds };
    let chain = NewChain { name: "higher".into(), steps: vec![raise(0), raise(900)] };
    let chain = escalation_chains::create(&mut tx, &acme.admin, chain).await.unwrap();
    let target = |priority: &domain::ticket::Priority| Target {
        priority: *priority,
        first_response_seconds: None,
        resolution_seconds: Some(3600),
    };
    let policy = NewPolicy {
        name: "an hour".into(),
        is_default: true,
        breach_chain: Some(chain.id),
        targets: domain::ticket::Priority::ALL.iter().map(target).collect(),
        ..NewPolicy::default()
    };
    sla_policies::create(&mut tx, &acme.admin, policy).await.unwrap();
    tx.commit().await.unwrap();
    House { db, acme, _blobs: blobs, shared }
}

impl House {
    async fn open(&self) -> TicketId {
        let mut tx = self.db.db.begin(self.acme.id).await.unwrap();
        let new = NewTicket { urgency: Level::Low, ..NewTicket::incident("no network", Source::Api) };
        let ticket = open(&mut tx, &self.acme.agent, new).await.unwrap();
        tx.commit().await.unwrap();
        ticket.id
    }

    fn pass(&self, minutes: i64) {
        self.db.db.clock().shift(TimeDelta::minutes(minutes));
    }

    async fn work(&self) {
        let drain = Drain::new(registry(), self.shared.clone()).clock(self.db.db.clock().shift_handle());
        drain.run(self.db.db.pool()).await.unwrap();
    }

    async fn sweep(&self) {
        let mut tx = self.db.db.begin_system().await.unwrap();
        queue::enqueue(&mut tx, &[NewJob::of(&Sweep {})]).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn count(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&mut self.db.owner().await).await.unwrap()
    }

    /// Warnings, breaches, escalation steps.
    async fn found(&self) -> (i64, i64, i64) {
        (
            self.count("select count(*) from events where kind = 'sla.warning'").await,
            self.count("select count(*) from sla_breaches").await,
            self.count("select count(*) from escalation_steps").await,
        )
    }
}

#[tokio::test]
async fn timers_lead_from_warning_to_the_last_step_of_the_chain() {
    let house = house().await;
    house.open().await;
    house.work().await;
    assert_eq!(house.found().await, (0, 0, 0));
    house.pass(49);
    house.work().await;
    assert_eq!(house.found().await, (1, 0, 0));
    house.pass(11);
    house.work().await;
    assert_eq!(house.found().await, (1, 1, 1));
    house.pass(16);
    house.work().await;
    assert_eq!(house.found().await, (1, 1, 2));
    house.pass(1000);
    house.work().await;
    assert_eq!(house.found().await, (1, 1, 2));
    assert_eq!(
        house.count("select count(*) from tickets where priority = 'high'").await,
        1,
        "low, medium, high"
    );
    assert_eq!(house.count("select count(*) from escalations where state = 'finished'").await, 1);
}

#[tokio::test]
async fn two_processes_find_the_same_once() {
    let house = house().await;
    for _ in 0..10 {
        house.open().await;
    }
    house.pass(61);
    tokio::join!(house.work(), house.work());
    house.work().await;
    assert_eq!(house.found().await, (0, 10, 10), "no warning is given together with the breach");
    house.pass(16);
    tokio::join!(house.work(), house.work());
    house.work().await;
    assert_eq!(house.found().await, (0, 10, 20));
}

#[tokio::test]
async fn the_sweep_finds_what_lost_its_timer() {
    let house = house().await;
    let (late, resolved) = (house.open().await, house.open().await);
    house.work().await;
    let lose = async |kind: &'static str| {
        let query = sqlx::query("delete from queue.jobs where kind = $1").bind(kind);
        query.execute(&mut house.db.owner().await).await.unwrap();
    };
    lose("check_sla").await;
    let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
    resolve(&mut tx, &house.acme.agent, resolved, "rebooted").await.unwrap();
    tx.commit().await.unwrap();
    house.pass(61);
    house.work().await;
    assert_eq!(house.found().await, (0, 0, 0));
    house.sweep().await;
    house.work().await;
    assert_eq!(house.found().await, (0, 1, 1), "{late:?} and nothing else");
    lose("escalate").await;
    house.pass(16);
    house.sweep().await;
    house.work().await;
    assert_eq!(house.found().await, (0, 1, 2));
}

/// A mail whose job was cancelled is still there, and gets another; a few times.
#[tokio::test]
async fn the_sweep_finds_what_was_kept_and_has_no_job() {
    let house = house().await;
    let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
    let kept = store::inbox::NewInbox {
        id: domain::InboxId::new(),
        source: "mail",
        channel_id: uuid::Uuid::now_v7(),
        unique_key: "1",
        content_type: "message/rfc822",
        raw: b"From: a@example.org\r\nSubject: hello\r\n\r\nhello",
        headers: serde_json::json!({}),
    };
    let id = store::inbox::keep(&mut tx, &kept).await.unwrap().id();
    tx.commit().await.unwrap();
    let jobs = "select count(*) from queue.jobs where kind = 'ingest_mail'";
    let swept = async || {
        let mut tx = house.db.db.begin_system().await.unwrap();
        let before = tx.now() - TimeDelta::minutes(5);
        let found = store::inbox::stranded(&mut tx, before, 10).await.unwrap();
        for (_, id, rescues) in &found {
            let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
            actions::inbox::rescue(&mut tx, *id, *rescues).await.unwrap();
            tx.commit().await.unwrap();
        }
        found.len()
    };
    assert_eq!(swept().await, 0, "its job may be on the way");
    house.pass(6);
    for _ in 0..3 {
        assert_eq!((swept().await, house.count(jobs).await), (1, 1));
        house.pass(6);
        assert_eq!(swept().await, 0, "it waits for its turn");
        sqlx::query("delete from queue.jobs").execute(&mut house.db.owner().await).await.unwrap();
    }
    house.sweep().await;
    house.work().await;
    let mut tx = house.db.db.begin(house.acme.id).await.unwrap();
    let entry = store::inbox::entry(&mut tx, id).await.unwrap();
    assert_eq!(entry.status, store::inbox::Status::Failed);
    assert!(entry.reason.unwrap().contains("replay"));
}
