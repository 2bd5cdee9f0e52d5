//! Jobs whose arguments say how they end, and what the tests need around them.

use queue::{
    Backoff, BrokerConfig, Engine, EngineConfig, Job, JobError, JobId, JobResult, LaneConfig, NewJob,
    Outcome, Registry, Retention, Run, Running, Transport, admin,
};
use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgPool};
use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::{TestBroker, TestDb};
use uuid::Uuid;

pub const LANE: &str = "test";
pub const OTHER_LANE: &str = "other";

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Step {
    Done,
    DoneWith(String),
    Fail(String),
    RetryIn(u64),
    Panic,
    GiveUp,
    Snooze(u64),
    CancelItself,
    /// Works so many milliseconds, then is done.
    Sleep(u64),
    /// Never ends, and does not listen.
    Hang,
    /// Ends when it is told to.
    UntilCancelled,
    /// Writes a line into `ledger` and completes in the same transaction.
    Effect,
    /// As `Effect`, but says done and rolls back.
    RolledBackEffect,
    /// Starts, waits until the test opens the gate, then is done.
    Gate,
    /// Starts, waits until the test opens the gate, then as `Effect`.
    EffectAfterGate,
}

/// The n-th run takes the n-th step, later runs the last one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Scripted {
    pub steps: Vec<Step>,
}
impl Job for Scripted {
    const KIND: &'static str = "scripted";
    const LANE: &'static str = LANE;
    const MAX_ATTEMPTS: i16 = 4;
    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(40) };
    const TIMEOUT: Duration = Duration::from_secs(30);
}

/// As `Scripted`, with little time and no history of success.
#[derive(Debug, Serialize, Deserialize)]
pub struct Hasty {
    pub steps: Vec<Step>,
}
impl Job for Hasty {
    const KIND: &'static str = "hasty";
    const LANE: &'static str = LANE;
    const MAX_ATTEMPTS: i16 = 2;
    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(40) };
    const TIMEOUT: Duration = Duration::from_millis(200);
    const RETENTION: Retention = Retention::None;
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Unknown {}
impl Job for Unknown {
    const KIND: &'static str = "of_a_newer_version";
    const LANE: &'static str = LANE;
}

#[derive(Clone)]
pub struct Shared {
    pub pool: PgPool,
    pub runs: Arc<Mutex<HashMap<Uuid, Vec<i64>>>>,
    pub gate: Arc<tokio::sync::Semaphore>,
    pub refused: Arc<Mutex<Vec<String>>>,
}

impl Run<Shared> for Scripted {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        play(&self.steps, job, shared).await
    }
}
impl Run<Shared> for Hasty {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        play(&self.steps, job, shared).await
    }
}

async fn play(steps: &[Step], job: &Running, shared: &Shared) -> JobResult {
    let n = {
        let mut runs = shared.runs.lock().unwrap();
        let runs = runs.entry(job.id.0).or_default();
        runs.push(job.run);
        runs.len() - 1
    };
    match &steps[n.min(steps.len() - 1)] {
        Step::Done => Ok(Outcome::Done),
        Step::DoneWith(text) => Ok(Outcome::DoneWith(serde_json::json!({ "said": text }))),
        Step::Fail(why) => Err(anyhow::anyhow!("{why}").into()),
        Step::RetryIn(ms) => {
            Err(JobError::RetryIn(Duration::from_millis(*ms), anyhow::anyhow!("come back later")))
        }
        Step::Panic => panic!("scripted panic"),
        Step::GiveUp => Err(JobError::GiveUp(anyhow::anyhow!("hopeless"))),
        Step::Snooze(ms) => Ok(Outcome::Snooze(Duration::from_millis(*ms))),
        Step::CancelItself => Ok(Outcome::Cancelled("not needed any more".to_owned())),
        Step::Sleep(ms) => {
            tokio::time::sleep(Duration::from_millis(*ms)).await;
            Ok(Outcome::Done)
        }
        Step::Hang => std::future::pending().await,
        Step::UntilCancelled => {
            job.cancelled().await;
            Err(anyhow::anyhow!("stopped on request").into())
        }
        Step::Effect => effect(job, shared).await,
        Step::Gate => {
            shared.gate.acquire().await.unwrap().forget();
            Ok(Outcome::Done)
        }
        Step::EffectAfterGate => {
            shared.gate.acquire().await.unwrap().forget();
            let result = effect(job, shared).await;
            if let Err(JobError::Retry(error)) = &result {
                shared.refused.lock().unwrap().push(error.to_string());
            }
            result
        }
        Step::RolledBackEffect => {
            let mut tx = shared.pool.begin().await?;
            job.complete_in(&mut tx).await?;
            tx.rollback().await?;
            Ok(Outcome::Done)
        }
    }
}

