//! The ticket verbs against a real Postgres, as the application role.

mod life;
mod lists;
mod numbers;
mod visibility;

use actions::tickets::{NewTicket, open};
use domain::Actor;
use domain::ticket::Source;
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
