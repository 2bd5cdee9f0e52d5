//! What the statements of the engine do, on a list. Also the model that they are compared with: kept so simple that it can be
//! checked by reading.

use crate::admin::{AdminError, Cancelled, JobState};
use crate::claim::{Envelope, Wanted};
use crate::completer::{Completion, End};
use crate::held::StopSign;
use crate::testing::Seen;
use crate::turns::{NOBODY, WINDOW};
use crate::{JobId, NewJob, Unique};
use chrono::{DateTime, TimeDelta, Utc};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What one point of priority is worth.
const AGING: TimeDelta = TimeDelta::minutes(1);

#[derive(Debug)]
struct Row {
    seen: Seen,
    run: i64,
    crashes: i16,
    rank: DateTime<Utc>,
    claimed_at: DateTime<Utc>,
    /// Who holds it while it runs.
    worker: Option<Uuid>,
    cancel_requested: bool,
    /// In which states it has its unique key, as [`Unique::mask`]; 0 without one.
    unique_while: i16,
    unique_key: Option<String>,
    has_key: bool,
    trace_parent: Option<String>,
    args: String,
    version: i16,
}

/// A unique key counts within kind and organization.
type Key = (String, Option<Uuid>, String);

#[derive(Debug)]
pub(in crate::testing) struct Rules {
    /// In the order in which they were made.
    rows: Vec<Row>,
    pub paused: HashSet<String>,
    /// Until when a key is not to be used again, and by whom it was.
    windows: HashMap<Key, (DateTime<Utc>, JobId)>,
    now: DateTime<Utc>,
    ticks: i64,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            rows: Vec::new(),
            paused: HashSet::new(),
            windows: HashMap::new(),
            now: DateTime::UNIX_EPOCH,
            ticks: 0,
        }
    }
}

impl Row {
    fn waits(&self) -> bool {
        matches!(self.seen.state, JobState::Ready | JobState::Scheduled)
    }

    fn tenant(&self) -> Uuid {
        self.seen.organization.unwrap_or(NOBODY)
    }

    fn key(&self) -> Option<Key> {
        self.unique_key.clone().map(|key| (self.seen.kind.clone(), self.seen.organization, key))
    }

    fn is_at(&self, lane: &str, kinds: &[&str]) -> bool {
        self.seen.state == JobState::Ready
            && self.seen.lane == lane
            && kinds.contains(&self.seen.kind.as_str())
    }

    fn is_run(&self, completion: &Completion) -> bool {
        self.seen.id.0 == completion.id && self.run == completion.run && self.worker.is_some()
    }

    /// Out of its worker's hands.
    fn release(&mut self, state: JobState) {
        self.worker = None;
        self.run += 1;
        self.seen.state = state;
        if state == JobState::Dead {
            self.has_key &= self.unique_while & 4 != 0;
        }
    }

    fn end(&mut self, state: JobState, error: Option<String>) {
        self.worker = None;
        self.seen.state = state;
        self.has_key = false;
        self.unique_key = None;
        self.seen.error = error;
    }

    fn due(&mut self, at: DateTime<Utc>) {
        self.seen.due_at = at;
        self.rank = at - AGING * i32::from(self.seen.priority);
    }
}

impl Rules {
    /// Each look at it is a little later than the one before, so that no two moments are the same.
    pub fn tick(&mut self, shift_ms: i64) {
        // Any time at all, which no test may depend on.
        let start = TimeDelta::days(20_000);
        self.ticks += 1;
        self.now = DateTime::UNIX_EPOCH
            + start
            + TimeDelta::milliseconds(shift_ms)
            + TimeDelta::microseconds(self.ticks);
    }

    pub fn seen(&self) -> Vec<Seen> {
        let seen = |row: &Row| Seen {
            due_in: row.seen.due_at - self.now,
            unique_key: row.unique_key.clone().filter(|_| row.has_key || row.unique_while == 0),
            ..row.seen.clone()
        };
        self.rows.iter().map(seen).collect()
    }

