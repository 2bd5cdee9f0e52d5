//! Workers are told after the commit; jobs that come at the same time share one.

use crate::scripted::{Bench, LANE, Scripted, Step};
use futures::future::join_all;
use queue::admin::JobState;
use queue::{Bell, Desk, EngineConfig, EnqueueError, NewJob, Unique};
use sqlx::postgres::PgPoolOptions;
use std::collections::HashSet;
use std::time::Duration;

fn done() -> NewJob {
    NewJob::of(&Scripted { steps: vec![Step::Done] })
}

/// Does not look by itself while a test lasts.
fn deaf() -> EngineConfig {
    EngineConfig { poll: Duration::from_secs(3600), ..Bench::patient() }
}

/// A worker that waits: it has looked, and found nothing.
async fn idle(bench: &Bench) {
    let first = bench.enqueue(done()).await;
    bench.reaches(first, JobState::Done).await;
}

#[tokio::test]
async fn a_ring_wakes_workers_of_other_processes() {
    let bench = Bench::new().await;
    let engine = bench.start_with(deaf());
    idle(&bench).await;
    let bell = Bell::new(bench.pool());
    for _ in 0..3 {
        let mut tx = bench.pool().begin().await.unwrap();
        let added = queue::add(&mut tx, &[done(), done()]).await.unwrap();
        tx.commit().await.unwrap();
        bell.ring(&added.rings);
        bench.reaches(added.ids[1], JobState::Done).await;
    }
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn workers_of_the_same_process_hear_it_though_it_cannot_reach_the_database() {
    let bench = Bench::new().await;
    let nowhere = PgPoolOptions::new().connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
    let bell = Bell::new(&nowhere);
    let engine = bench.start_with(EngineConfig { bell: Some(bell.clone()), ..deaf() });
    idle(&bench).await;
    let added = queue::add(&mut bench.pool().acquire().await.unwrap(), &[done()]).await.unwrap();
    bell.ring(&added.rings);
    bench.reaches(added.ids[0], JobState::Done).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_job_that_nobody_was_told_of_is_found_by_the_next_look() {
    let bench = Bench::new().await;
    let engine = bench.start();
    idle(&bench).await;
    let added = queue::add(&mut bench.pool().acquire().await.unwrap(), &[done()]).await.unwrap();
    bench.reaches(added.ids[0], JobState::Done).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn only_lanes_with_jobs_that_may_be_ready_are_rung() {
    let bench = Bench::new().await;
    let mut connection = bench.pool().acquire().await.unwrap();
    let rings =
        queue::add(&mut connection, &[done(), done().after(Duration::from_secs(60))]).await.unwrap().rings;
    assert_eq!(rings.into_iter().collect::<Vec<_>>(), [LANE]);
    let later = queue::add(&mut connection, &[done().after(Duration::from_secs(60))]).await.unwrap();
    assert!(later.rings.is_empty());
    // Announced as the older, since its place in the line is before that of jobs which wait already.
    let important = queue::add(&mut connection, &[done().priority(1)]).await.unwrap();
    assert_eq!(important.rings.into_iter().collect::<Vec<_>>(), [format!("~{LANE}")]);
}

#[tokio::test]
async fn jobs_that_come_together_share_a_commit() {
    let bench = Bench::new().await;
    let desk = Desk::new(bench.pool(), Bell::new(bench.pool()));
    let ids = join_all((0..300).map(|_| desk.enqueue(done()))).await;
    let ids: HashSet<_> = ids.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 300);
    assert_eq!(bench.count("select count(*) from queue.jobs").await, 300);
    let commits = bench.count("select count(distinct xmin::text) from queue.jobs").await;
    assert!(commits < 30, "{commits} commits");
}

#[tokio::test]
async fn a_job_that_cannot_be_written_does_not_harm_its_company() {
    let bench = Bench::new().await;
    let desk = Desk::new(bench.pool(), Bell::new(bench.pool()));
    let nameless = || NewJob { kind: "", ..done() };
    let jobs = [done(), nameless(), done().unique("k", Unique::WhileUnfinished), nameless()];
    let answers = join_all(
        jobs.into_iter().chain([done().unique("k", Unique::WhileUnfinished)]).map(|job| desk.enqueue(job)),
    )
    .await;
    let outcome: Vec<bool> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(outcome, [true, false, true, false, true]);
    assert_eq!(answers[2].as_ref().unwrap(), answers[4].as_ref().unwrap());
    assert!(answers[1].as_ref().unwrap_err().to_string().contains("jobs_names_check"));
    assert_eq!(bench.count("select count(*) from queue.jobs").await, 2);
}

#[tokio::test]
async fn callers_are_told_when_the_database_is_away() {
    let bench = Bench::new().await;
    let nowhere = PgPoolOptions::new().connect_lazy("postgres://nobody@127.0.0.1:1/none").unwrap();
    let desk = Desk::new(&nowhere, Bell::new(bench.pool()));
    assert!(join_all((0..3).map(|_| desk.enqueue(done()))).await.iter().all(Result::is_err));
}

#[tokio::test]
async fn a_desk_goes_on_with_another_connection_when_its_own_is_lost() {
    let bench = Bench::new().await;
    let desk = Desk::new(bench.pool(), Bell::new(bench.pool()));
    desk.enqueue(done()).await.unwrap();
    bench
        .count("select count(pg_terminate_backend(pid)) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()")
        .await;
    let _ = desk.enqueue(done()).await;
    desk.enqueue(done()).await.unwrap();
}

#[tokio::test]
async fn who_holds_a_key_does_not_hold_up_others() {
    let bench = Bench::new().await;
    let desk = Desk::new(bench.pool(), Bell::new(bench.pool()));
    let keyed = || done().unique("k", Unique::WhileUnfinished);
    let mut tx = bench.pool().begin().await.unwrap();
    let first = queue::add(&mut tx, &[keyed()]).await.unwrap().ids[0];
    let (waits, goes) = tokio::join!(desk.enqueue(keyed()), desk.enqueue(done()));
    assert!(matches!(waits, Err(EnqueueError::Contended(key)) if key == "k"));
    goes.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(desk.enqueue(keyed()).await.unwrap(), first);
}

#[tokio::test]
async fn a_job_whose_id_is_there_is_that_job() {
    let bench = Bench::new().await;
    let desk = Desk::new(bench.pool(), Bell::new(bench.pool()));
    let first = desk.enqueue(done()).await.unwrap();
    let answers = join_all([done().id(first), done()].map(|job| desk.enqueue(job))).await;
    assert_eq!(*answers[0].as_ref().unwrap(), first);
    assert_eq!(bench.count("select count(*) from queue.jobs").await, 2);
}
