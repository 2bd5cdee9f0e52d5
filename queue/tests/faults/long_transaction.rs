//! Somebody holds a transaction open, so that nothing dead is cleaned away, while jobs come and go.

use crate::field::{Field, On, within};
use crate::worker::effects;
use sqlx::{Connection, PgConnection};
use std::time::Duration;
use testkit::{in_full, report};

/// Blocks of `queue.jobs` and its indexes that were looked at so far.
async fn blocks(field: &Field, gone: i64) -> i64 {
    // The counters come in when the sessions that made them tell.
    within(Duration::from_secs(60), "the statistics", || async {
        let seen = "select n_tup_del from pg_stat_user_tables where relid = 'queue.jobs'::regclass";
        (field.count(seen).await >= gone).then_some(())
    })
    .await;
    field
        .count(
            "select (heap_blks_read + heap_blks_hit + idx_blks_read + idx_blks_hit)::bigint from pg_statio_user_tables \
             where relid = 'queue.jobs'::regclass",
        )
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_do_not_wade_through_the_dead() {
    let Some(field) = Field::open(On::Postgres).await else { return };
    let churn = if in_full() { 90_000 } else { 4_000 };
    const SOME: i64 = 1_000;
    let workers = field.start(1);
    field.until_worked_on(1).await;
    let mut gone = 0;
    let mut round = async |jobs: i64| {
        for _ in 0..jobs / 100 {
            field.enqueue(&effects(100, 0)).await;
            field.drained(Duration::from_secs(60)).await;
        }
        gone += jobs;
        blocks(&field, gone).await
    };
    let begin = round(SOME).await;
    let fresh = round(SOME).await - begin;
    let mut holder = PgConnection::connect(&field.db.owner_url).await.unwrap();
    sqlx::raw_sql("begin isolation level repeatable read; select count(*) from queue.jobs")
        .execute(&mut holder)
        .await
        .unwrap();
    let before = round(churn).await;
    let after = round(SOME).await - before;
    let (fresh, after) = (fresh as f64 / SOME as f64, after as f64 / SOME as f64);
    // 90,000 dead rows are thousands of pages; a claim may not look at a share of them each time.
    assert!(after <= fresh * 4.0 + 40.0, "{after:.1} blocks a job, {fresh:.1} at first");
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    drop(workers);
    report(
        "a transaction that holds xmin: the work of a claim stays bounded",
        &format!("{churn} jobs came and went beneath an open transaction"),
        format!("{after:.1} blocks of queue.jobs looked at for a job, {fresh:.1} before"),
    );
}
