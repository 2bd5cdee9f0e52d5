//! Batches: a callback once, when all have ended, however they end.

use crate::scripted::{Bench, LANE, Scripted, Shared, Step, eventually};
use queue::admin::{self, JobState};
use queue::batch::{self, BatchId, OnDeath};
use queue::{
    Engine, EngineConfig, EnqueueError, Job, JobId, JobResult, NewJob, Outcome, Registry, Run, Running,
    Unique,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// A callback: says what it has found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Assemble {}
impl Job for Assemble {
    const KIND: &'static str = "assemble";
    const LANE: &'static str = LANE;
}
impl Run<Shared> for Assemble {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let mut connection = shared.pool.acquire().await?;
        let children = job.children(&mut connection).await?.ok_or_else(|| anyhow::anyhow!("no batch"))?;
        let (batch, said) = (children.batch, children.ended);
        let said: Vec<_> = said
            .iter()
            .filter_map(|ended| ended.result.clone())
            .map(|result| result["said"].clone())
            .collect();
        Ok(Outcome::DoneWith(json!({
            "total": batch.total, "done": batch.done, "cancelled": batch.cancelled, "discarded": batch.discarded,
            "dead": batch.dead, "pending": batch.pending, "said": said,
        })))
    }
}

/// Adds jobs to the batch it is of; the tenant's transaction completes it.
#[derive(Debug, Serialize, Deserialize)]
struct Grow {
    jobs: usize,
    tenant: Uuid,
}
impl Job for Grow {
    const KIND: &'static str = "grow";
    const LANE: &'static str = LANE;
}
impl Run<Shared> for Grow {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let mut tx = shared.pool.begin().await?;
        sqlx::query("select set_config('app.organization_id', $1, true)")
            .bind(self.tenant.to_string())
            .execute(&mut *tx)
            .await?;
        let more: Vec<_> = (0..self.jobs)
            .map(|n| NewJob::of(&Grow { jobs: n / 2, tenant: self.tenant }).organization(self.tenant))
            .collect();
        job.add_to_batch(&mut tx, &more).await?;
        job.complete_in(&mut tx).await?;
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}

fn registry() -> Registry<Shared> {
    Bench::registry().job::<Assemble>().job::<Grow>()
}

fn start(bench: &Bench, config: EngineConfig) -> Engine {
    Engine::start(bench.pool(), registry(), bench.shared.clone(), config)
}

fn scripted(steps: &[Step]) -> NewJob {
    NewJob::of(&Scripted { steps: steps.to_vec() })
}

async fn open(bench: &Bench, on_death: OnDeath) -> (BatchId, JobId) {
    let mut tx = bench.pool().begin().await.unwrap();
    let batch = batch::open(&mut tx, &NewJob::of(&Assemble {}), on_death).await.unwrap();
    let next = batch::show(&mut tx, batch, None).await.unwrap().unwrap().next;
    tx.commit().await.unwrap();
    (batch, next)
}

async fn add(bench: &Bench, batch: BatchId, jobs: &[NewJob]) -> Vec<JobId> {
    let mut tx = bench.pool().begin().await.unwrap();
    let ids = batch::add(&mut tx, batch, jobs).await.unwrap();
    tx.commit().await.unwrap();
    ids
}

async fn close(bench: &Bench, batch: BatchId) {
    let mut connection = bench.pool().acquire().await.unwrap();
    batch::close(&mut connection, batch).await.unwrap();
}

async fn show(bench: &Bench, batch: BatchId) -> batch::BatchView {
    let mut connection = bench.pool().acquire().await.unwrap();
    batch::show(&mut connection, batch, None).await.unwrap().unwrap()
}

/// In every snapshot what is pending is what is there.
pub async fn books_are_right(bench: &Bench) {
    let wrong = "select count(*) from queue.batch_parts p \
                 where p.pending <> (select count(*) from queue.jobs j where j.part = p.id)";
    assert_eq!(bench.count(wrong).await, 0, "parts that count wrongly");
}

