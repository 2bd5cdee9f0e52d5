//! The job engine as one of the peers in `bench/peers`: their verbs, their payload, on the database that `DATABASE_URL` names (its
//! owner's URL; what is measured connects as the application role, so that row level security is in force).

mod crew;

use crate::memory::megabytes;
use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use crew::{Crew, Seen, now_ms};
use queue::{Bell, BrokerConfig, Desk, EngineConfig, Job, LaneConfig, NewJob, Retention, Transport};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

const LANE: &str = "bench";
const APP_ROLE: &str = embedded::APP_ROLE;

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(clap::Args, Clone)]
struct How {
    /// The owner of an empty database
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    #[arg(long, global = true, env = "AMQP_URL", hide_env_values = true)]
    amqp_url: Option<String>,
    #[arg(long, global = true, default_value = "postgres", value_parser = crate::jobs::transport)]
    transport: Transport,
    /// Finished jobs leave no trace, as with runners that delete them
    #[arg(long, global = true)]
    no_history: bool,
    /// Jobs that run at once in a worker process
    #[arg(long, global = true, default_value_t = 2000)]
    concurrency: usize,
    /// Worker processes; more than one, or `--apart`, run beside this process
    #[arg(long, global = true, default_value_t = 1)]
    processes: usize,
    /// How a single job is enqueued
    #[arg(long, global = true, value_enum, default_value_t = By::Desk)]
    by: By,
    /// The worker runs in a process of its own, so that it hears of jobs through the database only
    #[arg(long, global = true)]
    apart: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// For who changes nothing else: jobs of several callers may share a commit
    Desk,
    /// A transaction each, as with a change that the job belongs to
    Transaction,
}

