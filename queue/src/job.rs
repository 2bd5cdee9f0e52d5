//! What a job is: arguments that say what to do, and a `Run` that does it.

use crate::running::Running;
use crate::{JobResult, Limit, Retention};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::future::Future;
use std::time::Duration;

/// The arguments of one kind of job. Whoever enqueues needs no more than this.
pub trait Job: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// A verb phrase in snake_case; also the name of the file that holds its `Run`.
    const KIND: &'static str;
    const LANE: &'static str;
    /// Claims after which a failing job becomes a dead letter.
    const MAX_ATTEMPTS: i16 = 12;
    const TIMEOUT: Duration = Duration::from_secs(60);
    const BACKOFF: Backoff = Backoff::DEFAULT;
    /// How long its ends stay visible in the history. An operator may set another one for the kind.
    const RETENTION: Retention = Retention::Normal;
    /// How many run at once, and how fast they start, over all processes.
    const LIMITS: &'static [Limit] = &[];

    /// The shape of the arguments, raised when it changes in a way that `#[serde(default)]` does not cover. Workers that know less leave the
    /// job to those that know enough.
    const VERSION: i16 = 1;
    /// Whether the arguments lie encrypted in the database (see [`crate::KeyRing`]), and their words are taken out of results and errors.
    const ENCRYPTED: bool = false;

    /// Arguments of version `from`, brought up to the next one. Called for each version from the row's to [`Job::VERSION`].
    fn upcast(from: i16, args: Value) -> Result<Value, anyhow::Error> {
        let _ = from;
        Ok(args)
    }

    /// What limits per key count by: the endpoint that is called, the mailbox that is read.
    fn limit_key(&self) -> Option<String> {
        None
    }
}

/// Does the work of one kind. `S` is what the workers share (database, connectors …).
pub trait Run<S>: Job {
    fn run(self, job: &Running, shared: &S) -> impl Future<Output = JobResult> + Send;
}

/// Exponential with jitter; the delays of the default are about 1 s, 2 s, 4 s, 8 s, … up to 10 min.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub max: Duration,
}

impl Backoff {
    pub const DEFAULT: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(600) };

    /// The wait after the `attempt`th attempt (from 1) failed. `chance` in 0..1 spreads it by ±20 %, so that jobs that
    /// failed together do not come back together.
    pub fn delay(&self, attempt: i16, chance: f64) -> Duration {
        let doublings = i32::from(attempt.max(1) - 1).min(60);
        let base = (self.first.as_secs_f64() * 2f64.powi(doublings)).min(self.max.as_secs_f64());
        Duration::from_secs_f64(
            (base * (0.8 + 0.4 * chance.clamp(0.0, 1.0))).min(self.max.as_secs_f64() * 1.2),
        )
    }
}
