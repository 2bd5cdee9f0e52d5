//! Somebody holds a transaction open, so that nothing dead is cleaned away, while jobs come and go.

use crate::field::{Field, On, within};
use crate::worker::{Spec, Worker, effects};
use sqlx::{Connection, PgConnection};
use std::time::Duration;
use testkit::{in_full, report};
use tokio::time::MissedTickBehavior;

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
    // The look around, once a second, and the leader's, each two, walk past all that is dead: some 30 ms for 90,000 rows. They are not
    // what is asked about here.
    sqlx::raw_sql("insert into queue.leaders values ('leader', gen_random_uuid(), clock_timestamp() + interval '1 day')")
        .execute(&mut field.db.owner().await)
        .await
        .unwrap();
    let worker = Worker::start(&Spec { polls: false, ..field.spec() });
    field.until_worked_on(1).await;
    let mut gone = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(200));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // A hundred at once and then the next, or 50 a second. What is waited for is counted in the ledger: a look at the jobs themselves
    // would be counted with the worker's.
    let mut round = async |jobs: i64, at_once: i64| {
        for _ in 0..jobs / at_once {
            if at_once < 100 {
                pace.tick().await;
            }
            field.enqueue(&effects(at_once as usize, 0)).await;
            gone += at_once;
            let count = || async { (field.effects().await == gone).then_some(()) };
            within(Duration::from_secs(60), "all effects", count).await;
        }
        blocks(&field, gone).await
    };
    let begin = round(SOME, 100).await;
    let fresh = round(SOME, 100).await - begin;
    let mut holder = PgConnection::connect(&field.db.owner_url).await.unwrap();
    sqlx::raw_sql("begin isolation level repeatable read; select count(*) from queue.jobs")
        .execute(&mut holder)
        .await
        .unwrap();
    let mut before = round(churn, 100).await;
    let (mut at_once, mut most) = (100, fresh as f64 / SOME as f64 * 4.0 + 40.0);
    if in_full() {
        // A claim steps over what has died in the last ten seconds and over nothing older: as after half an hour at 50 jobs a second,
        // that is 500 rows for two looks at ten jobs.
        (at_once, most) = (10, 300.0);
        before = round(15 * 50, at_once).await;
    }
    let after = round(SOME, at_once).await - before;
    let (fresh, after) = (fresh as f64 / SOME as f64, after as f64 / SOME as f64);
    // 90,000 dead rows are thousands of pages; a claim may not look at a share of them each time.
    assert!(after <= most, "{after:.1} blocks a job, {fresh:.1} at first");
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    drop(worker);
    report(
        "a transaction that holds xmin: the work of a claim stays bounded",
        &format!("{churn} jobs came and went beneath an open transaction"),
        format!("{after:.1} blocks of queue.jobs looked at for a job, {fresh:.1} before"),
    );
}
