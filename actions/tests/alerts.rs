//! Payloads become incidents: on a real database, through the verbs that the worker calls.

use actions::alert_sources::{self, NewAlertSource};
use actions::alerts::{Ingested, Outcome, Payload, ingest};
use chrono::{DateTime, TimeDelta, Utc};
use domain::alert::{AlertSourceKind, AlertStatus, Grouping, Notification, Signal, Why};
use domain::ticket::{Priority, Source, Status};
use domain::{Actor, TicketId};
use std::collections::BTreeMap;
use store::alert_sources::AlertSource;
use testkit::{Organization, TestDb};

struct World {
    test: TestDb,
    organization: Organization,
    source: AlertSource,
    now: DateTime<Utc>,
}

impl World {
    async fn new() -> World {
        let test = testkit::database().await;
        let organization = testkit::organization(&test, "acme").await;
        let mut tx = test.db.begin(organization.id).await.unwrap();
        let actor = Actor::system(organization.id, "test");
        let new = NewAlertSource::new(AlertSourceKind::Alertmanager, "prometheus");
        let source = alert_sources::create(&mut tx, &actor, new).await.unwrap().source;
        let now = tx.now();
        tx.commit().await.unwrap();
        World { test, organization, source, now }
    }

    fn at(&self, second: i64) -> DateTime<Utc> {
        self.now + TimeDelta::seconds(second)
    }

    fn fires(&self, fingerprint: &str, severity: &str, start: i64) -> Signal {
        Signal {
            fingerprint: fingerprint.into(),
            status: AlertStatus::Firing,
            severity: severity.into(),
            title: format!("{fingerprint} is down"),
            description: "it does not answer".into(),
            labels: BTreeMap::from([("instance".into(), fingerprint.into())]),
            source_url: None,
            starts_at: self.at(start),
            ends_at: None,
        }
    }

    fn ends(&self, fingerprint: &str, start: i64, end: i64) -> Signal {
        Signal {
            status: AlertStatus::Resolved,
            ends_at: Some(self.at(end)),
            ..self.fires(fingerprint, "warning", start)
        }
    }

    async fn send(&self, group: &str, signals: Vec<Signal>) -> Vec<Ingested> {
        send(&self.test.db, &self.source, group, signals).await.unwrap()
    }

    async fn one(&self, group: &str, signals: Vec<Signal>) -> Ingested {
        let done = self.send(group, signals).await;
        assert_eq!(done.len(), 1);
        done[0]
    }

    async fn ticket(&self, id: Option<TicketId>) -> store::tickets::Ticket {
        let mut tx = self.test.db.begin(self.organization.id).await.unwrap();
        store::tickets::get(&mut tx, id.expect("an incident")).await.unwrap()
    }

    async fn incidents(&self) -> i64 {
        let mut owner = self.test.owner().await;
        sqlx::query_scalar("select count(*) from tickets").fetch_one(&mut owner).await.unwrap()
    }

    async fn comments(&self, id: Option<TicketId>) -> Vec<String> {
        let mut owner = self.test.owner().await;
        sqlx::query_scalar("select body from ticket_comments where ticket_id = $1 order by created_at, id")
            .bind(id.unwrap().0)
            .fetch_all(&mut owner)
            .await
            .unwrap()
    }
}

async fn send(
    db: &store::Db,
    source: &AlertSource,
    group: &str,
    signals: Vec<Signal>,
) -> Result<Vec<Ingested>, actions::Error> {
    notify(db, source, notification(group, signals)).await
}

fn notification(group: &str, signals: Vec<Signal>) -> Notification {
    Notification {
        group_key: Some(group.into()),
        title: None,
        url: Some("http://alertmanager".into()),
        truncated: 0,
        group_status: None,
        signals,
    }
}

async fn notify(
    db: &store::Db,
    source: &AlertSource,
    notification: Notification,
) -> Result<Vec<Ingested>, actions::Error> {
    let mut tx = db.begin(source.organization).await?;
    let actor = Actor::system(source.organization, "ingest_alert");
    let received_at = tx.now();
    let payload = Payload { notification: &notification, received_at, skip: 0, trace: None };
    let mut done = ingest(&mut tx, &actor, source, &[payload]).await?;
    tx.commit().await?;
    Ok(done.remove(0))
}

