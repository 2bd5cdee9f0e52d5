//! Jobs that go along in the transaction of another.

use crate::scripted::{Bench, LANE};
use queue::admin::JobState;
use queue::{
    Along, Backoff, Engine, EngineConfig, Job, JobId, JobResult, LaneConfig, NewJob, Outcome, Registry, Run,
    Running,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use std::time::Duration;
use uuid::Uuid;

/// Writes a line for itself and for each job that goes along; a bad one fails the transaction it is in.
#[derive(Debug, Serialize, Deserialize)]
struct Gather {
    bad: bool,
}
impl Job for Gather {
    const KIND: &'static str = "gather";
    const LANE: &'static str = LANE;
    const MAX_ATTEMPTS: i16 = 3;
    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(20) };
}

impl Run<PgPool> for Gather {
    async fn run(self, job: &Running, pool: &PgPool) -> JobResult {
        let mut tx = pool.begin().await?;
        sqlx::query("select set_config('app.organization_id', $1, true)")
            .bind(job.organization.map(|id| id.to_string()))
            .execute(&mut *tx)
            .await?;
        let along: Vec<Along<Gather>> = job.take_along(&mut tx, 100).await?;
        for id in [job.id].into_iter().chain(along.iter().map(|along| along.id)) {
            sqlx::query("insert into ledger (job, run) values ($1, $2)")
                .bind(id.0)
                .bind(job.run)
                .execute(&mut *tx)
                .await?;
        }
        if self.bad || along.iter().any(|along| along.args.bad) {
            return Err(anyhow::anyhow!("a bad one is among them").into());
        }
        job.complete_along(&mut tx, &along).await?;
        job.complete_in(&mut tx).await?;
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}

/// One at a time: the first claimed takes the others along.
fn start(bench: &Bench) -> Engine {
    let config = EngineConfig { lanes: vec![LaneConfig::new(LANE, 1)], ..Bench::config() };
    Engine::start(bench.pool(), Registry::new().job::<Gather>(), bench.pool().clone(), config)
}

fn gather(organization: Uuid, bad: bool) -> NewJob {
    NewJob::of(&Gather { bad }).organization(organization)
}

async fn add(bench: &Bench, jobs: &[NewJob]) -> Vec<JobId> {
    let mut tx = bench.pool().begin().await.unwrap();
    let ids = queue::enqueue(&mut tx, jobs).await.unwrap();
    tx.commit().await.unwrap();
    ids
}

const LINES: &str = "select count(*) from ledger";
const RUNS: &str = "select count(distinct started_at) from queue.history where kind = 'gather'";

#[tokio::test]
async fn what_waits_goes_along_and_ends_with_it() {
    let bench = Bench::new().await;
    let (here, there) = (Uuid::now_v7(), Uuid::now_v7());
    let mut jobs: Vec<NewJob> = (0..20).map(|_| gather(here, false)).collect();
    jobs.push(gather(there, false));
    let ids = add(&bench, &jobs).await;
    let engine = start(&bench);
    for id in &ids {
        let job = bench.reaches(*id, JobState::Done).await;
        assert_eq!((job.job.attempt, job.attempts.len()), (1, 1), "each has had one run");
        assert_eq!(job.attempts[0].worker, Some(engine.worker_id()));
    }
    assert_eq!(bench.count(LINES).await, 21, "the work of each was done once");
    assert_eq!(bench.count(RUNS).await, 3, "two were claimed, and all others taken along at one moment");
    engine.shutdown(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn a_bad_one_holds_nobody_up() {
    let bench = Bench::new().await;
    let here = Uuid::now_v7();
    let jobs: Vec<NewJob> = (0..10).map(|n| gather(here, n == 4)).collect();
    let ids = add(&bench, &jobs).await;
    let engine = start(&bench);
    for (n, id) in ids.iter().enumerate() {
        let state = if n == 4 { JobState::Dead } else { JobState::Done };
        bench.reaches(*id, state).await;
    }
    assert_eq!(
        bench.count(LINES).await,
        9,
        "what the bad one was in was rolled back, and done again without it"
    );
    engine.shutdown(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn what_was_taken_by_a_killed_process_is_as_it_was() {
    let bench = Bench::new().await;
    let here = Uuid::now_v7();
    let ids = add(&bench, &[gather(here, false), gather(here, false)]).await;
    let mut tx = bench.pool().begin().await.unwrap();
    // What a handler does before its process dies.
    sqlx::query("select from queue.jobs where id = $1 for update")
        .bind(ids[1].0)
        .execute(&mut *tx)
        .await
        .unwrap();
    let engine = start(&bench);
    bench.reaches(ids[0], JobState::Done).await;
    assert_eq!(bench.show(ids[1]).await.job.state, JobState::Ready, "somebody holds it");
    tx.rollback().await.unwrap();
    bench.reaches(ids[1], JobState::Done).await;
    engine.shutdown(Duration::from_secs(2)).await;
}
