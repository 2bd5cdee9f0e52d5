//! The job engine alone, on a private PostgreSQL with fsync on and default durability, as the application role.

use crate::cost::{Meter, cpu_seconds};
use crate::memory::megabytes;
use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use embedded::{Broker, BrokerOptions, Cluster, Options, find_broker};
use queue::{
    Bell, BrokerConfig, Desk, Engine, EngineConfig, Job, JobResult, LaneConfig, NewJob, Outcome, Registry,
    Retention, Run, Running, Transport,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use uuid::Uuid;

const LANE: &str = "bench";

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    /// More settings of the server, as name=value
    #[arg(long = "set", global = true, value_parser = setting)]
    settings: Vec<(String, String)>,
    /// What the lane is on; for rabbitmq a private broker is started
    #[arg(long, global = true, default_value = "postgres", value_parser = transport)]
    transport: Transport,
}

#[derive(Subcommand)]
enum What {
    /// No-op jobs per second that one worker process takes from a backlog
    Drain {
        #[arg(long, default_value_t = 300_000)]
        jobs: u64,
        /// Jobs that run at once
        #[arg(long, default_value_t = 2000)]
        concurrency: usize,
        /// Other jobs in the table while it drains
        #[arg(long, value_enum, default_value_t = Others::None)]
        others: Others,
        #[arg(long, default_value_t = 1_000_000)]
        other_jobs: u64,
        /// Finished jobs leave nothing behind, as with most other job runners
        #[arg(long)]
        without_history: bool,
    },
    /// Jobs per second: one a transaction (from 1 and 16 callers), and a thousand a call
    Enqueue {
        #[arg(long, default_value_t = 10)]
        seconds: u64,
    },
    /// From commit to the start of the handler, at a steady rate
    Latency {
        #[arg(long, default_value_t = 100)]
        rate: u64,
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Others {
    None,
    Scheduled,
    Dead,
    Done,
}

pub fn transport(text: &str) -> Result<Transport, String> {
    text.parse().map_err(|()| "expected postgres or rabbitmq".to_owned())
}

fn setting(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or("expected name=value".to_owned())
}

#[derive(Serialize, Deserialize)]
struct Noop<const KEEP_HISTORY: bool = true> {
    n: u64,
}
impl<const KEEP_HISTORY: bool> Job for Noop<KEEP_HISTORY> {
    const RETENTION: Retention = if KEEP_HISTORY { Retention::Normal } else { Retention::None };
    const KIND: &'static str = "noop";
    const LANE: &'static str = LANE;
}

#[derive(Clone, Default)]
struct Seen {
    count: Arc<AtomicU64>,
    expected: u64,
    all: Arc<Notify>,
    started: Option<Arc<Mutex<HashMap<Uuid, Instant>>>>,
}

impl<const KEEP_HISTORY: bool> Run<Seen> for Noop<KEEP_HISTORY> {
    async fn run(self, job: &Running, seen: &Seen) -> JobResult {
        if let Some(started) = &seen.started {
            started.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.insert(job.id.0, Instant::now());
        }
        if seen.count.fetch_add(1, Ordering::Relaxed) + 1 == seen.expected {
            seen.all.notify_one();
        }
        Ok(Outcome::Done)
    }
}

pub async fn run(args: Args) -> Result<Value> {
    let server = Server::start(args.settings, args.transport).await?;
    let figures = match args.what {
        What::Drain { jobs, concurrency, others, other_jobs, without_history } => {
            drain(&server, jobs, concurrency, others, other_jobs, !without_history).await
        }
        What::Enqueue { seconds } => enqueue(&server, Duration::from_secs(seconds)).await,
        What::Latency { rate, seconds } => latency(&server, rate, seconds).await,
    };
    server.stop().await;
    figures
}

struct Server {
    cluster: Cluster,
    broker: Option<Broker>,
    pool: PgPool,
    owner: PgPool,
}

/// Of this measurement's own; gone when it is dropped.
pub async fn private_broker() -> Result<Broker> {
    let dir = std::env::temp_dir().join(format!("relaydesk-bench-broker-{}", std::process::id()));
    let options = BrokerOptions { dir, programs: find_broker()?, settings: Vec::new() };
    Ok(tokio::task::spawn_blocking(move || Broker::start(options)).await??)
}

impl Server {
    async fn start(more: Vec<(String, String)>, transport: Transport) -> Result<Server> {
        let broker = match transport {
            Transport::Postgres => None,
            Transport::Rabbitmq => Some(private_broker().await?),
        };
        let dir = std::env::temp_dir().join(format!("relaydesk-bench-jobs-{}", std::process::id()));
        let mut settings = vec![
            ("shared_buffers".to_owned(), "512MB".to_owned()),
            ("max_wal_size".to_owned(), "4GB".to_owned()),
            ("fsync".to_owned(), "on".to_owned()),
            ("synchronous_commit".to_owned(), "on".to_owned()),
            ("full_page_writes".to_owned(), "on".to_owned()),
        ];
        settings.extend(more);
        let options = Options { fresh: true, settings, packs: embedded::usual_packs(), ..Options::new(dir) };
        let cluster = tokio::task::spawn_blocking(move || Cluster::start(options)).await??;
        let pool = |url: String, size: u32| -> Result<PgPool> {
            let options: PgConnectOptions = url.parse()?;
            Ok(PgPoolOptions::new()
                .max_connections(size)
                .test_before_acquire(false)
                .connect_lazy_with(options))
        };
        let owner = pool(cluster.owner_url("relaydesk"), 2)?;
        store::MIGRATOR.run(&owner).await.context("the migrations")?;
        let app = pool(cluster.app_url("relaydesk"), 20)?;
        Ok(Server { cluster, broker, pool: app, owner })
    }

    fn transport(&self) -> &'static str {
        let on_broker = self.broker.is_some();
        if on_broker { Transport::Rabbitmq.as_str() } else { Transport::Postgres.as_str() }
    }

    fn config(&self, concurrency: usize) -> EngineConfig {
        let broker = self.broker.as_ref().map(|broker| BrokerConfig::new(broker.url()));
        let transport = if broker.is_some() { Transport::Rabbitmq } else { Transport::Postgres };
        let lanes = vec![LaneConfig::new(LANE, concurrency).on(transport)];
        EngineConfig { lanes, broker, ..EngineConfig::default() }
    }

    async fn stop(self) {
        self.pool.close().await;
        self.owner.close().await;
        let dir = self.cluster.dir().to_path_buf();
        let _ = tokio::task::spawn_blocking(move || drop((self.cluster, self.broker))).await;
        let _ = std::fs::remove_dir_all(dir);
    }
}

async fn fill(pool: &PgPool, jobs: u64, later: Option<Duration>) -> Result<Duration> {
    let started = Instant::now();
    let mut n = 0;
    while n < jobs {
        let batch: Vec<NewJob> = (n..(n + 1000).min(jobs))
            .map(|n| {
                let job = NewJob::of(&Noop::<true> { n });
                match later {
                    Some(delay) => job.after(delay).priority(9),
                    None => job,
                }
            })
            .collect();
        let mut tx = pool.begin().await?;
        queue::enqueue(&mut tx, &batch).await?;
        tx.commit().await?;
        n += batch.len() as u64;
    }
    Ok(started.elapsed())
}

async fn drain(
    server: &Server,
    jobs: u64,
    concurrency: usize,
    others: Others,
    other_jobs: u64,
    history: bool,
) -> Result<Value> {
    match others {
        Others::None => {}
        Others::Scheduled => drop(fill(&server.pool, other_jobs, Some(Duration::from_secs(86_400))).await?),
        Others::Dead => {
            fill(&server.pool, other_jobs, Some(Duration::from_secs(86_400))).await?;
            sqlx::query("update queue.jobs set state = 'dead'").execute(&server.owner).await?;
        }
        Others::Done => {
            fill(&server.pool, other_jobs, None).await?;
            work(server, other_jobs, concurrency, true).await?;
        }
    }
    let filled = fill(&server.pool, jobs, None).await?;
    for settle in ["vacuum analyze queue.jobs", "checkpoint"] {
        sqlx::raw_sql(settle).execute(&server.owner).await?;
    }
    let meter = Meter::start(&server.owner).await?;
    let (worker_pid, server_pid) =
        (std::process::id(), server.cluster.pid().context("the server's process")?);
    let cpu = || (cpu_seconds(worker_pid), cpu_seconds(server_pid));
    let before = cpu();
    let took = work(server, jobs, concurrency, history).await?;
    let after = cpu();
    let server_cpu = after.1 - before.1;
    let worker_cpu = after.0 - before.0 - server_cpu;
    let microseconds = |seconds: f64| (seconds * 1e7 / jobs as f64).round() / 10.0;
    let cost = meter.read(&server.owner, jobs).await?;
    Ok(json!({
        "bench": "jobs drain",
        "jobs": jobs,
        "others": others.to_possible_value().map(|v| v.get_name().to_owned()),
        "transport": server.transport(),
        "concurrency": concurrency,
        "history": history,
        "jobs_per_second": (jobs as f64 / took.as_secs_f64()).round(),
        "enqueued_per_second": (jobs as f64 / filled.as_secs_f64()).round(),
        "wal_bytes_per_job": cost.wal_bytes.round(),
        "worker_cpu_us_per_job": microseconds(worker_cpu),
        "server_cpu_us_per_job": microseconds(server_cpu),
        "dead_tuples_per_job": (cost.dead_tuples * 1000.0).round() / 1000.0,
        "cold_updates_per_job": (cost.cold_updates * 1000.0).round() / 1000.0,
        "resident_mb": megabytes(None, "VmHWM"),
    }))
}

/// Until the last job is written as finished, from the start of the engine.
async fn work(server: &Server, jobs: u64, concurrency: usize, history: bool) -> Result<Duration> {
    let seen = Seen { expected: jobs, ..Seen::default() };
    let config = server.config(concurrency);
    let started = Instant::now();
    let registry =
        if history { Registry::new().job::<Noop<true>>() } else { Registry::new().job::<Noop<false>>() };
    let engine = Engine::start(&server.pool, registry, seen.clone(), config);
    seen.all.notified().await;
    loop {
        let left: bool = sqlx::query_scalar("select exists (select from queue.jobs where state = 'ready')")
            .fetch_one(&server.owner)
            .await?;
        if !left {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = started.elapsed();
    engine.shutdown(Duration::from_secs(10)).await;
    let runs = seen.count.load(Ordering::Relaxed);
    anyhow::ensure!(runs == jobs, "{runs} runs of {jobs} jobs");
    Ok(took)
}

async fn enqueue(server: &Server, time: Duration) -> Result<Value> {
    let one = enqueue_by(&server.pool, 1, 1, time).await?;
    let sixteen = enqueue_by(&server.pool, 16, 1, time).await?;
    let bulk = enqueue_by(&server.pool, 1, 1000, time).await?;
    Ok(json!({
        "bench": "jobs enqueue",
        "one_caller_jobs_per_second": one.round(),
        "sixteen_callers_jobs_per_second": sixteen.round(),
        "batches_of_1000_jobs_per_second": bulk.round(),
    }))
}

async fn enqueue_by(pool: &PgPool, callers: u64, batch: u64, time: Duration) -> Result<f64> {
    let bell = Bell::new(pool);
    let desk = Desk::new(pool, bell.clone());
    let started = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (pool, bell, desk) = (pool.clone(), bell.clone(), desk.clone());
            tokio::spawn(async move {
                let mut count = 0;
                while started.elapsed() < time {
                    let jobs: Vec<_> = (0..batch).map(|n| NewJob::of(&Noop::<true> { n })).collect();
                    if let [job] = &jobs[..] {
                        desk.enqueue(job.clone()).await?;
                    } else {
                        let mut tx = pool.begin().await?;
                        let added = queue::add(&mut tx, &jobs).await?;
                        tx.commit().await?;
                        bell.ring(&added.rings);
                    }
                    count += batch;
                }
                anyhow::Ok(count)
            })
        })
        .collect();
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

async fn latency(server: &Server, rate: u64, seconds: u64) -> Result<Value> {
    let starts = Arc::new(Mutex::new(HashMap::new()));
    let seen = Seen { expected: rate * seconds, started: Some(starts.clone()), ..Seen::default() };
    let bell = Bell::new(&server.pool);
    let desk = Desk::new(&server.pool, bell.clone());
    let config = EngineConfig { bell: Some(bell.clone()), ..server.config(16) };
    let engine = Engine::start(&server.pool, Registry::new().job::<Noop<true>>(), seen.clone(), config);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / rate));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let mut tasks = Vec::new();
    for n in 0..rate * seconds {
        ticks.tick().await;
        let desk = desk.clone();
        tasks.push(tokio::spawn(async move {
            let id = desk.enqueue(NewJob::of(&Noop::<true> { n })).await?;
            anyhow::Ok((id.0, Instant::now()))
        }));
    }
    let mut commits = Vec::new();
    for task in tasks {
        commits.push(task.await??);
    }
    tokio::time::timeout(Duration::from_secs(30), seen.all.notified()).await.context("jobs left behind")?;
    engine.shutdown(Duration::from_secs(10)).await;
    let starts = starts.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
    // A handler may start before its enqueuer hears that the commit went through.
    let mut waits: Vec<f64> = commits
        .iter()
        .filter_map(|(id, committed)| {
            Some(starts.get(id)?.saturating_duration_since(*committed).as_secs_f64() * 1000.0)
        })
        .collect();
    waits.sort_by(f64::total_cmp);
    let at = |share: f64| {
        waits.get(((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1))).copied()
    };
    Ok(json!({
        "bench": "jobs latency",
        "transport": server.transport(),
        "rate": rate,
        "jobs": waits.len(),
        "p50_ms": at(0.5),
        "p95_ms": at(0.95),
        "p99_ms": at(0.99),
        "max_ms": waits.last(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A claim and an end: two versions of one row, no new index entry, and a limit for what is written ahead. A change that costs
    /// more than this costs everybody's disk, and is seen here before it is seen there.
    #[tokio::test]
    async fn a_job_costs_the_database_two_dead_tuples_and_little_log() {
        let server = Server::start(Vec::new(), Transport::Postgres).await.unwrap();
        let figures = drain(&server, 10_000, 1000, Others::None, 0, true).await;
        server.stop().await;
        let figures = figures.unwrap();
        let figure = |name: &str| figures[name].as_f64().unwrap();
        assert!(figure("dead_tuples_per_job") < 2.05, "{figures}");
        assert!(figure("cold_updates_per_job") < 0.02, "{figures}");
        assert!(figure("wal_bytes_per_job") < 1000.0, "{figures}");
    }
}
