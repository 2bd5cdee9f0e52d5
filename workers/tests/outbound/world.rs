//! An organization whose jobs run when the test says so.

use actions::channels::NewChannel;
use actions::rules::NewRule;
use actions::tickets::NewTicket;
use chrono::TimeDelta;
use connectors::http::{Client, Destinations};
use connectors::mail::Mailer;
use domain::ticket::Source;
use domain::{ChannelId, ChannelKind, DeliveryId};
use queue::{Drain, DrainError, Drained};
use serde_json::Value;
use std::sync::Arc;
use store::deliveries::{Delivery, Status};
use store::tickets::Ticket;
use store::{Tx, blobs::Blobs};
use testkit::{Organization, TestDb};
use workers::{Settings, Shared};

pub struct World {
    pub test: TestDb,
    pub organization: Organization,
    pub shared: Shared,
    _folder: tempfile::TempDir,
}

impl World {
    /// `relay`: the URL of the SMTP sink; `allowed`: where connections may go.
    pub async fn new(relay: Option<String>, allowed: &str) -> World {
        let test = testkit::database().await;
        let organization = testkit::organization(&test, "acme").await;
        let folder = tempfile::tempdir().unwrap();
        let nets = allowed.split(',').filter(|net| !net.is_empty()).map(|net| net.parse().unwrap());
        let shared = Shared {
            db: test.db.clone(),
            blobs: Blobs::new(folder.path()),
            templates: Arc::new(templates::Templates::new()),
            http: Client::new(Destinations::allowing(nets)).unwrap(),
            mailer: relay.map(|url| Mailer::new(&url).unwrap()),
            remote: None,
            secrets: "test:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".parse().unwrap(),
            settings: Arc::new(Settings {
                base_url: "https://desk.example".into(),
                mail_domain: "desk.example".into(),
                mail_from: "Relaydesk <relaydesk@desk.example>".into(),
                discovery_dir: None,
                pruning: workers::Pruning::default(),
            }),
        };
        World { test, organization, shared, _folder: folder }
    }

    pub async fn open() -> World {
        World::new(None, "127.0.0.0/8").await
    }

    pub async fn begin(&self) -> Tx {
        self.test.db.begin(self.organization.id).await.unwrap()
    }

    pub async fn channel(&self, kind: ChannelKind, config: Value) -> ChannelId {
        let mut tx = self.begin().await;
        let new = NewChannel { kind, name: format!("{kind} {}", DeliveryId::new()), config, is_active: true };
        let channel = actions::channels::create(&mut tx, &self.organization.admin, &self.shared.secrets, new)
            .await
            .unwrap();
        tx.commit().await.unwrap();
        channel.id
    }

    pub async fn rule(&self, event: &str, channel: ChannelId, conditions: Value) {
        let mut tx = self.begin().await;
        let new = NewRule { name: None, event: event.into(), channel, conditions, is_active: true };
        actions::rules::create(&mut tx, &self.organization.admin, new).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn incident(&self, title: &str) -> Ticket {
        let mut tx = self.begin().await;
        let new = NewTicket::incident(title, Source::Api);
        let ticket = actions::tickets::open(&mut tx, &self.organization.end_user, new).await.unwrap();
        tx.commit().await.unwrap();
        ticket
    }

    /// Runs all that is pending; what failed and may be tried again is tried again at once.
    pub async fn drain(&self) -> Result<Drained, DrainError> {
        Drain::new(workers::registry(), self.shared.clone()).with_retries().run(self.test.db.pool()).await
    }

    /// Runs what is due now, and no more.
    pub async fn drain_once(&self) -> Result<Drained, DrainError> {
        Drain::new(workers::registry(), self.shared.clone()).run(self.test.db.pool()).await
    }

    /// Runs until no delivery waits any more, letting the time until the next attempt pass each time.
    pub async fn drain_all(&self) -> Result<(), DrainError> {
        for _ in 0..200 {
            self.drain_once().await?;
            let waits = self.deliveries().await;
            let next = waits.iter().filter(|d| d.status == Status::Pending).filter_map(|d| d.next_attempt_at);
            let Some(next) = next.min() else { return Ok(()) };
            let now = self.begin().await.now();
            self.pass((next - now).max(TimeDelta::zero()) + TimeDelta::milliseconds(20)).await;
        }
        panic!("no end: {:?}", self.deliveries().await);
    }

    /// Lets time pass, for whatever waits: all that is written down lies further in the past.
    pub async fn pass(&self, time: TimeDelta) {
        let mut owner = self.test.owner().await;
        queue::testing::pass(&mut owner, time.to_std().unwrap()).await.unwrap();
        for (table, columns) in [
            ("webhooks", vec!["failing_since", "previous_until"]),
            (
                "webhook_deliveries",
                vec!["replayed_at", "last_attempt_at", "next_attempt_at", "created_at", "updated_at"],
            ),
            ("discovery_runs", vec!["created_at", "started_at", "finished_at"]),
            ("channel_gates", vec!["not_before", "line_end", "paced_until", "failing_since"]),
            (
                "deliveries",
                vec![
                    "turn_at",
                    "give_up_at",
                    "last_attempt_at",
                    "next_attempt_at",
                    "sent_at",
                    "created_at",
                    "updated_at",
                ],
            ),
        ] {
            let set: Vec<_> = columns.iter().map(|column| format!("{column} = {column} - $1")).collect();
            let sql = format!("update {table} set {}", set.join(", "));
            sqlx::query(sqlx::AssertSqlSafe(sql)).bind(time).execute(&mut owner).await.unwrap();
        }
    }

    pub async fn deliveries(&self) -> Vec<Delivery> {
        let mut tx = self.begin().await;
        let (everything, all) = (domain::permission::Reach::Everything, store::deliveries::LIST.all(100));
        let rows = store::deliveries::list(&mut tx, &everything, &all).await.unwrap();
        rows.into_iter().map(|row| row.item).collect()
    }

    pub async fn delivery(&self) -> Delivery {
        let mut all = self.deliveries().await;
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }
}
