//! Workflows: a next step, and a job that goes on when its children have ended.

use crate::batches::{Assemble, books_are_right};
use crate::scripted::{Bench, LANE, Scripted, Shared, Step, eventually};
use queue::admin::{self, JobState};
use queue::batch::{self, OnDeath};
use queue::{Backoff, Engine, EngineConfig, Job, JobId, JobResult, NewJob, Outcome, Registry, Run, Running};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// Fans out in rounds, and is done with what its children said in the last.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fan {
    children: Vec<NewChild>,
    rounds: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum NewChild {
    Scripted(Vec<Step>),
    Fan(Fan),
    Chain(u32),
}

impl Job for Fan {
    const KIND: &'static str = "fan";
    const LANE: &'static str = LANE;
    const MAX_ATTEMPTS: i16 = 2;
    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(40) };
}

impl Run<Shared> for Fan {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let mut tx = shared.pool.begin().await?;
        let mut step = 0;
        let mut said = Vec::new();
        if let Some(children) = job.children(&mut tx).await? {
            step = sqlx::query_scalar::<_, i64>("select count(*) from ledger where job = $1")
                .bind(job.id.0)
                .fetch_one(&mut *tx)
                .await?;
            said = children.ended.iter().filter_map(|ended| ended.result.clone()).collect();
        }
        // Each step leaves its mark in the transaction that ends it.
        sqlx::query("insert into ledger (job, run) values ($1, $2)")
            .bind(job.id.0)
            .bind(step)
            .execute(&mut *tx)
            .await?;
        if step < i64::from(self.rounds) {
            let children: Vec<_> = self
                .children
                .iter()
                .map(|child| match child {
                    NewChild::Scripted(steps) => NewJob::of(&Scripted { steps: steps.clone() }),
                    NewChild::Fan(fan) => NewJob::of(fan),
                    NewChild::Chain(links) => NewJob::of(&Chain { links: *links, inside: false }),
                })
                .map(|child| if self.rounds == 2 { child.max_attempts(50) } else { child })
                .collect();
            job.wait_for(&mut tx, &children, OnDeath::Wait).await?;
        } else {
            job.complete_with(&mut tx, &json!({ "said": said.len() })).await?;
        }
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}

/// Hands over to the next link, in its own transaction or in the engine's.
#[derive(Debug, Serialize, Deserialize)]
struct Chain {
    links: u32,
    inside: bool,
}
impl Job for Chain {
    const KIND: &'static str = "chain";
    const LANE: &'static str = LANE;
    const MAX_ATTEMPTS: i16 = 50;
    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(40) };
}
impl Run<Shared> for Chain {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        if self.links == 1 {
            return Ok(Outcome::DoneWith(json!("the end")));
        }
        let next = [NewJob::of(&Chain { links: self.links - 1, inside: !self.inside })];
        if !self.inside {
            return Ok(Outcome::Then(next.to_vec()));
        }
        let mut tx = shared.pool.begin().await?;
        job.complete_then(&mut tx, None, &next).await?;
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}

fn registry() -> Registry<Shared> {
    Bench::registry().job::<Fan>().job::<Chain>().job::<Assemble>()
}

fn start(bench: &Bench, config: EngineConfig) -> Engine {
    Engine::start(bench.pool(), registry(), bench.shared.clone(), config)
}

fn fan(children: Vec<NewChild>, rounds: u32) -> NewJob {
    NewJob::of(&Fan { children, rounds })
}

fn says(text: &str) -> NewChild {
    NewChild::Scripted(vec![Step::DoneWith(text.into())])
}