#[tokio::test]
async fn one_group_lives_from_firing_to_resolved() {
    let world = World::new().await;
    let opened = world.one("g", vec![world.fires("db1", "warning", 0)]).await;
    assert_eq!(opened.outcome, Outcome::Opened);
    let ticket = world.ticket(opened.incident).await;
    assert_eq!(
        (ticket.status, ticket.priority, ticket.source),
        (Status::New, Priority::Medium, Source::Alert)
    );
    assert_eq!(ticket.title, "db1 is down");
    assert!(ticket.description.contains("instance: db1"), "{}", ticket.description);

    let repeated = world.one("g", vec![world.fires("db1", "warning", 0)]).await;
    assert_eq!((repeated.outcome, repeated.incident), (Outcome::Repeated, opened.incident));
    assert!(world.comments(opened.incident).await.is_empty());

    let joined =
        world.one("g", vec![world.fires("db1", "warning", 0), world.fires("db2", "critical", 5)]).await;
    assert_eq!((joined.outcome, joined.incident), (Outcome::Joined, opened.incident));
    assert_eq!(world.ticket(opened.incident).await.priority, Priority::Critical);
    let comments = world.comments(opened.incident).await;
    assert_eq!(comments.len(), 1);
    assert!(
        comments[0].contains("new alert: db2 is down")
            && comments[0].contains("priority raised from medium to critical")
    );

    let noted = world.one("g", vec![world.ends("db1", 0, 10), world.fires("db2", "critical", 5)]).await;
    assert_eq!(noted.outcome, Outcome::Noted);
    assert!(world.ticket(opened.incident).await.status.is_open());

    let resolved = world.one("g", vec![world.ends("db1", 0, 10), world.ends("db2", 5, 12)]).await;
    assert_eq!(resolved.outcome, Outcome::Resolved);
    let ticket = world.ticket(opened.incident).await;
    assert_eq!(ticket.status, Status::Resolved);
    assert!(ticket.resolution.unwrap().contains("prometheus"));

    let again = world.one("g", vec![world.ends("db1", 0, 10), world.ends("db2", 5, 12)]).await;
    assert_eq!(again.outcome, Outcome::Ignored(Why::AlreadyResolved));
    let late = world.one("g", vec![world.fires("db1", "warning", 0)]).await;
    assert_eq!(late.outcome, Outcome::Ignored(Why::OlderThanResolve));
    assert_eq!(world.incidents().await, 1);

    let next = world.one("g", vec![world.fires("db1", "warning", 60)]).await;
    assert_eq!(next.outcome, Outcome::Opened);
    assert_ne!(next.incident, opened.incident);
}

#[tokio::test]
async fn the_end_of_something_unknown_opens_nothing_and_is_remembered() {
    let world = World::new().await;
    let done = world.one("g", vec![world.ends("db1", 0, 10)]).await;
    assert_eq!((done.outcome, done.incident), (Outcome::Ignored(Why::UnknownResolve), None));
    let late = world.one("g", vec![world.fires("db1", "critical", 0)]).await;
    assert_eq!(late.outcome, Outcome::Ignored(Why::OlderThanResolve));
    assert_eq!(world.incidents().await, 0);
}

#[tokio::test]
async fn twenty_at_once_make_one_incident() {
    let world = World::new().await;
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (db, source) = (world.test.db.clone(), world.source.clone());
            let signals = vec![world.fires("db1", "critical", 0), world.fires("db2", "warning", 0)];
            tokio::spawn(async move { send(&db, &source, "g", signals).await.unwrap()[0] })
        })
        .collect();
    let mut opened = 0;
    for task in tasks {
        opened += usize::from(task.await.unwrap().outcome == Outcome::Opened);
    }
    assert_eq!((opened, world.incidents().await), (1, 1));
    let mut owner = world.test.owner().await;
    let rows: Vec<(String, i64)> =
        sqlx::query_as("select fingerprint, received_count from alerts order by 1")
            .fetch_all(&mut owner)
            .await
            .unwrap();
    assert_eq!(rows, [("db1".to_owned(), 20), ("db2".to_owned(), 20)]);
}

