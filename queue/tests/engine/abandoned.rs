//! Whoever cancels what waits for a batch meets those who end and add its jobs at the same moment.

use crate::batches::{Assemble, books_are_right};
use crate::scripted::{Bench, LANE, Scripted, Shared, Step, eventually};
use queue::admin::{self, JobState};
use queue::batch::{self, BatchId, OnDeath};
use queue::{Engine, Job, JobId, JobResult, NewJob, Outcome, Run, Running};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Completes itself in favour of a next step, says so, and commits when the gate is opened.
#[derive(Debug, Serialize, Deserialize)]
struct Handover {}
impl Job for Handover {
    const KIND: &'static str = "handover";
    const LANE: &'static str = LANE;
}
impl Run<Shared> for Handover {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let mut tx = shared.pool.begin().await?;
        // Not at once, so that no worker has it before whoever cancels sees it.
        let next = NewJob::of(&Scripted { steps: vec![Step::Effect] }).after(Duration::from_secs(3600));
        job.complete_then(&mut tx, None, &[next]).await?;
        shared.refused.lock().unwrap().push("handed over".to_owned());
        shared.gate.acquire().await.unwrap().forget();
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}

/// Of no organization, in a tenant's transaction: whatever comes of its step, the transaction stays the tenant's.
#[derive(Debug, Serialize, Deserialize)]
struct Overtaken {
    tenant: String,
}
impl Job for Overtaken {
    const KIND: &'static str = "overtaken";
    const LANE: &'static str = LANE;
}
impl Run<Shared> for Overtaken {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        sqlx::query("update queue.jobs set run = run + 1 where id = $1")
            .bind(job.id.0)
            .execute(&shared.pool)
            .await?;
        let mut tx = shared.pool.begin().await?;
        sqlx::query("select set_config('app.organization_id', $1, true)")
            .bind(&self.tenant)
            .execute(&mut *tx)
            .await?;
        let refused = job.wait_for(&mut tx, &[], OnDeath::Wait).await;
        let tenant: String =
            sqlx::query_scalar("select current_setting('app.organization_id')").fetch_one(&mut *tx).await?;
        shared.refused.lock().unwrap().extend([format!("{}", refused.is_err()), tenant]);
        Ok(Outcome::Done)
    }
}

fn start(bench: &Bench) -> Engine {
    let registry = Bench::registry().job::<Handover>().job::<Overtaken>().job::<Assemble>();
    Engine::start(bench.pool(), registry, bench.shared.clone(), Bench::patient())
}

/// A callback that waits for these jobs, all of one part.
async fn batch_of(bench: &Bench, jobs: &[NewJob]) -> (BatchId, JobId, Vec<JobId>) {
    let mut tx = bench.pool().begin().await.unwrap();
    let batch = batch::open(&mut tx, &NewJob::of(&Assemble {}), OnDeath::Wait).await.unwrap();
    let ids = batch::add(&mut tx, batch, jobs).await.unwrap();
    batch::close(&mut tx, batch).await.unwrap();
    let callback = batch::show(&mut tx, batch, None).await.unwrap().unwrap().next;
    tx.commit().await.unwrap();
    (batch, callback, ids)
}

fn cancel(bench: &Bench, id: JobId) -> JoinHandle<Result<admin::Cancelled, admin::AdminError>> {
    let pool = bench.pool().clone();
    tokio::spawn(async move {
        admin::cancel(&mut pool.acquire().await.unwrap(), id, None, &admin::Note::default()).await
    })
}

fn scripted(steps: &[Step]) -> NewJob {
    NewJob::of(&Scripted { steps: steps.to_vec() })
}

