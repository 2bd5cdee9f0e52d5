//! The states of a job as people see them.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waits for its time, or for its next attempt.
    Scheduled,
    /// Waits for a worker.
    Ready,
    Running,
    /// Waits until a limit (`Job::LIMITS`) lets it run.
    Limited,
    /// Waits until the jobs of a batch have ended.
    Suspended,
    /// A dead letter: failed for good, waits for a person.
    Dead,
    Done,
    Cancelled,
    /// A dead letter that somebody put away.
    Discarded,
}

impl JobState {
    pub const ALL: [JobState; 9] = [
        JobState::Scheduled,
        JobState::Ready,
        JobState::Running,
        JobState::Limited,
        JobState::Suspended,
        JobState::Dead,
        JobState::Done,
        JobState::Cancelled,
        JobState::Discarded,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Scheduled => "scheduled",
            JobState::Ready => "ready",
            JobState::Running => "running",
            JobState::Limited => "limited",
            JobState::Suspended => "suspended",
            JobState::Dead => "dead",
            JobState::Done => "done",
            JobState::Cancelled => "cancelled",
            JobState::Discarded => "discarded",
        }
    }

    pub(super) fn is_over(self) -> bool {
        matches!(self, JobState::Done | JobState::Cancelled | JobState::Discarded)
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "no job state {0:?}; known are scheduled, ready, running, limited, suspended, dead, done, cancelled, discarded"
)]
pub struct UnknownState(String);

impl FromStr for JobState {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        JobState::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| UnknownState(text.to_owned()))
    }
}

/// What a dead letter died of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Death {
    /// Its handler said that it will never work.
    GaveUp,
    /// It failed at its last attempt.
    Exhausted,
    /// Its last attempt took too long.
    Timeout,
    /// Its last attempt panicked.
    Panicked,
    /// Its arguments cannot be read.
    Undecodable,
    /// It cost too many workers: taken for poison.
    Lost,
    /// The transaction that completed its last attempt was rolled back.
    RolledBack,
}

impl Death {
    pub const ALL: [Death; 7] = [
        Death::GaveUp,
        Death::Exhausted,
        Death::Timeout,
        Death::Panicked,
        Death::Undecodable,
        Death::Lost,
        Death::RolledBack,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Death::GaveUp => "gave_up",
            Death::Exhausted => "exhausted",
            Death::Timeout => "timeout",
            Death::Panicked => "panicked",
            Death::Undecodable => "undecodable",
            Death::Lost => "lost",
            Death::RolledBack => "rolled_back",
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "no job dies of {0:?}; known are gave_up, exhausted, timeout, panicked, undecodable, lost, rolled_back"
)]
pub struct UnknownDeath(String);

impl FromStr for Death {
    type Err = UnknownDeath;

    fn from_str(text: &str) -> Result<Self, UnknownDeath> {
        Death::ALL
            .into_iter()
            .find(|death| death.as_str() == text)
            .ok_or_else(|| UnknownDeath(text.to_owned()))
    }
}
