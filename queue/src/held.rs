//! What this process holds claims of: from the claim until its end is written.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A job and its run.
pub(crate) type Claim = (Uuid, i64);

/// Why a running job was told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stop {
    No = 0,
    /// Somebody cancelled the job.
    Cancelled = 1,
    /// Its lease is lost, or may be.
    Lost = 2,
    /// The process ends and the grace time is over.
    Shutdown = 3,
}

#[derive(Debug)]
pub(crate) struct StopSign {
    pub token: CancellationToken,
    why: AtomicU8,
}

impl StopSign {
    pub fn new() -> Arc<Self> {
        Arc::new(StopSign { token: CancellationToken::new(), why: AtomicU8::new(0) })
    }

    pub fn stop(&self, why: Stop) {
        // The first reason counts.
        let _ = self.why.compare_exchange(0, why as u8, Ordering::AcqRel, Ordering::Acquire);
        self.token.cancel();
    }

    pub fn why(&self) -> Stop {
        match self.why.load(Ordering::Acquire) {
            1 => Stop::Cancelled,
            2 => Stop::Lost,
            3 => Stop::Shutdown,
            _ => Stop::No,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Held {
    claims: Mutex<HashMap<Claim, Arc<StopSign>>>,
    /// Handlers that run now, by lane.
    running: HashMap<String, AtomicUsize>,
}

impl Held {
    pub fn of(lanes: &[String]) -> Self {
        Held {
            running: lanes.iter().map(|lane| (lane.clone(), AtomicUsize::default())).collect(),
            ..Held::default()
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Claim, Arc<StopSign>>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, claims: impl Iterator<Item = (Claim, Arc<StopSign>)>) {
        self.lock().extend(claims);
    }

    pub fn remove(&self, claims: impl Iterator<Item = Claim>) {
        let mut held = self.lock();
        claims.for_each(|claim| drop(held.remove(&claim)));
    }

    /// Those of `claims` that this process does not know of.
    pub fn unknown(&self, claims: Vec<Claim>) -> Vec<Claim> {
        let held = self.lock();
        claims.into_iter().filter(|claim| !held.contains_key(claim)).collect()
    }

    pub fn cancel(&self, claims: &[Claim]) {
        let held = self.lock();
        claims.iter().filter_map(|claim| held.get(claim)).for_each(|sign| sign.stop(Stop::Cancelled));
    }

    pub fn stop_all(&self, why: Stop) {
        self.lock().values().for_each(|sign| sign.stop(why));
    }

    /// Handlers that run now.
    pub fn running(&self) -> usize {
        self.running.values().map(|lane| lane.load(Ordering::Relaxed)).sum()
    }

    pub fn running_in(&self, lane: &str) -> usize {
        self.running.get(lane).map_or(0, |lane| lane.load(Ordering::Relaxed))
    }

    pub fn run(&self, lane: &str) -> RunGuard<'_> {
        let lane = self.running.get(lane);
        if let Some(lane) = lane {
            lane.fetch_add(1, Ordering::Relaxed);
        }
        RunGuard(lane)
    }
}

pub(crate) struct RunGuard<'a>(Option<&'a AtomicUsize>);

impl Drop for RunGuard<'_> {
    fn drop(&mut self) {
        if let Some(lane) = self.0 {
            lane.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
