use crate::{house, opened};
use actions::Error;
use actions::tickets::{NewTicket, TicketPatch, expect_version, open, update};
use domain::ticket::Source;
use std::collections::BTreeSet;
use testkit::organization;

#[tokio::test]
async fn tickets_opened_at_once_get_numbers_without_gaps() {
    let (db, acme) = house().await;
    let opens = (0..24).map(|n| {
        let (db, actor) = (&db, &acme.agent);
        async move { opened(db, actor, &format!("ticket {n}")).await.number }
    });
    let numbers: BTreeSet<String> = futures::future::join_all(opens).await.into_iter().collect();
    let expected: BTreeSet<String> = (1..=24).map(|n| format!("INC{n:07}")).collect();
    assert_eq!(numbers, expected);
}

#[tokio::test]
async fn a_rollback_gives_the_number_back_and_organizations_count_apart() {
    let (db, acme) = house().await;
    let other = organization(&db, "other").await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    open(&mut tx, &acme.agent, NewTicket::incident("never", Source::Api)).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(opened(&db, &acme.agent, "first").await.number, "INC0000001");
    assert_eq!(opened(&db, &other.agent, "first there").await.number, "INC0000001");
}

#[tokio::test]
async fn numbers_grow_beyond_seven_digits() {
    let (db, acme) = house().await;
    let mut owner = db.owner().await;
    sqlx::query("insert into ticket_counters values ($1, 'incident', 9999999)")
        .bind(acme.id.0)
        .execute(&mut owner)
        .await
        .unwrap();
    assert_eq!(opened(&db, &acme.agent, "many").await.number, "INC10000000");
}

#[tokio::test]
async fn a_stale_update_is_refused() {
    let (db, acme) = house().await;
    let ticket = opened(&db, &acme.agent, "printer").await;
    let title = |title: &str| TicketPatch { title: Some(title.into()), ..TicketPatch::default() };

    let mut tx = db.db.begin(acme.id).await.unwrap();
    let changed = update(&mut tx, &acme.agent, ticket.id, title("printer on fire")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(changed.version, ticket.version + 1);

    let mut tx = db.db.begin(acme.id).await.unwrap();
    assert!(matches!(expect_version(&mut tx, ticket.id, ticket.version).await, Err(Error::Stale)));
    expect_version(&mut tx, ticket.id, changed.version).await.unwrap();
    let written = store::tickets::update(&mut tx, &ticket, &ticket).await;
    assert!(matches!(written, Err(store::Error::Stale)));
}

#[tokio::test]
async fn an_update_without_a_difference_is_no_change() {
    let (db, acme) = house().await;
    let ticket = opened(&db, &acme.agent, "printer").await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let patch =
        TicketPatch { title: Some("printer".into()), impact: Some(ticket.impact), ..TicketPatch::default() };
    let same = update(&mut tx, &acme.agent, ticket.id, patch).await.unwrap();
    assert_eq!(same.version, ticket.version);
    assert_eq!(
        store::ticket_history::list(&mut tx, ticket.id, true, &store::ticket_history::LIST.all(10))
            .await
            .unwrap()
            .len(),
        1
    );
}
