//! What a job is: arguments that say what to do, and a `Run` that does it.

use crate::{JobId, JobResult};
use serde::{Serialize, de::DeserializeOwned};
use std::future::Future;
use std::time::Duration;
use uuid::Uuid;

/// The arguments of one kind of job. Whoever enqueues needs no more than this.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// A verb phrase in snake_case; also the name of the file that holds its `Run`.
    const KIND: &'static str;
    const LANE: &'static str;
    /// Claims after which a failing job becomes a dead letter.
    const MAX_ATTEMPTS: i16 = 12;
    const TIMEOUT: Duration = Duration::from_secs(60);
    const BACKOFF: Backoff = Backoff::DEFAULT;
}

/// Exponential with jitter; the delays of the default are about 1 s, 2 s, 4 s, 8 s, … up to 10 min.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub max: Duration,
}

impl Backoff {
    pub const DEFAULT: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(600) };
}

/// Does the work of one kind. `S` is what the workers share (database, connectors …).
pub trait Run<S>: Job {
    fn run(self, job: &Running, shared: &S) -> impl Future<Output = JobResult> + Send;
}

/// The run of one claimed job, as its handler sees it.
#[derive(Debug)]
pub struct Running {
    pub id: JobId,
    /// The fencing token: raised at each claim.
    pub run: i64,
    pub kind: String,
    pub lane: String,
    pub organization: Option<Uuid>,
    /// 1 at the first claim.
    pub attempt: i16,
    pub max_attempts: i16,
    pub trace_parent: Option<String>,
}
