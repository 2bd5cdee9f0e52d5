//! Postgres goes away, the engine stays.

use crate::scripted::{Bench, Scripted, Step, eventually};
use queue::NewJob;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::Duration;

/// Nobody may connect (or may again), as while a server is down.
async fn allow_connections(bench: &Bench, yes: bool) {
    let (front, _) = bench.db.owner_url.rsplit_once(&bench.db.name).unwrap();
    let (_, back) = bench.db.owner_url.rsplit_once(&bench.db.name).unwrap();
    let mut elsewhere = PgConnection::connect(&format!("{front}postgres{back}")).await.unwrap();
    let name = &bench.db.name;
    sqlx::query(AssertSqlSafe(format!("alter database {name} with allow_connections {yes}")))
        .execute(&mut elsewhere)
        .await
        .unwrap();
    if !yes {
        sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = $1")
            .bind(name)
            .execute(&mut elsewhere)
            .await
            .unwrap();
    }
}

async fn kill_all(owner: &mut PgConnection) {
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()")
        .execute(owner)
        .await
        .unwrap();
}

#[tokio::test]
async fn terminated_backends_lose_and_double_nothing() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let mut owner = bench.db.owner().await;
    for _ in 0..6 {
        let jobs: Vec<_> =
            (0..100).map(|_| NewJob::of(&Scripted { steps: vec![Step::Effect] }).max_attempts(30)).collect();
        eventually("an enqueue", || async {
            let mut tx = bench.pool().begin().await.ok()?;
            queue::enqueue(&mut tx, &jobs).await.ok()?;
            tx.commit().await.ok()
        })
        .await;
        kill_all(&mut owner).await;
    }
    eventually("all effects", || async {
        (bench.count("select count(*) from queue.jobs").await == 0).then_some(())
    })
    .await;
    let (effects, jobs) = (
        bench.count("select count(*) from ledger").await,
        bench.count("select count(distinct job) from ledger").await,
    );
    // A commit whose answer was lost may have been repeated by the test itself, therefore "at least".
    assert!(effects >= 600 && effects == jobs, "{effects} effects of {jobs} jobs");
    assert_eq!(bench.count("select count(*) from queue.history where outcome = 'done'").await, effects);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_outage_longer_than_the_lease_is_survived() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let before = bench.add(&[Step::Done]).await;
    bench.reaches(before, queue::admin::JobState::Done).await;
    let running = bench.add(&[Step::UntilCancelled, Step::Done]).await;
    bench.reaches(running, queue::admin::JobState::Running).await;
    allow_connections(&bench, false).await;
    // The handler is told to stop once its lease may be lost.
    eventually("the handler to stop", || async { (engine.running() == 0).then_some(()) }).await;
    allow_connections(&bench, true).await;
    bench.reaches(running, queue::admin::JobState::Done).await;
    let after = bench.add(&[Step::Done]).await;
    bench.reaches(after, queue::admin::JobState::Done).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_shutdown_without_database_ends() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let running = bench.add(&[Step::Hang]).await;
    bench.reaches(running, queue::admin::JobState::Running).await;
    allow_connections(&bench, false).await;
    tokio::time::timeout(Duration::from_secs(20), engine.shutdown(Duration::from_millis(200)))
        .await
        .expect("an end");
    allow_connections(&bench, true).await;
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_given_back() {
    let bench = Bench::new().await;
    if Bench::is_on_rabbitmq() {
        return; // there a message leads to the claim: `rabbitmq::a_claim_whose_answer_was_lost_is_given_back`
    }
    let engine = bench.start();
    let first = bench.add(&[Step::Done]).await;
    bench.reaches(first, queue::admin::JobState::Done).await;
    // As after a claim that was committed while its connection broke: the row says we hold it, we do not know.
    let mut owner = bench.db.owner().await;
    let mut tx = owner.begin().await.unwrap();
    let id = queue::enqueue(&mut tx, &[NewJob::of(&Scripted { steps: vec![Step::Done] })]).await.unwrap()[0];
    sqlx::query("update queue.jobs set worker = $1, run = 1, attempt = 1, claimed_at = now()")
        .bind(engine.worker_id())
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    // And a claim that breaks: it waits for the table, then its connection is cut.
    let mut tx = owner.begin().await.unwrap();
    sqlx::query("lock table queue.jobs in access exclusive mode").execute(&mut *tx).await.unwrap();
    sqlx::query("select pg_notify('relaydesk_jobs', 'test')").execute(&mut *tx).await.unwrap();
    let mut other = bench.db.owner().await;
    sqlx::query("select pg_notify('relaydesk_jobs', 'test')").execute(&mut other).await.unwrap();
    eventually("a claim that waits", || async {
        let cut = bench
            .count("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%for key share%'")
            .await;
        (cut > 0).then_some(())
    })
    .await;
    tx.commit().await.unwrap();
    let job = bench.reaches(id, queue::admin::JobState::Done).await;
    assert_eq!(job.job.attempt, 1, "not counted");
    engine.shutdown(Duration::from_secs(5)).await;
}
