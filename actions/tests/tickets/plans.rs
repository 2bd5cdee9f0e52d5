//! What lists read, as PostgreSQL counts it: a page costs the same whatever the number of tickets.

use crate::{counted, fill, house};
use domain::permission::Reach;
use store::listing::{Condition, Is};
use store::ticket_list::{FIELDS, TicketFilter, list, order};

#[tokio::test]
async fn a_page_reads_little_more_than_it_shows() {
    let (db, acme) = house().await;
    fill(&db, &acme, "A", 3000, "case#").await;
    let mut tx = db.db.begin(acme.id).await.unwrap();
    let indexes: Vec<String> = sqlx::query_scalar(
        "select indexrelid::regclass::text from pg_index where indrelid = 'tickets'::regclass",
    )
    .fetch_all(&mut *tx)
    .await
    .unwrap();
    let texts = |name: &str, words: &[&str]| {
        let words = Is::Text(words.iter().map(|word| (*word).to_owned()).collect());
        Condition::new(FIELDS, name, words).unwrap()
    };
    let open = Condition::new(FIELDS, "open", Is::Flag(true)).unwrap();
    let nobodys = Condition::new(FIELDS, "assignee", Is::Null(true)).unwrap();
    for (by, conditions) in [
        ("created_at", vec![]),
        ("created_at", vec![open]),
        ("updated_at", vec![]),
        ("updated_at", vec![texts("status", &["new", "assigned"])]),
        ("updated_at", vec![nobodys]),
        ("priority", vec![]),
        ("status", vec![]),
        ("impact", vec![]),
        ("urgency", vec![]),
        ("number", vec![]),
    ] {
        for descending in [false, true] {
            let filter = TicketFilter {
                kind: Some(domain::ticket::TicketKind::Incident),
                conditions: conditions.clone(),
                q: None,
            };
            let order = order(&[(by, descending)]);
            let mut after = None;
            // Often enough that the statement is no longer planned for its values; each time the next page.
            for page in 0..8 {
                let mut before = counted(&mut tx, "tuples_returned", "tickets").await;
                for index in &indexes {
                    before += counted(&mut tx, "tuples_returned", index).await;
                }
                let rows =
                    list(&mut tx, &Reach::Everything, &filter, &order, after.as_ref(), 20).await.unwrap();
                assert_eq!(rows.len(), 20);
                // A rank is no column, and what is calculated is compared by no index under row level security: there only the first page
                // is cheap for sure.
                if by.ends_with("_at") {
                    after = order.read(rows.last().unwrap().place.clone());
                }
                let mut read = counted(&mut tx, "tuples_returned", "tickets").await;
                for index in &indexes {
                    read += counted(&mut tx, "tuples_returned", index).await;
                }
                assert!(read - before <= 60, "{} rows for page {page} of {by} {descending}", read - before);
            }
        }
    }
}
