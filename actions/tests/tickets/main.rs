//! The ticket verbs against a real Postgres, as the application role.

mod life;
mod lists;
mod numbers;
mod plans;
mod reach;
mod search;
mod search_items;
mod visibility;

use actions::tickets::{NewTicket, open};
use domain::Actor;
use domain::ticket::Source;
use sqlx::AssertSqlSafe;
use store::Tx;
use store::tickets::Ticket;
use testkit::{Organization, TestDb, database, organization};

async fn house() -> (TestDb, Organization) {
    let db = database().await;
    let organization = organization(&db, "acme").await;
    (db, organization)
}

/// Opened and committed.
async fn opened(db: &TestDb, actor: &Actor, title: &str) -> Ticket {
    let mut tx = db.db.begin(actor.organization).await.unwrap();
    let ticket = open(&mut tx, actor, NewTicket::incident(title, Source::Api)).await.unwrap();
    tx.commit().await.unwrap();
    ticket
}

/// Tickets that are just there, many at once.
async fn fill(test: &TestDb, organization: &Organization, prefix: &str, count: i32, text: &str) {
    let mut owner = test.owner().await;
    let sql = "insert into tickets (id, organization_id, kind, number, title, description, status, impact, urgency, priority, source, created_at, updated_at)
               select gen_random_uuid(), $1, 'incident', $2 || n, 'Number ' || n, replace($4, '#', n::text), 'new', 'low', 'low',
                      (array['critical', 'high', 'medium', 'low'])[1 + n % 4], 'api', now() - n * '1 minute'::interval, now()
                 from generate_series(1, $3) n";
    let query = sqlx::query(sql).bind(organization.id.0).bind(prefix).bind(count).bind(text);
    query.execute(&mut owner).await.unwrap();
    // Also sorts in what waits to be sorted into the index.
    sqlx::raw_sql("vacuum analyze tickets").execute(&mut owner).await.unwrap();
    sqlx::raw_sql("vacuum analyze search.tickets").execute(&mut owner).await.unwrap();
}

/// How often something was read in this transaction, as PostgreSQL counts it.
async fn counted(tx: &mut Tx, counter: &str, relation: &str) -> i64 {
    let sql = format!("select pg_stat_get_xact_{counter}('{relation}'::regclass)");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut **tx).await.unwrap()
}