#[tokio::test]
async fn an_alert_that_the_sender_regroups_stays_one_incident() {
    let world = World::new().await;
    let opened = world.one("old", vec![world.fires("db1", "critical", 0)]).await;
    let moved = world.one("new", vec![world.fires("db1", "critical", 0)]).await;
    assert_eq!((moved.outcome, moved.incident), (Outcome::Repeated, opened.incident));
    let resolved = world.one("new", vec![world.ends("db1", 0, 5)]).await;
    assert_eq!((resolved.outcome, resolved.incident), (Outcome::Resolved, opened.incident));
    assert_eq!(world.incidents().await, 1);
}

#[tokio::test]
async fn settings_of_the_source_hold() {
    let mut world = World::new().await;
    world.source.auto_resolve = false;
    let opened = world.one("g", vec![world.fires("db1", "critical", 0)]).await;
    let noted = world.one("g", vec![world.ends("db1", 0, 5)]).await;
    assert_eq!(noted.outcome, Outcome::Noted);
    assert!(world.ticket(opened.incident).await.status.is_open());

    world.source.grouping = Grouping::Alert;
    let done = world.send("h", vec![world.fires("web1", "info", 0), world.fires("web2", "info", 0)]).await;
    assert!(done.iter().all(|one| one.outcome == Outcome::Opened));
    assert_eq!(world.incidents().await, 3);
    assert_eq!(world.ticket(done[0].incident).await.priority, Priority::Low);

    world.source.auto_resolve = true;
    world.source.reopen_within_seconds = 3600;
    world.send("h", vec![world.ends("web1", 0, 5)]).await;
    let again = world.one("h", vec![world.fires("web1", "info", 60)]).await;
    assert_eq!(again.outcome, Outcome::Reopened);
    assert_eq!(world.incidents().await, 3);
}

#[tokio::test]
async fn repetitions_do_not_argue_with_people() {
    let world = World::new().await;
    let opened = world.one("g", vec![world.fires("db1", "critical", 0)]).await;
    let actor = Actor::system(world.organization.id, "test");
    let mut tx = world.test.db.begin(world.organization.id).await.unwrap();
    let low = actions::tickets::TicketPatch {
        impact: Some(domain::ticket::Level::Low),
        ..actions::tickets::TicketPatch::default()
    };
    let id = opened.incident.unwrap();
    actions::tickets::update(&mut tx, &actor, id, low).await.unwrap();
    tx.commit().await.unwrap();
    world.one("g", vec![world.fires("db1", "critical", 0)]).await;
    assert_eq!(world.ticket(opened.incident).await.priority, Priority::Medium);

    let mut tx = world.test.db.begin(world.organization.id).await.unwrap();
    actions::tickets::resolve(&mut tx, &actor, id, "we know").await.unwrap();
    tx.commit().await.unwrap();
    let repeated = world.one("g", vec![world.fires("db1", "critical", 0)]).await;
    assert_eq!(repeated.outcome, Outcome::Repeated);
    assert_eq!(world.incidents().await, 1);
    // Another alert of the group is news.
    let news =
        world.one("g", vec![world.fires("db1", "critical", 0), world.fires("db2", "critical", 9)]).await;
    assert_eq!(news.outcome, Outcome::Opened);
}

/// Prometheus could not reach Alertmanager, which let the alert time out; then it fires on with the start it always had.
#[tokio::test]
async fn an_alert_that_timed_out_at_the_sender_opens_anew() {
    let world = World::new().await;
    let opened = world.one("g", vec![world.fires("db1", "critical", 0)]).await;
    let clock = world.test.db.clock();
    clock.shift(TimeDelta::minutes(5));
    let resolved = world.one("g", vec![world.ends("db1", 0, 240)]).await;
    assert_eq!(resolved.outcome, Outcome::Resolved);
    clock.shift(TimeDelta::minutes(1));
    let overtaken = world.one("g", vec![world.fires("db1", "critical", 0)]).await;
    assert_eq!(overtaken.outcome, Outcome::Ignored(Why::OlderThanResolve));
    clock.shift(TimeDelta::minutes(2));
    let again = world.one("g", vec![world.fires("db1", "critical", 0)]).await;
    assert_eq!(again.outcome, Outcome::Opened);
    assert_ne!(again.incident, opened.incident);
    let repeated = world.one("g", vec![world.fires("db1", "critical", 0)]).await;
    assert_eq!((repeated.outcome, repeated.incident), (Outcome::Repeated, again.incident));
    let stale = world.one("g", vec![world.ends("db1", 0, 240)]).await;
    assert_eq!(stale.outcome, Outcome::Ignored(Why::OlderThanFiring));
    let over = world.one("g", vec![world.ends("db1", 0, 480)]).await;
    assert_eq!((over.outcome, over.incident), (Outcome::Resolved, again.incident));
    assert_eq!(world.incidents().await, 2);
}

