//! A queue without a server.

mod rules;

use super::Seen;
use crate::admin::{AdminError, Cancelled};
use crate::{Clock, JobId, NewJob};
use rules::Rules;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The jobs of a queue in memory, with the rules of the one in the database: attempts, backoff, snooze, unique keys, the order
/// of ranks, turns between tenants, cancellation, paused lanes, lost workers, dead letters. A [`Worker`](super::Worker) runs
/// them. That both follow the same rules is a test of this crate (`tests/conformance`).
///
/// It has no transactions, no batches and no other processes, counts no [limits](crate::Limit), weighs all tenants the same, and keeps what is
/// over for ever. Time passes only by [`Memory::advance`]. [`Running::complete_in`](crate::Running::complete_in) succeeds and
/// writes nothing.
///
/// Clones are the same queue, so that what the handlers share can hold one to enqueue further jobs.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    rules: Arc<Mutex<Rules>>,
    clock: Clock,
}

impl Memory {
    pub fn new() -> Memory {
        Memory::default()
    }

    pub(super) fn rules(&self) -> MutexGuard<'_, Rules> {
        let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        rules.tick(self.clock.shift_ms());
        rules
    }

    /// As [`queue::enqueue`](crate::enqueue): one id for each, that of the job that is there already where a key is held.
    pub fn enqueue(&self, jobs: &[NewJob]) -> Vec<JobId> {
        self.rules().enqueue(jobs)
    }

    /// Its time, which may be moved from elsewhere.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// All jobs, those that are over included, in the order in which they were made.
    pub fn jobs(&self) -> Vec<Seen> {
        self.rules().seen()
    }

    /// As [`admin::cancel`](crate::admin::cancel).
    pub fn cancel(&self, id: JobId) -> Result<Cancelled, AdminError> {
        self.rules().cancel(id)
    }

    /// As [`admin::retry`](crate::admin::retry).
    pub fn retry(&self, id: JobId) -> Result<(), AdminError> {
        self.rules().retry(id)
    }

    /// As [`admin::discard`](crate::admin::discard).
    pub fn discard(&self, id: JobId) -> Result<(), AdminError> {
        self.rules().discard(id)
    }

    /// Nothing is claimed from a lane that is paused.
    pub fn pause(&self, lane: &str) {
        self.rules().paused.insert(lane.to_owned());
    }

    pub fn resume(&self, lane: &str) {
        self.rules().paused.remove(lane);
    }
}
