//! A worker process, its kinds of jobs, and how one is started, stopped and killed.

use queue::{
    Backoff, BrokerConfig, Engine, EngineConfig, Job, JobResult, LaneConfig, NewJob, Outcome, Registry, Run,
    Running, Transport,
};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};

pub const LANE: &str = "field";
const SPEC: &str = "QUEUE_FAULTS_WORKER";

/// Works so long, then writes a line and completes in one transaction.
#[derive(Debug, Serialize, Deserialize)]
pub struct Effect {
    pub work_ms: u64,
}

impl Job for Effect {
    const KIND: &'static str = "effect";
    const LANE: &'static str = LANE;
    const MAX_ATTEMPTS: i16 = 100;
    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(20), max: Duration::from_millis(500) };
}

impl Run<PgPool> for Effect {
    async fn run(self, job: &Running, pool: &PgPool) -> JobResult {
        tokio::time::sleep(Duration::from_millis(self.work_ms)).await;
        let mut tx = pool.begin().await?;
        sqlx::query("insert into ledger (job, run) values ($1, $2)")
            .bind(job.id.0)
            .bind(job.run)
            .execute(&mut *tx)
            .await?;
        job.complete_in(&mut tx).await?;
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}

/// Works so long and is done; its end is written by the engine.
#[derive(Debug, Serialize, Deserialize)]
pub struct Plain {
    pub work_ms: u64,
}

impl Job for Plain {
    const KIND: &'static str = "plain";
    const LANE: &'static str = LANE;
    const MAX_ATTEMPTS: i16 = 100;
}

impl Run<PgPool> for Plain {
    async fn run(self, _: &Running, _: &PgPool) -> JobResult {
        tokio::time::sleep(Duration::from_millis(self.work_ms)).await;
        Ok(Outcome::Done)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Harm {
    Panic,
    Abort,
    OutOfMemory,
    /// Never awaits, and never ends.
    EndlessLoop,
    /// Its arguments cannot be read.
    Undecodable,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Poison {
    pub harm: Harm,
}

impl Job for Poison {
    const KIND: &'static str = "poison";
    const LANE: &'static str = LANE;
    const MAX_ATTEMPTS: i16 = 5;
    const TIMEOUT: Duration = Duration::from_millis(500);
    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(20), max: Duration::from_millis(100) };
}

impl Run<PgPool> for Poison {
    async fn run(self, _: &Running, _: &PgPool) -> JobResult {
        match self.harm {
            Harm::Panic => panic!("poison"),
            Harm::Abort => std::process::abort(),
            Harm::OutOfMemory => {
                let mut hoard: Vec<Vec<u8>> = Vec::new();
                loop {
                    hoard.push(vec![1; 16 << 20]);
                }
            }
            Harm::EndlessLoop => loop {
                std::thread::sleep(Duration::from_millis(50));
            },
            Harm::Undecodable => Ok(Outcome::Done),
        }
    }
}

pub fn effects(number: usize, work_ms: u64) -> Vec<NewJob> {
    (0..number).map(|_| NewJob::of(&Effect { work_ms })).collect()
}

/// How a worker process is set up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Spec {
    pub database: String,
    /// URL and prefix.
    pub broker: Option<(String, String)>,
    pub places: usize,
    /// With the settings of production; otherwise what takes seconds takes tenths.
    pub patient: bool,
    /// Also looks for work when nobody tells of any, as in production.
    pub polls: bool,
    pub crash_limit: i16,
}

impl Spec {
    pub fn config(&self) -> EngineConfig {
        let transport = if self.broker.is_some() { Transport::Rabbitmq } else { Transport::Postgres };
        let broker = self.broker.as_ref().map(|(url, prefix)| BrokerConfig {
            prefix: prefix.clone(),
            republish_after: Duration::from_secs(if self.patient { 15 } else { 1 }),
            ..BrokerConfig::new(url)
        });
        let usual = EngineConfig {
            lanes: vec![LaneConfig::new(LANE, self.places).on(transport)],
            broker,
            crash_limit: self.crash_limit,
            poll: if self.polls { EngineConfig::default().poll } else { Duration::from_secs(3600) },
            ..EngineConfig::default()
        };
        if self.patient {
            return usual;
        }
        EngineConfig {
            lease: Duration::from_millis(2000),
            beat: Duration::from_millis(300),
            sweep: Duration::from_millis(300),
            leader_lease: Duration::from_millis(1500),
            ..usual
        }
    }

    /// The lease, the next sweep, and as much again.
    pub fn rescued_within(&self) -> Duration {
        Duration::from_secs(if self.patient { 30 } else { 15 })
    }

    /// In this process.
    pub fn engine(&self) -> Engine {
        let pool = PgPool::connect_lazy(&self.database).expect("a database URL");
        Engine::start(&pool, registry(), pool.clone(), self.config())
    }
}

fn registry() -> Registry<PgPool> {
    Registry::new().job::<Effect>().job::<Plain>().job::<Poison>()
}

/// The process that [`Worker::start`] starts: this test binary, with this test alone. Otherwise it has nothing to do.
#[test]
fn process() {
    let Some(spec) = std::env::var_os(SPEC) else { return };
    testkit::install_crypto();
    let spec: Spec = serde_json::from_slice(spec.as_encoded_bytes()).expect("a spec");
    // An endless loop takes a thread each time, as it would anywhere.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(12)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let engine = spec.engine();
        engine.broken().await;
        std::process::exit(70);
    });
}

/// Killed when it is dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
}

impl Worker {
    pub fn start(spec: &Spec) -> Worker {
        Worker::start_by(&[], spec)
    }

    /// With so much memory at most, in KiB of address space.
    pub fn start_small(spec: &Spec, kib: u32) -> Worker {
        Worker::start_by(&["sh", "-c", &format!("ulimit -v {kib}; exec \"$0\" \"$@\"")], spec)
    }

    fn start_by(front: &[&str], spec: &Spec) -> Worker {
        let program = std::env::current_exe().expect("the path of this test");
        let mut command = match front {
            [] => Command::new(program),
            [shell, rest @ ..] => {
                let mut command = Command::new(shell);
                command.args(rest).arg(program);
                command
            }
        };
        let child = command
            .args(["worker::process", "--exact", "--nocapture"])
            .env(SPEC, serde_json::to_string(spec).expect("JSON"))
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a worker process");
        Worker { child }
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// SIGSTOP: alive, and silent.
    pub async fn freeze(&self) {
        self.signal("-STOP").await;
    }

    pub async fn thaw(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        let told = Command::new("kill").args([signal, &pid]).status().await.expect("kill runs");
        assert!(told.success(), "kill {signal} {pid}");
    }
}