#[tokio::test]
async fn the_callback_comes_once_after_every_way_to_end() {
    let bench = Bench::new().await;
    let (batch, callback) = open(&bench, OnDeath::Wait).await;
    assert_eq!(bench.show(callback).await.job.state, JobState::Suspended);
    let steps = [
        vec![Step::Done],
        vec![Step::DoneWith("a".into())],
        vec![Step::Effect],
        vec![Step::CancelItself],
        vec![Step::Fail("once".into()), Step::DoneWith("b".into())],
        vec![Step::Snooze(10), Step::Done],
        vec![Step::RolledBackEffect, Step::Effect],
        vec![Step::Panic, Step::Done],
    ];
    let jobs: Vec<_> = steps.iter().map(|steps| scripted(steps)).collect();
    let ordinary = add(&bench, batch, &jobs).await;
    let later = add(&bench, batch, &[scripted(&[Step::Done]).after(Duration::from_secs(3600))]).await[0];
    let dead = add(&bench, batch, &[scripted(&[Step::GiveUp, Step::Done]), scripted(&[Step::GiveUp])]).await;
    // In 16 parts.
    add(&bench, batch, &vec![scripted(&[Step::Done]); 1100]).await;
    close(&bench, batch).await;
    books_are_right(&bench).await;
    let engine = start(&bench, Bench::patient());
    for id in &ordinary {
        eventually("it to be over", || async {
            (!matches!(
                bench.show(*id).await.job.state,
                JobState::Ready | JobState::Running | JobState::Scheduled
            ))
            .then_some(())
        })
        .await;
    }
    bench.reaches(dead[0], JobState::Dead).await;
    bench.reaches(dead[1], JobState::Dead).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    assert_eq!(
        admin::cancel(&mut connection, later, None, &admin::Note::default()).await.unwrap(),
        admin::Cancelled::Now
    );
    // Dead letters hold it up.
    let view = eventually("all but two to have ended", || async {
        books_are_right(&bench).await;
        Some(show(&bench, batch).await).filter(|view| view.pending == 2)
    })
    .await;
    assert_eq!((view.total, view.done, view.cancelled, view.dead, view.ended_at), (1111, 1107, 2, 2, None));
    assert_eq!(bench.show(callback).await.job.state, JobState::Suspended);
    admin::discard(&mut connection, dead[1], None, &admin::Note::default()).await.unwrap();
    admin::retry(&mut connection, dead[0], None, &admin::Note::default()).await.unwrap();
    let found = bench.reaches(callback, JobState::Done).await;
    assert_eq!(
        found.job.result,
        Some(
            json!({"total": 1111, "done": 1108, "cancelled": 2, "discarded": 1, "dead": 0, "pending": 0, "said": ["a", "b"]})
        )
    );
    assert_eq!(bench.count("select count(*) from queue.history where kind = 'assemble'").await, 1);
    assert!(show(&bench, batch).await.ended_at.is_some());
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_batch_that_does_not_wait_counts_a_dead_letter_as_an_end() {
    let bench = Bench::new().await;
    let (batch, callback) = open(&bench, OnDeath::GoOn).await;
    let ids = add(
        &bench,
        batch,
        &[scripted(&[Step::GiveUp, Step::DoneWith("late".into())]), scripted(&[Step::Hang])],
    )
    .await;
    close(&bench, batch).await;
    // One gives up, the other costs a worker its life.
    let engine = start(&bench, Bench::config());
    bench.reaches(ids[0], JobState::Dead).await;
    bench.reaches(ids[1], JobState::Running).await;
    engine.abort();
    let engine = start(&bench, EngineConfig { crash_limit: 1, ..Bench::config() });
    let found = bench.reaches(callback, JobState::Done).await;
    let counts =
        json!({"total": 2, "done": 0, "cancelled": 0, "discarded": 0, "dead": 2, "pending": 0, "said": []});
    assert_eq!(found.job.result.as_ref(), Some(&counts));
    let mut connection = bench.pool().acquire().await.unwrap();
    let ends = batch::ends(&mut connection, batch).await.unwrap();
    assert!(ends.iter().all(|ended| ended.outcome == JobState::Dead && ended.error.is_some()), "{ends:?}");
    // What becomes of it later is its own affair.
    admin::retry(&mut connection, ids[0], None, &admin::Note::default()).await.unwrap();
    bench.reaches(ids[0], JobState::Done).await;
    assert_eq!(show(&bench, batch).await.dead, 2);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_open_batch_takes_more_and_a_closed_one_only_from_its_own() {
    let bench = Bench::new().await;
    let engine = start(&bench, Bench::config());
    let (batch, callback) = open(&bench, OnDeath::Wait).await;
    let first = add(&bench, batch, &[scripted(&[Step::Done])]).await[0];
    bench.reaches(first, JobState::Done).await;
    assert_eq!(bench.show(callback).await.job.state, JobState::Suspended, "it is open");
    // Who is left out is not of the batch; who changes its mind was not there.
    let keyed = scripted(&[Step::Done]).unique("k", Unique::WhileUnfinished).after(Duration::from_secs(3600));
    let outside = bench.enqueue(keyed.clone()).await;
    assert_eq!(add(&bench, batch, &[keyed]).await, [outside]);
    let mut tx = bench.pool().begin().await.unwrap();
    batch::add(&mut tx, batch, &[scripted(&[Step::Done])]).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(show(&bench, batch).await.total, 1);
    // Of no organization, but its jobs grow in a tenant's transactions.
    add(&bench, batch, &[NewJob::of(&Grow { jobs: 9, tenant: Uuid::now_v7() })]).await;
    close(&bench, batch).await;
    let found = bench.reaches(callback, JobState::Done).await;
    let result = found.job.result.unwrap();
    assert!(result["total"].as_i64().unwrap() > 20, "{result}");
    assert_eq!(result["done"], result["total"]);
    let mut tx = bench.pool().begin().await.unwrap();
    assert!(matches!(
        batch::add(&mut tx, batch, &[scripted(&[Step::Done])]).await,
        Err(EnqueueError::BatchClosed)
    ));
    drop(tx);
    // Nothing in it: it ends when it is closed.
    let (empty, callback) = open(&bench, OnDeath::Wait).await;
    close(&bench, empty).await;
    bench.reaches(callback, JobState::Done).await;
    books_are_right(&bench).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

/// Each job in a part of its own, ended by two processes in whatever order: of those who end the last ones at the same time, one sees it.
#[tokio::test]
async fn the_last_of_many_parts_is_always_seen() {
    let bench = Bench::new().await;
    let mut callbacks = Vec::new();
    for n in 0..40 {
        let (batch, callback) = open(&bench, OnDeath::Wait).await;
        for _ in 0..4 {
            add(&bench, batch, &[scripted(&[if n % 2 == 0 { Step::Effect } else { Step::Done }])]).await;
        }
        close(&bench, batch).await;
        callbacks.push(callback);
    }
    let (a, b) = (start(&bench, Bench::patient()), start(&bench, Bench::patient()));
    for callback in callbacks {
        let found = bench.reaches(callback, JobState::Done).await;
        assert_eq!(found.job.result.unwrap()["done"], 4);
    }
    assert_eq!(bench.count("select count(*) from queue.history where kind = 'assemble'").await, 40);
    a.shutdown(Duration::from_secs(5)).await;
    b.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn whoever_cancels_the_callback_cancels_the_batch() {
    let bench = Bench::new().await;
    let (batch, callback) = open(&bench, OnDeath::Wait).await;
    let waiting = add(&bench, batch, &[scripted(&[Step::Done]).after(Duration::from_secs(3600))]).await[0];
    let running = add(&bench, batch, &[scripted(&[Step::UntilCancelled])]).await[0];
    let engine = start(&bench, Bench::patient());
    bench.reaches(running, JobState::Running).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    admin::cancel(&mut connection, callback, None, &admin::Note::default()).await.unwrap();
    assert_eq!(bench.show(callback).await.job.state, JobState::Cancelled);
    assert_eq!(bench.show(waiting).await.job.state, JobState::Cancelled);
    bench.reaches(running, JobState::Cancelled).await;
    let view = show(&bench, batch).await;
    assert_eq!((view.cancelled, view.pending, view.open), (2, 0, false));
    engine.shutdown(Duration::from_secs(5)).await;
}

/// It should not happen. If it does, nobody waits for ever for a job that is not there.
#[tokio::test]
async fn a_job_that_vanished_is_waited_for_no_longer() {
    let bench = Bench::new().await;
    let (batch, callback) = open(&bench, OnDeath::Wait).await;
    let gone = add(&bench, batch, &[scripted(&[Step::Done]).after(Duration::from_secs(3600))]).await[0];
    add(&bench, batch, &[scripted(&[Step::Done])]).await;
    close(&bench, batch).await;
    sqlx::query("delete from queue.jobs where id = $1")
        .bind(gone.0)
        .execute(&mut bench.db.owner().await)
        .await
        .unwrap();
    let engine = start(&bench, Bench::patient());
    let found = bench.reaches(callback, JobState::Done).await;
    let result = found.job.result.unwrap();
    assert_eq!((&result["done"], &result["discarded"]), (&json!(1), &json!(1)));
    engine.shutdown(Duration::from_secs(5)).await;
}