    pub fn enqueue(&mut self, jobs: &[NewJob]) -> Vec<JobId> {
        jobs.iter().map(|job| self.enqueue_one(job)).collect()
    }

    fn enqueue_one(&mut self, job: &NewJob) -> JobId {
        let key = job.unique.as_ref().map(|(key, _)| (job.kind.to_owned(), job.organization, key.clone()));
        self.tick_again();
        let within = match &job.unique {
            Some((_, Unique::Within(time))) => Some(*time),
            _ => None,
        };
        // A job without a window looks at none.
        let window = key.clone().zip(job.window.max(within));
        if let Some((key, _)) = &window
            && let Some((end, there)) = self.windows.get(key)
            && *end > self.now
        {
            return *there;
        }
        let unique_while = job.unique.as_ref().map_or(0, |(_, unique)| unique.mask());
        if unique_while != 0
            && let Some(holder) = self.rows.iter().find(|row| row.has_key && row.key() == key)
        {
            return holder.seen.id;
        }
        let at = job.run_at.unwrap_or(self.now) + later(job.delay.unwrap_or_default());
        let (state, at) = if at > self.now { (JobState::Scheduled, at) } else { (JobState::Ready, self.now) };
        let id = job.id.unwrap_or_else(JobId::new);
        if let Some((key, window)) = window {
            self.windows.insert(key, (self.now + later(window), id));
        }
        let mut row = Row {
            seen: Seen {
                id,
                kind: job.kind.to_owned(),
                lane: job.lane.to_owned(),
                state,
                organization: job.organization,
                priority: job.priority,
                attempt: 0,
                max_attempts: job.max_attempts.max(1),
                due_at: at,
                due_in: TimeDelta::zero(),
                unique_key: None,
                error: None,
                args: job.args.clone(),
            },
            run: 0,
            crashes: 0,
            rank: at,
            claimed_at: at,
            worker: None,
            cancel_requested: false,
            unique_while,
            unique_key: job.unique.as_ref().map(|(key, _)| key.clone()),
            has_key: unique_while != 0,
            trace_parent: job.trace_parent.clone(),
            args: job.args.to_string(),
            version: job.version,
        };
        row.due(at);
        self.rows.push(row);
        id
    }

    fn tick_again(&mut self) {
        self.ticks += 1;
        self.now += TimeDelta::microseconds(1);
    }

    /// Makes ready what is due.
    pub fn promote(&mut self) {
        let now = self.now;
        let due = |row: &&mut Row| row.seen.state == JobState::Scheduled && row.seen.due_at <= now;
        self.rows.iter_mut().filter(due).for_each(|row| row.seen.state = JobState::Ready);
    }

    /// Lanes with something to claim.
    pub fn lanes(&self) -> Vec<String> {
        let mut lanes: Vec<String> = self
            .rows
            .iter()
            .filter(|row| row.seen.state == JobState::Ready)
            .map(|row| row.seen.lane.clone())
            .collect();
        lanes.sort_unstable();
        lanes.dedup();
        lanes
    }

    /// Tenants that wait.
    pub fn heads(&self, lane: &str, kinds: &[&str], from: Uuid) -> Vec<(Uuid, f64)> {
        let mut tenants: Vec<Uuid> = self
            .rows
            .iter()
            .filter(|row| row.is_at(lane, kinds))
            .map(Row::tenant)
            .filter(|who| *who >= from)
            .collect();
        tenants.sort_unstable();
        tenants.dedup();
        tenants.truncate(WINDOW as usize);
        tenants.into_iter().map(|tenant| (tenant, 1.0)).collect()
    }

