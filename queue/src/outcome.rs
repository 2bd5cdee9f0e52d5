//! How a run ends.

use crate::NewJob;
use std::time::Duration;

pub type JobResult = Result<Outcome, JobError>;

#[derive(Debug)]
pub enum Outcome {
    Done,
    /// Done, with a result that is kept with the job.
    DoneWith(serde_json::Value),
    /// Done, and what comes next is enqueued in the transaction that says so: all of it once, or the job runs again. If the job is of a
    /// batch, so is what comes next. For results, or changes in the same transaction: `Running::complete_then`.
    Then(Vec<NewJob>),
    /// Not now: again after this long, without counting as an attempt.
    Snooze(Duration),
    /// There is nothing left to do, and why.
    Cancelled(String),
}

#[derive(Debug)]
pub enum JobError {
    /// Again, after the kind's backoff.
    Retry(anyhow::Error),
    /// Again, after the time the peer asked for.
    RetryIn(Duration, anyhow::Error),
    /// Never again: a dead letter.
    GiveUp(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for JobError {
    fn from(error: E) -> Self {
        JobError::Retry(error.into())
    }
}