#[tokio::test]
async fn a_child_may_end_while_its_siblings_are_cancelled() {
    let bench = Bench::new().await;
    let later = scripted(&[Step::Done]).after(Duration::from_secs(3600));
    let (_, callback, ids) = batch_of(&bench, &[later, scripted(&[Step::EffectAfterGate])]).await;
    let engine = start(&bench);
    bench.reaches(ids[1], JobState::Running).await;
    // The cancellation is at the counts when the child comes to them.
    let mut counting = bench.pool().begin().await.unwrap();
    sqlx::query("select from queue.batch_parts for update").execute(&mut *counting).await.unwrap();
    let cancelled = cancel(&bench, callback);
    bench.db.until_blocked(1, "put_away").await;
    bench.shared.gate.add_permits(1);
    bench.db.until_blocked(1, "delete from queue.jobs where id = $1 and run = $2").await;
    counting.rollback().await.unwrap();
    assert_eq!(cancelled.await.unwrap().unwrap(), admin::Cancelled::Now);
    assert_eq!(bench.show(ids[0]).await.job.state, JobState::Cancelled);
    bench.reaches(ids[1], JobState::Done).await;
    assert!(bench.shared.refused.lock().unwrap().is_empty(), "it ended at its first attempt");
    books_are_right(&bench).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_workflow_that_is_cancelled_between_two_steps_does_not_go_on() {
    let bench = Bench::new().await;
    let (batch, callback, ids) = batch_of(&bench, &[NewJob::of(&Handover {})]).await;
    let engine = start(&bench);
    eventually("the first step to hand over", || async {
        (!bench.shared.refused.lock().unwrap().is_empty()).then_some(())
    })
    .await;
    let cancelled = cancel(&bench, callback);
    bench.db.until_blocked(1, "put_away").await;
    bench.shared.gate.add_permits(1);
    assert_eq!(cancelled.await.unwrap().unwrap(), admin::Cancelled::Now);
    bench.reaches(ids[0], JobState::Done).await;
    assert_eq!(bench.count("select count(*) from queue.jobs").await, 0, "the next step is cancelled");
    assert_eq!(bench.count("select count(*) from ledger").await, 0);
    let view = batch::show(&mut bench.pool().acquire().await.unwrap(), batch, None).await.unwrap().unwrap();
    assert_eq!((view.total, view.done, view.cancelled, view.pending), (2, 1, 1, 0));
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_step_that_is_refused_leaves_the_tenants_transaction_the_tenants() {
    let bench = Bench::new().await;
    let tenant = uuid::Uuid::now_v7().to_string();
    bench.enqueue(NewJob::of(&Overtaken { tenant: tenant.clone() })).await;
    let engine = start(&bench);
    let seen = eventually("it to be refused", || async {
        Some(bench.shared.refused.lock().unwrap().clone()).filter(|seen| seen.len() == 2)
    })
    .await;
    assert_eq!(seen, ["true".to_owned(), tenant]);
    engine.shutdown(Duration::ZERO).await;
}

/// A batch that is looked at again is there, however long ago it ended.
#[tokio::test]
async fn a_batch_is_kept_while_its_callback_is() {
    let bench = Bench::new().await;
    let (kept, callback, _) = batch_of(&bench, &[]).await;
    let (gone, over, _) = batch_of(&bench, &[]).await;
    cancel(&bench, over).await.unwrap().unwrap();
    sqlx::raw_sql(
        "update queue.batches set ended_at = now() - interval '1000 days'; \
         update queue.jobs set state = 'scheduled', due_at = now() + interval '1 day'",
    )
    .execute(&mut bench.db.owner().await)
    .await
    .unwrap();
    let engine = start(&bench);
    let mut connection = bench.pool().acquire().await.unwrap();
    eventually("the one that nobody looks at to be gone", || async {
        let mut connection = bench.pool().acquire().await.unwrap();
        batch::show(&mut connection, gone, None).await.unwrap().is_none().then_some(())
    })
    .await;
    assert!(batch::show(&mut connection, kept, None).await.unwrap().is_some());
    assert_eq!(bench.show(callback).await.job.state, JobState::Scheduled);
    engine.shutdown(Duration::ZERO).await;
}
