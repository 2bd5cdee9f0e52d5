//! A kind of job whose arguments say how each of its runs ends, and a log of all runs.

use crate::scripted::LANE;
use chrono::{DateTime, Utc};
use queue::{Backoff, Job, JobError, JobId, JobResult, NewJob, Outcome, Registry, Run, Running};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum End {
    Done,
    Fail,
    Panic,
    RetryIn(u64),
    Snooze(u64),
    GiveUp,
    CancelItself,
}

/// The n-th attempt ends the n-th way, later ones are done. A snooze is taken once.
#[derive(Debug, Serialize, Deserialize)]
pub struct Play {
    pub ends: Vec<End>,
}

impl Job for Play {
    const KIND: &'static str = "play";
    const LANE: &'static str = LANE;
    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(5), max: Duration::from_millis(20) };
}

#[derive(Clone, Debug)]
pub struct Started {
    pub job: JobId,
    pub run: i64,
    pub attempt: i16,
    pub max_attempts: i16,
    pub tenant: Option<Uuid>,
    pub due_at: DateTime<Utc>,
    pub at: Instant,
}

/// All runs, in the order in which they began.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<Started>>>);

impl Log {
    pub fn all(&self) -> Vec<Started> {
        self.0.lock().unwrap().clone()
    }

    pub fn of(&self, job: JobId) -> Vec<Started> {
        self.all().into_iter().filter(|started| started.job == job).collect()
    }
}

impl Run<Log> for Play {
    async fn run(self, job: &Running, log: &Log) -> JobResult {
        let snoozed = log.of(job.id).iter().any(|before| before.attempt == job.attempt);
        log.0.lock().unwrap().push(Started {
            job: job.id,
            run: job.run,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            tenant: job.organization,
            due_at: job.due_at,
            at: Instant::now(),
        });
        match self.ends.get(job.attempt as usize - 1).unwrap_or(&End::Done) {
            End::Fail => Err(anyhow::anyhow!("as it was told").into()),
            End::Panic => panic!("as it was told"),
            End::RetryIn(ms) => Err(JobError::RetryIn(Duration::from_millis(*ms), anyhow::anyhow!("later"))),
            End::Snooze(ms) if !snoozed => Ok(Outcome::Snooze(Duration::from_millis(*ms))),
            End::GiveUp => Err(JobError::GiveUp(anyhow::anyhow!("as it was told"))),
            End::CancelItself => Ok(Outcome::Cancelled("as it was told".into())),
            End::Done | End::Snooze(_) => Ok(Outcome::Done),
        }
    }
}

pub fn registry() -> Registry<Log> {
    Registry::new().job::<Play>()
}

pub fn play(ends: &[End]) -> NewJob {
    NewJob::of(&Play { ends: ends.to_vec() })
}