    pub fn claim(&mut self, lane: &str, worker: Uuid, kinds: &[&str], wanted: &Wanted) -> Vec<Envelope> {
        if self.paused.contains(lane) {
            return Vec::new();
        }
        let now = self.now;
        let mut line: Vec<&mut Row> = self.rows.iter_mut().filter(|row| row.is_at(lane, kinds)).collect();
        line.sort_by_key(|row| (row.tenant(), row.rank));
        match wanted {
            Wanted::InOrder(room) => line.truncate(*room),
            Wanted::ByTurns(turns) => {
                let mut left: std::collections::HashMap<Uuid, i64> = turns.iter().copied().collect();
                line.retain(|row| {
                    let left = left.entry(row.tenant()).or_default();
                    *left -= 1;
                    *left >= 0
                });
            }
        }
        line.sort_by_key(|row| (row.rank, row.seen.id));
        line.into_iter().map(|row| row.begin(lane, worker, now)).collect()
    }

    /// How runs ended. One that is not held any more changes nothing; answers how many were.
    pub fn write(&mut self, completions: &[Completion]) -> usize {
        let now = self.now;
        let mut written = 0;
        for completion in completions {
            let Some(row) = self.rows.iter_mut().find(|row| row.is_run(completion)) else { continue };
            written += 1;
            let again = |delay: Duration| {
                if delay.is_zero() { JobState::Ready } else { JobState::Scheduled }
            };
            match &completion.end {
                End::Done { .. } | End::Then { .. } | End::DoneInside { .. } => row.end(JobState::Done, None),
                End::Cancelled { why } => row.end(JobState::Cancelled, Some(why.clone())),
                End::Snooze { delay } | End::GivenBack { delay, .. } => {
                    row.release(again(*delay));
                    row.seen.attempt -= 1;
                    row.due(now + later(*delay));
                }
                End::Retry { delay, error, .. } => {
                    row.release(again(*delay));
                    row.seen.error = Some(error.clone());
                    row.due(now + later(*delay));
                }
                End::Dead { error, .. } => {
                    row.release(JobState::Dead);
                    row.seen.error = Some(error.clone());
                    row.due(now);
                }
                End::Interrupted => {
                    row.release(JobState::Ready);
                    row.seen.attempt -= 1;
                    row.seen.due_at = now;
                }
            }
            self.hold_again(&[completion.id]);
            if let End::Then { next, .. } = &completion.end {
                self.enqueue(next);
            }
        }
        written
    }

    /// The worker is gone: what it held runs again, unless it was its last attempt, or has cost too many workers.
    pub fn lose(&mut self, worker: Uuid, crash_limit: i16) {
        let (now, mut lost) = (self.now, Vec::new());
        for row in self.rows.iter_mut().filter(|row| row.worker == Some(worker)) {
            lost.push(row.seen.id.0);
            row.crashes += 1;
            let poison = row.crashes >= crash_limit || row.seen.attempt >= row.seen.max_attempts;
            // Not for the first time: not together with the others again.
            let apart =
                if row.crashes > 1 && !poison { 2f64.powi(i32::from(row.crashes.min(5)) - 1) } else { 0.0 };
            row.release(match apart {
                _ if poison => JobState::Dead,
                0.0 => JobState::Ready,
                _ => JobState::Scheduled,
            });
            row.seen.due_at = now + later(Duration::from_secs_f64(apart * rand::random::<f64>()));
            row.seen.error = Some("the worker was lost (no heartbeat within the lease)".to_owned());
        }
        self.hold_again(&lost);
        self.cancel_waiting();
    }

    /// Jobs that wait again take the keys they had let go, unless another one has them by now.
    fn hold_again(&mut self, back: &[Uuid]) {
        let mut taken: HashSet<Key> =
            self.rows.iter().filter(|row| row.has_key).filter_map(Row::key).collect();
        let without = |row: &&mut Row| {
            back.contains(&row.seen.id.0) && !row.has_key && row.unique_while & 1 != 0 && row.waits()
        };
        for row in self.rows.iter_mut().filter(without) {
            row.has_key = row.key().is_some_and(|key| taken.insert(key));
        }
    }

