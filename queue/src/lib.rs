//! Durable jobs on Postgres, or on Postgres with RabbitMQ in front of the workers.
//!
//! A job is a row, written in the transaction of the change that wants it: both exist or neither. Worker processes claim rows
//! by lease, run a handler for each, and write how it ended. There is no other state: every process may be killed at
//! any moment, and any number may run beside each other.
//!
//! # What it promises
//!
//! * **Nothing is lost.** A committed job runs until it is done, cancelled, or a dead letter that waits for a person.
//! * **An end is written once.** Each claim has a number ([`Running::run`]), and an end that names an old one is refused. With
//!   [`Running::complete_in`] what a handler changes in Postgres happens exactly once; what it does elsewhere happens at least once.
//! * **Attempts are bounded.** A claim counts, so a job that kills its process is a dead letter in the end.
//! * **Order and fairness.** Within a lane tenants take turns, each tenant's jobs go by rank: due time, earlier by its priority.
//! * **Limits hold over all processes.** So many at once and so fast, for a kind, a tenant, a key, a lane ([`Limit`]).
//! * **A lost worker's jobs run again** within lease and sweep: 25 s with the usual settings.
//! * **A process never ends because a server went away.** It waits, and goes on.
//!
//! # From zero
//!
//! Arguments say what is to be done, a handler does it, an engine runs handlers:
//!
//! ```
//! use queue::{Engine, EngineConfig, Job, JobResult, LaneConfig, NewJob, Outcome, Registry, Run, Running};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Greet { name: String }
//!
//! impl Job for Greet {
//!     const KIND: &'static str = "greet";
//!     const LANE: &'static str = "default";
//! }
//!
//! /// What the handlers of a process share.
//! type Shared = tokio::sync::mpsc::UnboundedSender<String>;
//!
//! impl Run<Shared> for Greet {
//!     async fn run(self, _: &Running, shared: &Shared) -> JobResult {
//!         shared.send(format!("hello, {}", self.name))?; // an error would be: try again later
//!         Ok(Outcome::Done)
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> anyhow::Result<()> {
//! # let database = testkit::database().await;
//! # let pool = database.db.pool().clone();
//! // let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
//! let (said, mut hears) = tokio::sync::mpsc::unbounded_channel();
//! let config = EngineConfig { lanes: vec![LaneConfig::new("default", 8)], ..EngineConfig::default() };
//! let engine = Engine::start(&pool, Registry::new().job::<Greet>(), said, config);
//!
//! let mut tx = pool.begin().await?;
//! queue::enqueue(&mut tx, &[NewJob::of(&Greet { name: "Ada".into() })]).await?;
//! tx.commit().await?;
//!
//! assert_eq!(hears.recv().await.as_deref(), Some("hello, Ada"));
//! engine.shutdown(std::time::Duration::from_secs(10)).await;
//! # Ok(())
//! # }
//! ```
//!
//! The same as a program: `examples/greet.rs`. For tests of handlers see [`testing`], for looking and mending [`admin`], for what
//! runs by the clock [`schedules`], for jobs that wait for others [`batch`], [`Running::wait_for`] and [`Outcome::Then`], for what only another
//! network can do [`remote`].
//!
//! # What it needs
//!
//! PostgreSQL 15 or newer with the schema `queue` on it (`migrations/*_queue*.sql` of the repository), and a function
//! `current_organization()` that answers the tenant of the transaction or null: rows are under row level security, and jobs
//! belong to the tenant in whose transaction they were enqueued. The migrations grant to a role `relaydesk_app`, which must be there:
//! `create role relaydesk_app nologin`; workers and those who enqueue connect as members of it. RabbitMQ (3.10 or newer) only for lanes that are
//! [put on it](LaneConfig::on).

pub mod admin;
mod admit;
mod along;
mod backend;
pub mod batch;
mod bell;
mod calendar;
mod catalogue;
mod claim;
mod claimer;
mod clock;
mod completer;
mod config;
mod desk;
mod drain;
mod engine;
mod enqueue;
mod gauges;
mod heart;
mod held;
pub mod horizon;
mod job;
mod keys;
mod leader;
mod limit;
mod listener;
pub mod messages;
mod metrics;
mod new_job;
mod news;
mod outcome;
mod payload;
mod plumbing;
mod prune;
mod registry;
mod release;
pub mod remote;
mod retention;
mod runner;
mod running;
pub mod schedules;
mod steps;
mod sweep;
pub mod testing;
pub mod trace;
mod transport;
mod turns;
mod unique;

pub use along::Along;
pub use batch::{BatchId, BatchView, Ended, OnDeath};
pub use bell::Bell;
pub use catalogue::{ArgsError, Catalogue};
pub use clock::Clock;
pub use config::{BrokerConfig, EngineConfig, LaneConfig};
pub use desk::Desk;
pub use drain::{Drain, DrainError, Drained};
pub use engine::Engine;
pub use enqueue::{Added, EnqueueError, JobId, add, enqueue};
pub use job::{Backoff, Job, Run};
pub use keys::{InvalidKeys, KeyRing, OpenError, SealError};
pub use limit::Limit;
pub use new_job::NewJob;
pub use outcome::{JobError, JobResult, Outcome};
pub use registry::{Around, Registry};
pub use retention::{Keep, Retention, UnknownRetention};
pub use running::{CompleteError, Running};
pub use schedules::{Missed, Rhythm, Schedule};
pub use steps::{Children, StepError};
pub use transport::Transport;
pub use unique::Unique;
