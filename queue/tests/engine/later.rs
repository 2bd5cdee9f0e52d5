//! Jobs that wait for their time.

use crate::scripted::{Bench, Scripted, Step, eventually};
use queue::NewJob;
use queue::admin::JobState;
use std::time::Duration;

fn after(wait: Duration) -> NewJob {
    NewJob::of(&Scripted { steps: vec![Step::Done] }).after(wait)
}

/// However many wait, the leader's looks cost the same.
#[tokio::test]
async fn what_is_not_due_is_not_looked_at() {
    // Counting for the gauges looks at 10,000 at most.
    const WAITING: usize = 40_000;
    let bench = Bench::on_postgres().await;
    let mut tx = bench.pool().begin().await.unwrap();
    let tomorrow = vec![after(Duration::from_secs(86_400)); WAITING];
    queue::enqueue(&mut tx, &tomorrow).await.unwrap();
    tx.commit().await.unwrap();
    let engine = bench.start();
    for _ in 0..3 {
        let soon = bench.enqueue(after(Duration::from_millis(100))).await;
        bench.reaches(soon, JobState::Done).await;
    }
    engine.shutdown(Duration::from_secs(5)).await;
    // A connection that has ended has told what it did.
    bench.pool().close().await;
    let mut owner = bench.db.owner().await;
    let others = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    eventually("all connections to end", || async {
        let left: i64 = sqlx::query_scalar(others).fetch_one(&mut bench.db.owner().await).await.ok()?;
        (left <= 1).then_some(())
    })
    .await;
    let read = "select indexrelname::text, idx_tup_read from pg_stat_user_indexes where schemaname = 'queue' and relname = 'jobs'";
    let read: Vec<(String, i64)> = sqlx::query_as(read).fetch_all(&mut owner).await.unwrap();
    let all: i64 = read.iter().map(|index| index.1).sum();
    assert!(all > 0 && all < WAITING as i64, "looked at: {read:?}");
}
