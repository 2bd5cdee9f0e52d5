//! SLA clocks and escalations against a real Postgres, as the application role. Time is moved, never waited for.

mod clocks;
mod editing;
mod escalations;

use actions::sla::{Checked, check};
use actions::sla_policies::{self, NewPolicy};
use actions::tickets::{NewTicket, open};
use chrono::TimeDelta;
use domain::sla::Metric;
use domain::ticket::{Priority, Source};
use domain::{Actor, SlaPolicyId, TicketId};
use store::Db;
use store::sla_clocks::StoredClock;
use store::sla_policies::Target;
use store::tickets::Ticket;
use testkit::{Organization, TestDb, database, organization};

async fn house() -> (TestDb, Organization) {
    let db = database().await;
    let organization = organization(&db, "acme").await;
    (db, organization)
}

async fn breaches(tx: &mut store::Tx) -> Vec<store::sla_breaches::Breach> {
    let (everything, all) = (domain::permission::Reach::Everything, store::sla_breaches::LIST.all(10));
    let rows = store::sla_breaches::list(tx, &everything, &all).await.unwrap();
    rows.into_iter().map(|row| row.item).collect()
}

/// First response in ten minutes, resolution in an hour; half of that at priority high.
fn promise() -> NewPolicy {
    let target = |priority, first, resolution| Target {
        priority,
        first_response_seconds: Some(first),
        resolution_seconds: Some(resolution),
    };
    NewPolicy {
        name: "standard".into(),
        is_default: true,
        targets: vec![
            target(Priority::Medium, 600, 3600),
            target(Priority::Low, 600, 3600),
            target(Priority::High, 300, 1800),
        ],
        ..NewPolicy::default()
    }
}

async fn policy(db: &TestDb, actor: &Actor, new: NewPolicy) -> SlaPolicyId {
    let mut tx = db.db.begin(actor.organization).await.unwrap();
    let made = sla_policies::create(&mut tx, actor, new).await.unwrap();
    tx.commit().await.unwrap();
    made.id
}

/// An incident of medium impact and low urgency, which is of low priority.
async fn opened(db: &TestDb, actor: &Actor) -> Ticket {
    let mut tx = db.db.begin(actor.organization).await.unwrap();
    let mut new = NewTicket::incident("no network", Source::Api);
    new.urgency = domain::ticket::Level::Low;
    let ticket = open(&mut tx, actor, new).await.unwrap();
    tx.commit().await.unwrap();
    ticket
}

async fn clock(db: &Db, actor: &Actor, ticket: TicketId, metric: Metric) -> StoredClock {
    let mut tx = db.begin(actor.organization).await.unwrap();
    let clocks = store::sla_clocks::of_ticket(&mut tx, ticket).await.unwrap();
    clocks.into_iter().find(|stored| stored.clock.metric == metric).expect("a clock")
}

/// What the job does, in a transaction of its own.
async fn judge(db: &Db, actor: &Actor, stored: &StoredClock) -> Checked {
    let mut tx = db.begin(actor.organization).await.unwrap();
    let checked = check(&mut tx, stored.id, stored.clock.next_check()).await.unwrap();
    tx.commit().await.unwrap();
    checked
}

fn pass(db: &TestDb, minutes: i64) {
    db.db.clock().shift(TimeDelta::minutes(minutes));
}

async fn events(db: &TestDb, kind: &str) -> i64 {
    let query = sqlx::query_scalar("select count(*) from events where kind = $1").bind(kind.to_owned());
    query.fetch_one(&mut db.owner().await).await.unwrap()
}

async fn count(db: &TestDb, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(&mut db.owner().await).await.unwrap()
}
