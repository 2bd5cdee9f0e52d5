//! Lost workers, stale workers, stopped workers.

use crate::scripted::{Bench, Scripted, Step, eventually};
use queue::admin::{self, JobState};
use queue::{EngineConfig, NewJob};
use std::time::{Duration, Instant};
use uuid::Uuid;

#[tokio::test]
async fn a_job_of_a_lost_worker_runs_again_and_the_lost_one_is_refused() {
    let bench = Bench::new().await;
    let (lost, lost_shared) = bench.start_other(Bench::config());
    let id = bench.add(&[Step::EffectAfterGate]).await;
    bench.reaches(id, JobState::Running).await;
    let lost_worker = lost.worker_id();
    // As a killed or cut-off process: no more heartbeats, nothing given back; its handler still waits at the gate.
    let engine = bench.start();
    let started = Instant::now();
    lost.abort();
    eventually("the second run", || async { (bench.runs_of(id) == 1).then_some(()) }).await;
    assert!(started.elapsed() < Duration::from_secs(10));
    let runs = lost_shared.runs.lock().unwrap()[&id.0].clone();
    assert!(bench.shared.runs.lock().unwrap()[&id.0][0] > runs[0], "the fencing token has risen");
    bench.shared.gate.add_permits(2);
    let job = bench.reaches(id, JobState::Done).await;
    assert_eq!((job.attempts[0].outcome.as_str(), job.attempts[0].worker), ("lost", Some(lost_worker)));
    assert_eq!(job.job.attempt, 2);
    assert_eq!(bench.count("select count(*) from ledger").await, 1, "one effect");
    assert_eq!(bench.count("select count(*) from queue.workers").await, 1);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_stale_run_changes_nothing() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let id = bench.add(&[Step::EffectAfterGate, Step::UntilCancelled]).await;
    bench.reaches(id, JobState::Running).await;
    // Somebody decides that this worker is gone, while it lives.
    let mut owner = bench.db.owner().await;
    sqlx::query("update queue.workers set beat_at = beat_at - interval '1 hour'")
        .execute(&mut owner)
        .await
        .unwrap();
    sqlx::query("update queue.jobs set worker = null, run = run + 1").execute(&mut owner).await.unwrap();
    bench.shared.gate.add_permits(1);
    eventually("the refusal", || async { bench.shared.refused.lock().unwrap().first().cloned() }).await;
    assert_eq!(bench.count("select count(*) from ledger").await, 0, "the effect was rolled back with it");
    assert!(bench.shared.refused.lock().unwrap()[0].contains("lease of this run was lost"));
    engine.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_worker_that_was_declared_lost_goes_on_under_a_new_name() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let before = bench.add(&[Step::Done]).await;
    bench.reaches(before, JobState::Done).await;
    let old = engine.worker_id();
    let mut owner = bench.db.owner().await;
    sqlx::query("delete from queue.workers").execute(&mut owner).await.unwrap();
    eventually("a new incarnation", || async { (engine.worker_id() != old).then_some(()) }).await;
    let after = bench.add(&[Step::Done]).await;
    bench.reaches(after, JobState::Done).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_job_that_costs_its_workers_is_a_dead_letter() {
    let bench = Bench::new().await;
    let mut job = queue::NewJob::of(&crate::scripted::Scripted { steps: vec![Step::Hang] });
    job.max_attempts = 50;
    let id = bench.enqueue(job).await;
    let config = || EngineConfig {
        crash_limit: 3,
        lease: Duration::from_millis(300),
        beat: Duration::from_millis(60),
        sweep: Duration::from_millis(50),
        ..Bench::config()
    };
    let overseer = queue::Engine::start(
        bench.pool(),
        Bench::registry(),
        bench.shared.clone(),
        EngineConfig { lanes: Vec::new(), ..config() },
    );
    for crash in 1..=3 {
        let (victim, shared) = bench.start_other(config());
        eventually("the claim", || async { shared.runs.lock().unwrap().get(&id.0).map(|_| ()) }).await;
        victim.abort();
        eventually("the rescue", || async {
            let job = bench.show(id).await;
            (job.attempts.iter().filter(|a| a.outcome == "lost").count() == crash).then_some(())
        })
        .await;
    }
    let job = bench.reaches(id, JobState::Dead).await;
    assert_eq!(job.job.attempt, 3);
    overseer.shutdown(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_running_job_is_cancelled_from_another_process() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let listens = bench.add(&[Step::UntilCancelled]).await;
    let deaf = bench.add(&[Step::Hang]).await;
    for id in [listens, deaf] {
        bench.reaches(id, JobState::Running).await;
        let other = bench.db.another_pool();
        let mut connection = other.pool().acquire().await.unwrap();
        assert_eq!(
            admin::cancel(&mut connection, id, None, &admin::Note::default()).await.unwrap(),
            admin::Cancelled::Requested
        );
    }
    for id in [listens, deaf] {
        let job = bench.reaches(id, JobState::Cancelled).await;
        assert!(job.job.error.unwrap().contains("cancelled while it ran"));
        assert_eq!(bench.runs_of(id), 1);
    }
    engine.shutdown(Duration::from_secs(5)).await;
}

/// Without a notification (a PgBouncer that allows no `listen`) the poll sees it, long before the next heartbeat.
#[tokio::test]
async fn a_cancellation_that_nobody_told_of_is_seen_by_the_poll() {
    let bench = Bench::new().await;
    let config =
        EngineConfig { beat: Duration::from_secs(40), lease: Duration::from_secs(90), ..Bench::config() };
    let (engine, _) = bench.start_other(config);
    let id = bench.add(&[Step::UntilCancelled]).await;
    bench.reaches(id, JobState::Running).await;
    sqlx::query("update queue.jobs set cancel_requested = true")
        .execute(&mut bench.db.owner().await)
        .await
        .unwrap();
    bench.reaches(id, JobState::Cancelled).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn shutdown_gives_back_and_burns_no_attempt() {
    let bench = Bench::new().await;
    let (engine, _) = bench.start_other(Bench::config());
    let quick = bench.add(&[Step::Sleep(300)]).await;
    let endless = bench.add(&[Step::Hang]).await;
    bench.reaches(quick, JobState::Running).await;
    bench.reaches(endless, JobState::Running).await;
    let started = Instant::now();
    engine.shutdown(Duration::from_secs(1)).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(bench.show(quick).await.job.state, JobState::Done, "what ends within the grace time ends");
    let job = bench.show(endless).await;
    assert_eq!((job.job.state, job.job.attempt), (JobState::Ready, 0));
    assert_eq!(job.attempts[0].outcome, "interrupted");
    assert_eq!(bench.count("select count(*) from queue.workers").await, 0, "signed off");
    // The next process takes it at once.
    let next = bench.start();
    bench.reaches(endless, JobState::Running).await;
    next.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn a_shutdown_under_load_loses_nothing() {
    let bench = Bench::new().await;
    let jobs: Vec<_> = (0..600)
        .map(|_| queue::NewJob::of(&crate::scripted::Scripted { steps: vec![Step::Effect] }))
        .collect();
    let mut tx = bench.pool().begin().await.unwrap();
    queue::enqueue(&mut tx, &jobs).await.unwrap();
    tx.commit().await.unwrap();
    let mut restarts = 0;
    while bench.count("select count(*) from queue.jobs").await > 0 {
        let done = bench.count("select count(*) from ledger").await;
        let (engine, _) = bench.start_other(Bench::config());
        eventually("it to be in the middle of the work", || async {
            (bench.count("select count(*) from ledger").await > done).then_some(())
        })
        .await;
        engine.shutdown(Duration::from_secs(5)).await;
        restarts += 1;
        assert!(restarts < 100, "no progress");
    }
    assert_eq!(bench.count("select count(*) from ledger").await, 600);
    assert_eq!(bench.count("select count(distinct job) from ledger").await, 600);
    assert_eq!(bench.count("select count(*) from queue.attempts where outcome = 'lost'").await, 0);
}

#[tokio::test]
async fn a_shutdown_in_the_last_attempt_makes_no_dead_letter() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let mut job = queue::NewJob::of(&crate::scripted::Scripted { steps: vec![Step::Hang, Step::Done] });
    job.max_attempts = 1;
    let id = bench.enqueue(job).await;
    bench.reaches(id, JobState::Running).await;
    engine.shutdown(Duration::ZERO).await;
    assert_eq!(bench.show(id).await.job.attempt, 0, "handed back, not counted");
    let next = bench.start();
    let done = bench.reaches(id, JobState::Done).await;
    assert_eq!(done.attempts[0].outcome, "interrupted");
    next.shutdown(Duration::from_secs(5)).await;
}

/// A claim that is in flight while its worker signs off must not be left with a worker that has no row.
#[tokio::test]
async fn a_claim_without_its_workers_row_is_given_back() {
    let bench = Bench::new().await;
    let id = bench.add(&[Step::Done]).await;
    let mut owner = bench.db.owner().await;
    sqlx::query(
        "update queue.jobs set worker = gen_random_uuid(), run = run + 1, attempt = 1, claimed_at = now()",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    let engine = bench.start();
    bench.reaches(id, JobState::Done).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn of_many_runs_that_end_together_only_those_that_were_lost_are_refused() {
    let bench = Bench::new().await;
    let jobs: Vec<NewJob> = (0..12).map(|_| NewJob::of(&Scripted { steps: vec![Step::Gate] })).collect();
    let ids = queue::enqueue(&mut bench.pool().acquire().await.unwrap(), &jobs).await.unwrap();
    let engine = bench.start_with(Bench::patient());
    for id in &ids {
        bench.reaches(*id, JobState::Running).await;
    }
    // As the rescuer does, but still held by somebody.
    let lost: Vec<Uuid> = ids.iter().step_by(2).map(|id| id.0).collect();
    sqlx::query("update queue.jobs set run = run + 1 where id = any($1)")
        .bind(&lost)
        .execute(bench.pool())
        .await
        .unwrap();
    bench.shared.gate.add_permits(12);
    for id in ids.iter().skip(1).step_by(2) {
        bench.reaches(*id, JobState::Done).await;
    }
    engine.shutdown(Duration::from_secs(5)).await;
    assert_eq!(bench.count("select count(*) from queue.history").await, 6);
    assert_eq!(bench.count("select count(*) from queue.jobs where run = 2").await, 6);
}