    /// Jobs whose cancellation was asked for while they ran, and that came back instead of ending.
    fn cancel_waiting(&mut self) {
        for row in self.rows.iter_mut().filter(|row| row.cancel_requested && row.waits()) {
            row.end(JobState::Cancelled, Some("cancelled while it ran".to_owned()));
        }
    }

    /// Whether somebody wants this run to stop.
    pub fn is_cancelled(&self, id: Uuid, run: i64) -> bool {
        self.rows.iter().any(|row| row.seen.id.0 == id && row.run == run && row.cancel_requested)
    }

    fn row(&mut self, id: JobId) -> Result<&mut Row, AdminError> {
        self.rows.iter_mut().find(|row| row.seen.id == id).ok_or(AdminError::NotFound)
    }

    pub fn cancel(&mut self, id: JobId) -> Result<Cancelled, AdminError> {
        let row = self.row(id)?;
        if row.waits() {
            row.end(JobState::Cancelled, Some("cancelled by request".to_owned()));
            return Ok(Cancelled::Now);
        }
        if row.seen.state == JobState::Running {
            row.cancel_requested = true;
            return Ok(Cancelled::Requested);
        }
        Err(AdminError::WrongState {
            state: row.seen.state,
            hint: "only a job that waits or runs can be cancelled",
        })
    }

    pub fn retry(&mut self, id: JobId) -> Result<(), AdminError> {
        let now = self.now;
        let key = self.row(id)?.key();
        let by = self.rows.iter().find(|row| row.has_key && row.seen.id != id && row.key() == key);
        let by = by.map(|row| row.seen.id);
        let row = self.row(id)?;
        match row.seen.state {
            JobState::Dead => {
                if let Some(by) = by {
                    return Err(AdminError::KeyTaken { by });
                }
                row.seen.attempt = 0;
                row.crashes = 0;
            }
            JobState::Scheduled => {}
            state => {
                return Err(AdminError::WrongState {
                    state,
                    hint: "only a dead or a scheduled job can be retried",
                });
            }
        }
        row.cancel_requested = false;
        row.release(JobState::Ready);
        row.due(now);
        self.hold_again(&[id.0]);
        Ok(())
    }

    pub fn discard(&mut self, id: JobId) -> Result<(), AdminError> {
        let row = self.row(id)?;
        if row.seen.state != JobState::Dead {
            return Err(AdminError::WrongState {
                state: row.seen.state,
                hint: "only a dead job can be discarded",
            });
        }
        let error = row.seen.error.take();
        row.end(JobState::Discarded, error);
        Ok(())
    }
}

impl Row {
    fn begin(&mut self, lane: &str, worker: Uuid, now: DateTime<Utc>) -> Envelope {
        self.run += 1;
        self.seen.attempt += 1;
        self.seen.state = JobState::Running;
        self.worker = Some(worker);
        self.claimed_at = now;
        self.has_key &= self.unique_while & 2 != 0;
        Envelope {
            id: self.seen.id.0,
            run: self.run,
            // No row of a database is behind it.
            worker: Uuid::nil(),
            lane: lane.to_owned(),
            kind: self.seen.kind.clone(),
            organization: self.seen.organization,
            attempt: self.seen.attempt,
            max_attempts: self.seen.max_attempts,
            due_at: self.seen.due_at,
            claimed_at: now,
            trace_parent: self.trace_parent.clone(),
            args: self.args.clone(),
            rank: self.rank,
            limit_key: None,
            was_called: false,
            lane_limited: false,
            is_member: false,
            awaited: None,
            args_version: self.version,
            args_key: None,
            paid: None,
            slots: Arc::new([]),
            sign: StopSign::new(),
            permit: None,
        }
    }
}

fn later(delay: Duration) -> TimeDelta {
    TimeDelta::from_std(delay).unwrap_or(TimeDelta::days(1_000_000))
}
