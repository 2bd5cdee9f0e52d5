//! Durable jobs on Postgres, or on Postgres with RabbitMQ. Knows nothing of tickets.

pub mod admin;
mod backend;
mod calendar;
mod claim;
mod claimer;
mod completer;
mod config;
mod drain;
mod engine;
mod enqueue;
mod heart;
mod held;
mod job;
mod leader;
mod listener;
mod metrics;
mod outcome;
mod plumbing;
mod registry;
mod runner;
mod running;
pub mod schedules;
mod sweep;
pub mod trace;
mod transport;
mod turns;

pub use config::{BrokerConfig, EngineConfig, LaneConfig};
pub use drain::{Drain, DrainError, Drained};
pub use engine::Engine;
pub use enqueue::{EnqueueError, JobId, NewJob, Unique, enqueue};
pub use job::{Backoff, Job, Run};
pub use outcome::{JobError, JobResult, Outcome};
pub use registry::Registry;
pub use running::{CompleteError, Running};
pub use schedules::{Missed, Rhythm, Schedule};
pub use transport::Transport;
