//! Durable jobs on Postgres. Knows nothing of tickets.

mod enqueue;
mod job;
mod metrics;
mod outcome;
mod registry;
mod running;
pub mod trace;

pub use enqueue::{EnqueueError, JobId, NewJob, Unique, enqueue};
pub use job::{Backoff, Job, Run};
pub use outcome::{JobError, JobResult, Outcome};
pub use registry::Registry;
pub use running::{CompleteError, Running};
