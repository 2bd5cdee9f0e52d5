//! Durable jobs on Postgres. Knows nothing of tickets.

mod enqueue;
mod job;
mod outcome;
pub mod trace;

pub use enqueue::{EnqueueError, JobId, NewJob, Unique, enqueue};
pub use job::{Backoff, Job, Run, Running};
pub use outcome::{JobError, JobResult, Outcome};
