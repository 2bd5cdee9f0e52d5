//! A job that is to be enqueued.

use crate::Job;
use crate::enqueue::JobId;
use crate::keys::KeyRing;
use crate::unique::Unique;
use chrono::{DateTime, Utc};
use std::fmt;
use std::time::Duration;
use uuid::Uuid;

#[derive(Clone)]
pub struct NewJob {
    pub kind: &'static str,
    pub lane: &'static str,
    pub args: serde_json::Value,
    pub version: i16,
    pub encrypted: bool,
    /// What seals encrypted arguments; without them, the keys of the process.
    pub keys: Option<KeyRing>,
    /// Made beforehand by who must write it elsewhere first; a new one each time ([`JobId::new`]).
    pub id: Option<JobId>,
    /// Without one, the organization of the transaction it is enqueued in, if that has one.
    pub organization: Option<Uuid>,
    /// Higher runs earlier within a lane; 0 is usual.
    pub priority: i16,
    pub run_at: Option<DateTime<Utc>>,
    pub delay: Option<Duration>,
    pub unique: Option<(String, Unique)>,
    /// With a unique key: not again for this long after the last one was enqueued.
    pub window: Option<Duration>,
    pub max_attempts: i16,
    /// What the kind's limits per key count by; `None` for a kind without limits.
    pub limit_key: Option<String>,
    /// Without one, that of the running task (`trace::current()`).
    pub trace_parent: Option<String>,
}

/// Without encrypted arguments.
impl fmt::Debug for NewJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut job = f.debug_struct("NewJob");
        job.field("kind", &self.kind).field("organization", &self.organization);
        if !self.encrypted {
            job.field("args", &self.args);
        }
        job.finish_non_exhaustive()
    }
}

impl NewJob {
    /// # Panics
    /// When the arguments cannot be written as JSON (a map with keys that are not strings): a programming error.
    pub fn of<J: Job>(args: &J) -> Self {
        NewJob {
            kind: J::KIND,
            lane: J::LANE,
            args: serde_json::to_value(args).expect("job arguments are JSON"),
            version: J::VERSION,
            encrypted: J::ENCRYPTED,
            keys: None,
            id: None,
            organization: None,
            priority: 0,
            run_at: None,
            delay: None,
            unique: None,
            window: None,
            max_attempts: J::MAX_ATTEMPTS,
            limit_key: if J::LIMITS.is_empty() { None } else { Some(args.limit_key().unwrap_or_default()) },
            trace_parent: None,
        }
    }

    pub fn organization(mut self, id: impl Into<Uuid>) -> Self {
        self.organization = Some(id.into());
        self
    }

    pub fn id(mut self, id: JobId) -> Self {
        self.id = Some(id);
        self
    }

    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    pub fn run_at(mut self, at: DateTime<Utc>) -> Self {
        self.run_at = Some(at);
        self
    }

    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = Some(delay);
        self
    }

    /// Another key for the kind's limits per key than [`Job::limit_key`] says.
    pub fn limit_key(mut self, key: impl Into<String>) -> Self {
        self.limit_key = Some(key.into());
        self
    }

    pub fn max_attempts(mut self, claims: i16) -> Self {
        self.max_attempts = claims;
        self
    }
}