async fn effect(job: &Running, shared: &Shared) -> JobResult {
    let mut tx = shared.pool.begin().await?;
    sqlx::query("insert into ledger (job, run) values ($1, $2)")
        .bind(job.id.0)
        .bind(job.run)
        .execute(&mut *tx)
        .await?;
    job.complete_in(&mut tx).await?;
    tx.commit().await?;
    Ok(Outcome::Done)
}

pub struct Bench {
    pub db: TestDb,
    pub shared: Shared,
}

thread_local! {
    /// Where the lanes of this thread's test are. A test of tokio has a thread of its own.
    static BROKER: RefCell<Option<BrokerConfig>> = const { RefCell::new(None) };
}

impl Bench {
    /// With its lanes on Postgres; on RabbitMQ when all tests are to run there (`RELAYDESK_TEST_TRANSPORT=rabbitmq`).
    pub async fn new() -> Self {
        if std::env::var_os("RELAYDESK_TEST_TRANSPORT").is_some_and(|transport| transport == "rabbitmq") {
            Bench::use_broker(testkit::broker().await.as_ref());
        }
        Bench::with_database().await
    }

    /// With its lanes on Postgres, wherever the others are.
    pub async fn on_postgres() -> Self {
        Bench::use_broker(None);
        Bench::with_database().await
    }

    /// As if no job had ever been.
    pub async fn empty(&self) {
        let tables =
            "queue.jobs, queue.history, queue.attempts, queue.unique_windows, queue.workers, queue.lanes";
        let sql = sqlx::AssertSqlSafe(format!("truncate {tables}"));
        sqlx::query(sql).execute(&mut self.db.owner().await).await.unwrap();
    }

    /// With its lanes on that broker.
    pub async fn on(broker: &TestBroker) -> Self {
        Bench::use_broker(Some(broker));
        Bench::with_database().await
    }

    /// What [`Bench::config`] says from now on.
    pub fn use_broker(broker: Option<&TestBroker>) {
        BROKER.set(broker.map(|broker| BrokerConfig {
            prefix: broker.prefix.clone(),
            republish_after: Duration::from_secs(1),
            ..BrokerConfig::new(&broker.url)
        }));
    }

    pub fn is_on_rabbitmq() -> bool {
        BROKER.with_borrow(Option::is_some)
    }

    async fn with_database() -> Self {
        let db = testkit::database().await;
        let mut owner = db.owner().await;
        sqlx::raw_sql("create table ledger (job uuid, run bigint); grant all on ledger to relaydesk_app")
            .execute(&mut owner)
            .await
            .unwrap();
        owner.close().await.unwrap();
        let shared = Shared {
            pool: db.db.pool().clone(),
            runs: Arc::default(),
            gate: Arc::new(tokio::sync::Semaphore::new(0)),
            refused: Arc::default(),
        };
        Bench { db, shared }
    }

    pub fn pool(&self) -> &PgPool {
        self.db.db.pool()
    }

    pub fn registry() -> Registry<Shared> {
        Registry::new().job::<Scripted>().job::<Hasty>()
    }

