//! Transactions that stay open, and those who need what they hold.

use crate::batches::Assemble;
use crate::scripted::{Bench, LANE, Scripted, Shared, Step, eventually};
use queue::admin::{self, AdminError, JobState};
use queue::batch::{self, OnDeath};
use queue::{Engine, Job, JobResult, NewJob, Outcome, Run, Running, Unique};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Completes itself, says so, and commits when the gate is opened.
#[derive(Debug, Serialize, Deserialize)]
struct Slow {}
impl Job for Slow {
    const KIND: &'static str = "slow";
    const LANE: &'static str = LANE;
}
impl Run<Shared> for Slow {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let mut tx = shared.pool.begin().await?;
        job.complete_in(&mut tx).await?;
        shared.refused.lock().unwrap().push("completed".to_owned());
        shared.gate.acquire().await.unwrap().forget();
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}

/// Its next step has a key.
#[derive(Debug, Serialize, Deserialize)]
struct First {}
impl Job for First {
    const KIND: &'static str = "first";
    const LANE: &'static str = LANE;
}
impl Run<Shared> for First {
    async fn run(self, _: &Running, _: &Shared) -> JobResult {
        Ok(Outcome::Then(vec![keyed(&[Step::Done])]))
    }
}

fn scripted(steps: &[Step]) -> NewJob {
    NewJob::of(&Scripted { steps: steps.to_vec() })
}

fn keyed(steps: &[Step]) -> NewJob {
    scripted(steps).unique("one", Unique::WhileUnfinished)
}

#[tokio::test]
async fn who_waits_for_an_open_transaction_holds_up_nobody_else() {
    let bench = Bench::new().await;
    let later = scripted(&[Step::Done]).after(Duration::from_secs(3600));
    let mut tx = bench.pool().begin().await.unwrap();
    let batch = batch::open(&mut tx, &NewJob::of(&Assemble {}), OnDeath::Wait).await.unwrap();
    let ids = batch::add(&mut tx, batch, &[NewJob::of(&Slow {}), later]).await.unwrap();
    batch::close(&mut tx, batch).await.unwrap();
    tx.commit().await.unwrap();
    let registry = Bench::registry().job::<Slow>().job::<First>().job::<Assemble>();
    let engine = Engine::start(bench.pool(), registry, bench.shared.clone(), Bench::patient());
    eventually("its count to be held", || async {
        (!bench.shared.refused.lock().unwrap().is_empty()).then_some(())
    })
    .await;
    let mut open = bench.pool().begin().await.unwrap();
    queue::enqueue(&mut open, &[keyed(&[Step::Done])]).await.unwrap();
    let first = bench.enqueue(NewJob::of(&First {})).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    admin::retry(&mut connection, ids[1], None, &admin::Note::default()).await.unwrap();
    eventually("its sibling to have run", || async { (bench.runs_of(ids[1]) == 1).then_some(()) }).await;
    for _ in 0..5 {
        let id = bench.add(&[Step::Done]).await;
        bench.reaches(id, JobState::Done).await;
    }
    assert_eq!(bench.show(ids[1]).await.job.state, JobState::Running, "it waits");
    assert_eq!(bench.show(first).await.job.state, JobState::Running, "it waits, too");
    bench.shared.gate.add_permits(1);
    open.rollback().await.unwrap();
    for id in [ids[0], ids[1], first] {
        bench.reaches(id, JobState::Done).await;
    }
    engine.shutdown(Duration::from_secs(5)).await;
    assert_eq!(bench.count("select count(*) from queue.jobs where kind = 'slow'").await, 0);
}

#[tokio::test]
async fn a_dead_letter_is_not_retried_beside_one_that_is_about_to_have_its_key() {
    let bench = Bench::new().await;
    let engine = bench.start_with(Bench::patient());
    let dead = bench.enqueue(keyed(&[Step::GiveUp])).await;
    bench.reaches(dead, JobState::Dead).await;
    engine.shutdown(Duration::from_secs(5)).await;
    let mut open = bench.pool().begin().await.unwrap();
    let next = queue::enqueue(&mut open, &[keyed(&[Step::Done])]).await.unwrap()[0];
    let pool = bench.pool().clone();
    let retried = tokio::spawn(async move {
        admin::retry(&mut pool.acquire().await.unwrap(), dead, None, &admin::Note::default()).await
    });
    bench.db.until_blocked(1, "update queue.jobs").await;
    open.commit().await.unwrap();
    let refused = retried.await.unwrap().unwrap_err();
    assert!(matches!(refused, AdminError::KeyTaken { by } if by == next), "{refused}");
    assert_eq!(bench.show(dead).await.job.state, JobState::Dead);
}