#[tokio::test]
async fn a_job_goes_on_when_its_children_have_ended() {
    let bench = Bench::new().await;
    let engine = start(&bench, Bench::patient());
    // Three rounds, though it may be tried twice only: each step has its own attempts.
    let parent =
        bench.enqueue(fan(vec![says("a"), says("b"), NewChild::Scripted(vec![Step::Done])], 3)).await;
    let job = bench.reaches(parent, JobState::Done).await;
    assert_eq!(job.job.result, Some(json!({"said": 2})));
    assert_eq!(bench.count("select count(*) from queue.history where kind = 'scripted'").await, 9);
    // Without children it goes on at once.
    let alone = bench.enqueue(fan(vec![], 1)).await;
    assert_eq!(bench.reaches(alone, JobState::Done).await.job.result, Some(json!({"said": 0})));
    books_are_right(&bench).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_dead_child_holds_its_parent_until_it_is_mended() {
    let bench = Bench::new().await;
    let engine = start(&bench, Bench::patient());
    let parent = bench
        .enqueue(fan(vec![NewChild::Scripted(vec![Step::GiveUp, Step::DoneWith("mended".into())])], 1))
        .await;
    let child = eventually("a dead letter", || async {
        let mut connection = bench.pool().acquire().await.unwrap();
        let filter = admin::Filter { state: Some(JobState::Dead), ..admin::Filter::default() };
        admin::list(&mut connection, &filter, None, None, 1).await.unwrap().items.pop()
    })
    .await;
    assert_eq!(bench.show(parent).await.job.state, JobState::Suspended);
    let mut connection = bench.pool().acquire().await.unwrap();
    admin::retry(&mut connection, child.id, None, &admin::Note::default()).await.unwrap();
    assert_eq!(bench.reaches(parent, JobState::Done).await.job.result, Some(json!({"said": 1})));
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_comes_next_exists_if_and_only_if_the_step_is_done() {
    let bench = Bench::new().await;
    let engine = start(&bench, Bench::patient());
    let organization = Uuid::now_v7();
    let first =
        bench.enqueue(NewJob::of(&Chain { links: 6, inside: false }).organization(organization)).await;
    let detail = bench.reaches(first, JobState::Done).await;
    eventually("six links", || async {
        (bench.count("select count(*) from queue.history where kind = 'chain'").await == 6).then_some(())
    })
    .await;
    // In the same organization and the same trace.
    let mut connection = bench.pool().acquire().await.unwrap();
    let page =
        admin::list(&mut connection, &admin::Filter::default(), Some(organization), None, 50).await.unwrap();
    assert_eq!(page.items.len(), 6);
    let trace = |job: &admin::JobView| job.trace_parent.as_deref().map(|trace| trace[3..35].to_owned());
    assert!(
        page.items[..5].iter().all(|job| trace(job).is_some() && trace(job) == trace(&page.items[0])),
        "{page:?}"
    );
    assert!(detail.job.trace_parent.is_none(), "it came from nowhere");
    // Of a batch: it does not end before the last link, whose result it has.
    let parent = bench.enqueue(fan(vec![NewChild::Chain(5), NewChild::Chain(4)], 1)).await;
    assert_eq!(bench.reaches(parent, JobState::Done).await.job.result, Some(json!({"said": 2})));
    books_are_right(&bench).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn whoever_cancels_a_parent_cancels_its_children() {
    let bench = Bench::new().await;
    let engine = start(&bench, Bench::patient());
    let inner = Fan { children: vec![NewChild::Scripted(vec![Step::Snooze(3_600_000)])], rounds: 1 };
    let children = vec![NewChild::Scripted(vec![Step::UntilCancelled]), NewChild::Fan(inner)];
    let outer = bench.enqueue(fan(children, 1)).await;
    eventually("all to be in place", || async {
        let placed = "select count(*) from (select from queue.jobs having count(*) filter (where state = 'scheduled') = 1 \
                        and count(*) filter (where state = 'suspended') = 2 and count(*) filter (where worker is not null) = 1) t";
        (bench.count(placed).await == 1).then_some(())
    })
    .await;
    let mut connection = bench.pool().acquire().await.unwrap();
    assert_eq!(
        admin::cancel(&mut connection, outer, None, &admin::Note::default()).await.unwrap(),
        admin::Cancelled::Now
    );
    eventually("all to be cancelled", || async {
        (bench.count("select count(*) from queue.history where outcome = 'cancelled'").await == 4)
            .then_some(())
    })
    .await;
    assert_eq!(bench.count("select count(*) from queue.jobs").await, 0);
    books_are_right(&bench).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn processes_die_and_every_step_happens_once() {
    let bench = Bench::new().await;
    let effect = || NewChild::Scripted(vec![Step::Effect]);
    let jobs: Vec<_> = (0..12)
        .map(|_| {
            let inner = Fan { children: vec![effect(), effect()], rounds: 2 };
            fan(vec![effect(), NewChild::Fan(inner), NewChild::Chain(4)], 2).max_attempts(50)
        })
        .collect();
    let mut tx = bench.pool().begin().await.unwrap();
    let parents: Vec<JobId> = queue::enqueue(&mut tx, &jobs).await.unwrap();
    tx.commit().await.unwrap();
    // A process is killed whenever so many more steps have been made.
    let config = || EngineConfig { crash_limit: 100, ..Bench::config() };
    let steps = || bench.count("select count(*) from ledger");
    for kill in 1..=4 {
        let engine = start(&bench, config());
        eventually("some steps", || async { (steps().await >= kill * 20).then_some(()) }).await;
        engine.abort();
        books_are_right(&bench).await;
    }
    let engine = start(&bench, config());
    for parent in &parents {
        bench.reaches(*parent, JobState::Done).await;
    }
    // Of each: three steps, and in both rounds one effect, and the inner one's three steps with two effects in both of its rounds.
    assert_eq!(steps().await, 12 * (3 + 2 * (1 + 3 + 4)));
    let twice = "select count(*) from (select job, run from ledger group by job, run having count(*) > 1) t";
    assert_eq!(bench.count(twice).await, 0);
    assert_eq!(bench.count("select count(*) from queue.history where kind = 'chain'").await, 12 * 2 * 4);
    books_are_right(&bench).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

/// A job that is cancelled while it fans out leaves no children behind.
#[tokio::test]
async fn who_is_to_be_cancelled_is_not_suspended() {
    let bench = Bench::new().await;
    // Tried as often as it takes until its process is told.
    let parent = bench.enqueue(fan(vec![says("a")], 1).max_attempts(1000)).await;
    sqlx::query("update queue.jobs set cancel_requested = true where id = $1")
        .bind(parent.0)
        .execute(&mut bench.db.owner().await)
        .await
        .unwrap();
    let config = EngineConfig { may_lead: false, ..Bench::patient() };
    let (engine, leader) = (start(&bench, config), start(&bench, Bench::patient()));
    bench.reaches(parent, JobState::Cancelled).await;
    assert_eq!(bench.count("select count(*) from queue.batches").await, 0);
    engine.shutdown(Duration::from_secs(5)).await;
    leader.shutdown(Duration::from_secs(5)).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    assert!(batch::show(&mut connection, queue::BatchId(Uuid::now_v7()), None).await.unwrap().is_none());
}