#[derive(Subcommand, Clone)]
enum What {
    /// Migrates the database and lets the application role log in
    Setup,
    /// So many jobs, one a call, from so many callers
    Enqueue { jobs: u64, callers: usize },
    /// So many jobs in calls of so many
    Bulk { jobs: u64, batch: u64 },
    /// Works off a backlog of so many
    Drain { jobs: u64 },
    /// From the enqueue to the start of the handler, at a steady rate
    Latency { rate: u64, seconds: u64 },
    /// What a worker without work costs
    Idle { seconds: u64 },
    /// Other jobs in the tables
    Fill {
        #[arg(value_enum)]
        others: Others,
        jobs: i64,
    },
    /// A worker process, until its standard input ends
    #[command(hide = true)]
    Work {
        /// Says at its end when each job started
        #[arg(long)]
        starts: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Others {
    /// Finished, in the history
    Done,
    /// Due in a month
    Scheduled,
    /// Ready, in a lane that nobody works on
    Waiting,
}

/// The payload of all peers: about 200 bytes of JSON.
#[derive(Serialize, Deserialize)]
pub(crate) struct Noop<const HISTORY: bool> {
    id: i64,
    kind: String,
    data: String,
}

impl<const HISTORY: bool> Job for Noop<HISTORY> {
    const KIND: &'static str = if HISTORY { "noop" } else { "noop_without_history" };
    const LANE: &'static str = LANE;
    const RETENTION: Retention = if HISTORY { Retention::Normal } else { Retention::None };
}

impl<const HISTORY: bool> Noop<HISTORY> {
    fn new(id: i64) -> Self {
        Noop { id, kind: "noop".to_owned(), data: "x".repeat(160) }
    }
}

pub async fn run(args: Args) -> Result<Value> {
    let peer = Peer::new(args.how)?;
    match args.what {
        What::Setup => peer.set_up().await,
        What::Enqueue { jobs, callers } => peer.enqueue(jobs, callers).await,
        What::Bulk { jobs, batch } => peer.bulk(jobs, batch).await,
        What::Drain { jobs } => peer.drain(jobs).await,
        What::Latency { rate, seconds } => peer.latency(rate, seconds).await,
        What::Idle { seconds } => peer.idle(seconds).await,
        What::Fill { others, jobs } => peer.fill(others, jobs).await,
        What::Work { starts } => crew::work(&peer, starts).await,
    }
}

pub(crate) struct Peer {
    how: How,
    owner: PgPool,
    pool: PgPool,
    bell: Bell,
    desk: Desk,
}

impl Peer {
    fn new(how: How) -> Result<Peer> {
        let url = how.database_url.as_deref().context("DATABASE_URL names no database")?;
        let options: PgConnectOptions = url.parse().context("DATABASE_URL")?;
        let pool = |options, size| PgPoolOptions::new().max_connections(size).connect_lazy_with(options);
        let app = pool(options.clone().username(APP_ROLE), 20);
        let bell = Bell::new(&app);
        Ok(Peer { how, owner: pool(options, 2), desk: Desk::new(&app, bell.clone()), bell, pool: app })
    }

    fn config(&self) -> Result<EngineConfig> {
        let broker = match self.how.transport {
            Transport::Postgres => None,
            Transport::Rabbitmq => {
                let url = self.how.amqp_url.as_deref().context("AMQP_URL names no broker")?;
                Some(BrokerConfig::new(url))
            }
        };
        let lanes = vec![LaneConfig::new(LANE, self.how.concurrency).on(self.how.transport)];
        Ok(EngineConfig { lanes, broker, bell: Some(self.bell.clone()), ..EngineConfig::default() })
    }

    /// As the application would, for one tenant.
    fn job(&self, id: i64) -> NewJob {
        let job = if self.how.no_history {
            NewJob::of(&Noop::<false>::new(id))
        } else {
            NewJob::of(&Noop::<true>::new(id))
        };
        job.organization(Uuid::from_u128(1))
    }

    /// THE ENQUEUE OF ONE JOB. What `enqueue` and `latency` measure is this function and nothing else.
    async fn add_one(&self, id: i64) -> Result<()> {
        match self.how.by {
            By::Desk => drop(self.desk.enqueue(self.job(id)).await?),
            By::Transaction => {
                let mut tx = self.pool.begin().await?;
                let added = queue::add(&mut tx, &[self.job(id)]).await?;
                tx.commit().await?;
                self.bell.ring(&added.rings);
            }
        }
        Ok(())
    }

    async fn set_up(&self) -> Result<Value> {
        store::MIGRATOR.run(&self.owner).await.context("the migrations")?;
        // Without a password: for servers on loopback that trust.
        sqlx::raw_sql("alter role relaydesk_app login; truncate queue.jobs, queue.history, queue.attempts")
            .execute(&self.owner)
            .await?;
        let power: bool =
            sqlx::query_scalar("select rolsuper or rolbypassrls from pg_roles where rolname = current_user")
                .fetch_one(&self.pool)
                .await
                .context("the application role")?;
        anyhow::ensure!(!power, "row level security does not hold for {APP_ROLE}");
        Ok(json!({ "bench": "peer setup" }))
    }

    async fn enqueue(self, jobs: u64, callers: usize) -> Result<Value> {
        let (peer, next) = (Arc::new(self), Arc::new(AtomicU64::new(0)));
        let started = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let (peer, next) = (peer.clone(), next.clone());
                tokio::spawn(async move {
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if n >= jobs {
                            return anyhow::Ok(());
                        }
                        peer.add_one(n as i64).await?;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        Ok(json!({ "n": jobs, "secs": started.elapsed().as_secs_f64() }))
    }

    async fn bulk(&self, jobs: u64, batch: u64) -> Result<Value> {
        let started = Instant::now();
        let mut n = 0;
        while n < jobs {
            let batch: Vec<NewJob> = (n..(n + batch).min(jobs)).map(|n| self.job(n as i64)).collect();
            let mut tx = self.pool.begin().await?;
            let added = queue::add(&mut tx, &batch).await?;
            tx.commit().await?;
            self.bell.ring(&added.rings);
            n += batch.len() as u64;
        }
        Ok(json!({ "n": jobs, "secs": started.elapsed().as_secs_f64() }))
    }

    /// From just before the start of the workers until the last job is written as finished.
    async fn drain(&self, jobs: u64) -> Result<Value> {
        let (cpu, started) = (crew::cpu_seconds()?, Instant::now());
        let crew = Crew::start(self, Seen::default())?;
        crew.seen.until(jobs).await;
        let handled = started.elapsed();
        while self.is_work_left().await? {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = started.elapsed();
        let cpu = crew::cpu_seconds()? - cpu;
        let mut figures = json!({
            "n": jobs,
            "secs": took.as_secs_f64(),
            "secs_handlers": handled.as_secs_f64(),
            "hwm": megabytes(None, "VmHWM"),
        });
        if !crew.is_apart() {
            figures["cpu"] = json!(cpu); // of other processes, whoever started this one knows better
        }
        let runs = crew.stop().await?.count.load(Ordering::Relaxed);
        anyhow::ensure!(runs == jobs, "{runs} runs of {jobs} jobs");
        Ok(figures)
    }

    async fn is_work_left(&self) -> Result<bool> {
        let left = "select exists (select from queue.jobs where lane = $1 and state = 'ready')";
        Ok(sqlx::query_scalar(left).bind(LANE).fetch_one(&self.owner).await?)
    }

    async fn latency(self, rate: u64, seconds: u64) -> Result<Value> {
        let peer = Arc::new(self);
        let crew = Crew::start(&peer, Seen::with_starts())?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / rate));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut calls = Vec::new();
        for n in 0..(rate * seconds) as i64 {
            ticks.tick().await;
            let (peer, called) = (peer.clone(), now_ms());
            calls.push(tokio::spawn(async move {
                peer.add_one(n).await?;
                anyhow::Ok((n, called, now_ms()))
            }));
        }
        let mut called = HashMap::new();
        for call in calls {
            let (n, called_at, returned_at) = call.await??;
            called.insert(n, (called_at, returned_at));
        }
        tokio::time::timeout(Duration::from_secs(30), crew.seen.until(rate * seconds))
            .await
            .context("jobs left behind")?;
        let starts = crew.stop().await?.starts();
        // A handler may start before its enqueuer hears that the commit went through.
        let mut waits: Vec<f64> = called.iter().map(|(n, c)| (starts[n] - c.1).max(0.0)).collect();
        let mut whole: Vec<f64> = called.iter().map(|(n, c)| starts[n] - c.0).collect();
        Ok(json!({
            "n": waits.len(),
            "p50": at(&mut waits, 0.5), "p95": at(&mut waits, 0.95), "p99": at(&mut waits, 0.99), "max": at(&mut waits, 1.0),
            "e50": at(&mut whole, 0.5), "e95": at(&mut whole, 0.95), "e99": at(&mut whole, 0.99),
        }))
    }

    async fn idle(&self, seconds: u64) -> Result<Value> {
        let crew = Crew::start(self, Seen::default())?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let cpu = crew::cpu_seconds()?;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let cpu = (crew::cpu_seconds()? - cpu) / seconds as f64;
        let figures = json!({ "rss": megabytes(None, "VmRSS"), "cpu_per_s": cpu });
        crew.stop().await?;
        Ok(figures)
    }

    /// Written by hand, a million in seconds; what the engine would have left.
    async fn fill(&self, others: Others, jobs: i64) -> Result<Value> {
        let sql = match others {
            Others::Done => {
                "insert into queue.history (id, organization_id, finished_at, due_at, started_at, worker, priority, attempt, \
                                            max_attempts, outcome, lane, kind, args) \
                 select gen_random_uuid(), $2, now(), now(), now(), $2, 0, 1, 12, 'done', $3, 'noop', $4::text::json \
                 from generate_series(1, $1)"
            }
            Others::Scheduled => {
                "insert into queue.jobs (id, organization_id, due_at, rank, state, max_attempts, lane, kind, args) \
                 select gen_random_uuid(), $2, now() + interval '30 days' + n * interval '1 second', \
                        now() + interval '30 days' + n * interval '1 second', 'scheduled', 12, $3, 'noop', $4::text::json \
                 from generate_series(1, $1) n"
            }
            Others::Waiting => {
                "insert into queue.jobs (id, organization_id, due_at, rank, state, max_attempts, lane, kind, args) \
                 select gen_random_uuid(), $2, now(), now() + n * interval '1 microsecond', 'ready', 12, $3 || '-other', \
                        'noop', $4::text::json \
                 from generate_series(1, $1) n"
            }
        };
        let payload = serde_json::to_string(&Noop::<true>::new(1))?;
        sqlx::query(sql)
            .bind(jobs)
            .bind(Uuid::from_u128(1))
            .bind(LANE)
            .bind(payload)
            .execute(&self.owner)
            .await?;
        Ok(json!({ "n": jobs }))
    }
}

/// The value below which this share lies.
fn at(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 * share) as usize).min(values.len().saturating_sub(1))).copied()
}