    /// Impatient: what takes seconds in life takes tenths here.
    pub fn config() -> EngineConfig {
        let broker = BROKER.with_borrow(Clone::clone);
        let transport = if broker.is_some() { Transport::Rabbitmq } else { Transport::Postgres };
        EngineConfig {
            lanes: vec![LaneConfig::new(LANE, 16).on(transport)],
            broker,
            lease: Duration::from_millis(1500),
            beat: Duration::from_millis(200),
            sweep: Duration::from_millis(200),
            poll: Duration::from_millis(300),
            leader_lease: Duration::from_millis(1000),
            cancel_grace: Duration::from_millis(300),
            ..EngineConfig::default()
        }
    }

    /// For what is not about leases: a process on a busy machine that is silent for a while has not lost its jobs.
    pub fn patient() -> EngineConfig {
        EngineConfig { lease: Duration::from_secs(20), ..Bench::config() }
    }

    pub fn start(&self) -> Engine {
        self.start_with(Bench::config())
    }

    pub fn start_with(&self, config: EngineConfig) -> Engine {
        Engine::start(self.pool(), Bench::registry(), self.shared.clone(), config)
    }

    /// A process of its own, as far as the engine can tell: other shared state, other pool.
    pub fn start_other(&self, config: EngineConfig) -> (Engine, Shared) {
        self.start_other_with(Bench::registry(), config)
    }

    pub fn start_other_with(&self, registry: Registry<Shared>, config: EngineConfig) -> (Engine, Shared) {
        let shared = Shared {
            pool: self.db.another_pool().pool().clone(),
            runs: Arc::default(),
            gate: self.shared.gate.clone(),
            refused: self.shared.refused.clone(),
        };
        (Engine::start(&shared.pool, registry, shared.clone(), config), shared)
    }

    pub async fn add(&self, steps: &[Step]) -> JobId {
        self.enqueue(NewJob::of(&Scripted { steps: steps.to_vec() })).await
    }

    pub async fn enqueue(&self, job: NewJob) -> JobId {
        let mut tx = self.pool().begin().await.unwrap();
        let ids = queue::enqueue(&mut tx, &[job]).await.unwrap();
        tx.commit().await.unwrap();
        ids[0]
    }

    /// A job that is done at once, put into `lane` without a notification: only a poll finds it.
    pub async fn add_silently(&self, lane: &str) -> JobId {
        let id = Uuid::now_v7();
        sqlx::query(
            "insert into queue.jobs (id, due_at, state, priority, max_attempts, lane, kind, args)
             values ($1, now(), 'ready', 0, 4, $2, $3, $4::text::json)",
        )
        .bind(id)
        .bind(lane)
        .bind(Scripted::KIND)
        .bind(serde_json::to_string(&Scripted { steps: vec![Step::Done] }).unwrap())
        .execute(&mut self.db.owner().await)
        .await
        .unwrap();
        JobId(id)
    }

    pub async fn show(&self, id: JobId) -> admin::JobDetail {
        let mut connection = self.pool().acquire().await.unwrap();
        admin::show(&mut connection, id, None).await.unwrap()
    }

    /// The job once it is in this state.
    pub async fn reaches(&self, id: JobId, state: admin::JobState) -> admin::JobDetail {
        let last = Arc::new(Mutex::new(String::new()));
        eventually(&format!("{id} to be {state}"), || async {
            let mut connection = self.pool().acquire().await.ok()?;
            let detail = admin::show(&mut connection, id, None).await.ok()?;
            *last.lock().unwrap() = format!("{detail:?}");
            (detail.job.state == state).then_some(detail)
        })
        .await
    }

    pub fn runs_of(&self, id: JobId) -> usize {
        self.shared.runs.lock().unwrap().get(&id.0).map_or(0, Vec::len)
    }

    pub async fn count(&self, sql: &'static str) -> i64 {
        let mut owner = self.db.owner().await;
        let count = sqlx::query_scalar(sql).fetch_one(&mut owner).await.unwrap();
        owner.close().await.unwrap();
        count
    }
}

/// Asks until there is an answer; fails after 20 seconds.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(15)).await;
    }
}