#[tokio::test]
async fn nothing_is_resolved_while_more_fires_than_is_named() {
    let world = World::new().await;
    let one = async |notification| notify(&world.test.db, &world.source, notification).await.unwrap()[0];
    let cut = |signals| Notification {
        truncated: 2,
        group_status: Some(AlertStatus::Firing),
        ..notification("g", signals)
    };
    let opened = one(cut(vec![world.fires("db1", "critical", 0)])).await;
    let noted = one(cut(vec![world.ends("db1", 0, 10)])).await;
    assert_eq!((noted.outcome, noted.incident), (Outcome::Noted, opened.incident));
    let comments = world.comments(opened.incident).await;
    assert!(comments[0].contains("does not name all of them"), "{comments:?}");
    let said = Notification {
        group_status: Some(AlertStatus::Firing),
        ..notification("g", vec![world.ends("db1", 0, 10)])
    };
    one(said).await;
    assert!(world.ticket(opened.incident).await.status.is_open());

    // All that is left is named, and over; what was cut off before is unknown here.
    let all = vec![world.ends("db1", 0, 10), world.ends("db2", 0, 20)];
    let whole = Notification { group_status: Some(AlertStatus::Resolved), ..notification("g", all) };
    let resolved = one(whole).await;
    assert_eq!((resolved.outcome, resolved.incident), (Outcome::Resolved, opened.incident));
    assert_eq!(world.ticket(opened.incident).await.status, Status::Resolved);
    assert_eq!(world.incidents().await, 1);
}

#[tokio::test]
async fn a_worse_alert_never_lowers_what_an_escalation_has_raised() {
    let world = World::new().await;
    let opened = world.one("g", vec![world.fires("db1", "warning", 0)]).await;
    let actor = Actor::system(world.organization.id, "test");
    let mut tx = world.test.db.begin(world.organization.id).await.unwrap();
    let id = opened.incident.unwrap();
    let escalation = actions::tickets::Escalation {
        reason: "nobody reacts".into(),
        priority: Some(Priority::Critical),
        team: None,
        assignee: None,
    };
    actions::tickets::escalate(&mut tx, &actor, id, escalation).await.unwrap();
    tx.commit().await.unwrap();
    let ticket = world.ticket(opened.incident).await;
    assert_eq!((ticket.priority, ticket.impact), (Priority::Critical, domain::ticket::Level::Medium));

    // high/medium is `high` by the matrix.
    world.one("g", vec![world.fires("db1", "warning", 0), world.fires("db2", "error", 5)]).await;
    let ticket = world.ticket(opened.incident).await;
    assert_eq!((ticket.priority, ticket.impact), (Priority::Critical, domain::ticket::Level::High));
    let comments = world.comments(opened.incident).await;
    assert!(comments.last().unwrap().contains("the priority stays critical"), "{comments:?}");
}

#[tokio::test]
async fn another_organization_sees_nothing_of_it() {
    let world = World::new().await;
    world.one("g", vec![world.fires("db1", "critical", 0)]).await;
    let other = testkit::organization(&world.test, "other").await;
    let mut tx = world.test.db.begin(other.id).await.unwrap();
    assert!(store::alert_sources::get(&mut tx, world.source.id).await.is_err());
    let all = store::alerts::LIST.all(10);
    assert!(store::alerts::list(&mut tx, &all).await.unwrap().is_empty());
    let mut tx = world.test.db.begin(world.organization.id).await.unwrap();
    assert_eq!(store::alerts::list(&mut tx, &all).await.unwrap().len(), 1);
}
