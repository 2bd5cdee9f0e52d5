//! One SLA clock as a state machine: how much working time a ticket has used up towards one target, and whether that
//! target was kept.
//!
//! The clock counts elapsed working time, not deadlines; `warn_at` and `due_at` are worked out from it whenever it is
//! set going. Every transition takes `now` and first judges what is due by then, so a breach is recorded even if the
//! ticket is resolved before any timer noticed.
//!
//! Goals can change while it runs (another priority, another policy): elapsed time stays, and if the deadline moves back
//! into the future the clock is armed again under the next `generation`. In one generation there is at most one warning
//! and one breach.

use crate::calendar::Calendar;
use crate::ticket::Status;
use crate::words::words;
use chrono::{DateTime, TimeDelta, Utc};

words! {
    /// What a clock measures.
    Metric("SLA metric") {
        /// Until the first public reply of somebody on the staff.
        FirstResponse => "first_response",
        /// Until the ticket is resolved; goes on when it is reopened.
        Resolution => "resolution",
    }
}

words! {
    /// What happened to a clock.
    Trigger("SLA trigger") {
        Warning => "warning",
        Breach => "breach",
    }
}

words! {
    /// The clock in one word, as the API shows it.
    State("SLA state") {
        Running => "running",
        /// The ticket waits for somebody else.
        Paused => "paused",
        /// Past its target and still going.
        Breached => "breached",
        /// Done in time.
        Met => "met",
        /// Done, but too late.
        Missed => "missed",
        Cancelled => "cancelled",
    }
}

/// What a ticket's status means to its clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Active,
    Waiting,
    Finished,
    Cancelled,
}

impl From<Status> for Work {
    fn from(status: Status) -> Self {
        match status {
            Status::Cancelled => Work::Cancelled,
            status if status.pauses_clocks() => Work::Waiting,
            status if status.is_open() => Work::Active,
            _ => Work::Finished,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Running { since: DateTime<Utc> },
    Paused,
    Done { at: DateTime<Utc> },
    Cancelled,
}

/// Working time allowed, and at which share of it to warn (1 to 99 percent). Without a target nothing is ever due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Goal {
    pub target: Option<TimeDelta>,
    pub warn_percent: Option<u8>,
}

impl Goal {
    fn warn_after(&self) -> Option<TimeDelta> {
        let (target, percent) = (self.target?.num_microseconds()?, self.warn_percent?);
        Some(TimeDelta::microseconds((i128::from(target) * i128::from(percent) / 100) as i64))
    }
}

/// A warning or breach that was found, and the moment for which it stands (not that of its discovery).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub trigger: Trigger,
    pub at: DateTime<Utc>,
    pub generation: i32,
    pub goal: Goal,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    pub metric: Metric,
    pub goal: Goal,
    pub started_at: DateTime<Utc>,
    pub phase: Phase,
    /// Working time before the current run.
    pub elapsed: TimeDelta,
    /// Known while it runs.
    pub warn_at: Option<DateTime<Utc>>,
    /// Known while it runs, and kept when it is done.
    pub due_at: Option<DateTime<Utc>>,
    pub warned_at: Option<DateTime<Utc>>,
    pub breached_at: Option<DateTime<Utc>>,
    /// Raised when a warning or breach is taken back because the goal changed.
    pub generation: i32,
    /// When the deadlines were last worked out: nobody could have noticed a breach before.
    pub armed_at: DateTime<Utc>,
}

impl Clock {
    pub fn start(
        metric: Metric,
        goal: Goal,
        at: DateTime<Utc>,
        calendar: &Calendar,
        now: DateTime<Utc>,
    ) -> Self {
        let mut clock = Clock {
            metric,
            goal,
            started_at: at,
            phase: Phase::Running { since: at },
            elapsed: TimeDelta::zero(),
            warn_at: None,
            due_at: None,
            warned_at: None,
            breached_at: None,
            generation: 1,
            armed_at: now,
        };
        clock.arm(calendar, now);
        clock
    }

    /// A clock whose promise is made only `now`, for a ticket that began at `at` and has been led along since: `moves` are
    /// what its status meant and from when, in order. It is as if it had run from the beginning; a breach that would
    /// have been found on the way comes out.
    pub fn start_late(
        metric: Metric,
        goal: Goal,
        at: DateTime<Utc>,
        moves: impl IntoIterator<Item = (DateTime<Utc>, Work)>,
        calendar: &Calendar,
        now: DateTime<Utc>,
    ) -> (Self, Option<Verdict>) {
        let mut clock = Clock::start(metric, goal, at, calendar, now);
        let mut verdict = None;
        for (moment, work) in moves {
            verdict = verdict.or(clock.follow(work, calendar, moment.min(now).max(at)));
        }
        clock.armed_at = now;
        (clock, verdict)
    }

    pub fn state(&self) -> State {
        match (self.phase, self.breached_at) {
            (Phase::Running { .. }, None) => State::Running,
            (Phase::Running { .. }, Some(_)) => State::Breached,
            (Phase::Paused, _) => State::Paused,
            (Phase::Done { .. }, None) => State::Met,
            (Phase::Done { .. }, Some(_)) => State::Missed,
            (Phase::Cancelled, _) => State::Cancelled,
        }
    }

    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Running { .. } | Phase::Paused)
    }

    /// Working time used up to `now`.
    pub fn elapsed_at(&self, calendar: &Calendar, now: DateTime<Utc>) -> TimeDelta {
        match self.phase {
            Phase::Running { since } => self.elapsed + calendar.working_between(since, now),
            _ => self.elapsed,
        }
    }

    /// Working time left; negative by how much it is late.
    pub fn remaining_at(&self, calendar: &Calendar, now: DateTime<Utc>) -> Option<TimeDelta> {
        Some(self.goal.target? - self.elapsed_at(calendar, now))
    }

    /// When somebody has to look at it next.
    pub fn next_check(&self) -> Option<DateTime<Utc>> {
        if !matches!(self.phase, Phase::Running { .. }) || self.breached_at.is_some() {
            return None;
        }
        let warn = self.warn_at.filter(|_| self.warned_at.is_none());
        [warn, self.due_at].into_iter().flatten().min()
    }

    /// What is due by `now` and was not found before. A breach hides a warning that nobody noticed in time.
    pub fn judge(&mut self, now: DateTime<Utc>) -> Option<Verdict> {
        if let Some(breach) = self.judge_breach(now) {
            return Some(breach);
        }
        if !matches!(self.phase, Phase::Running { .. })
            || self.breached_at.is_some()
            || self.warned_at.is_some()
        {
            return None;
        }
        let at = self.warn_at.filter(|at| *at <= now)?;
        self.warned_at = Some(at);
        Some(self.verdict(Trigger::Warning, at))
    }

    fn judge_breach(&mut self, now: DateTime<Utc>) -> Option<Verdict> {
        if !matches!(self.phase, Phase::Running { .. }) || self.breached_at.is_some() {
            return None;
        }
        let at = self.due_at.filter(|at| *at <= now)?;
        self.breached_at = Some(at);
        Some(self.verdict(Trigger::Breach, at))
    }

    fn verdict(&self, trigger: Trigger, at: DateTime<Utc>) -> Verdict {
        Verdict { trigger, at, generation: self.generation, goal: self.goal }
    }

    /// Follows the ticket's status. A first response that was given stays given; a resolution clock goes on when the
    /// ticket is reopened, without the time for which it lay resolved. Resolving counts as a response.
    pub fn follow(&mut self, work: Work, calendar: &Calendar, now: DateTime<Utc>) -> Option<Verdict> {
        match (self.phase, work) {
            (Phase::Done { .. }, _) if self.metric == Metric::FirstResponse => None,
            (Phase::Running { .. }, Work::Active)
            | (Phase::Paused, Work::Waiting)
            | (Phase::Done { .. }, Work::Finished)
            | (Phase::Cancelled, Work::Cancelled | Work::Finished) => None,
            (_, Work::Active) => {
                self.phase = Phase::Running { since: now };
                self.arm(calendar, now);
                None
            }
            (_, Work::Waiting) => self.halt(Phase::Paused, calendar, now),
            (_, Work::Finished) => self.halt(Phase::Done { at: now }, calendar, now),
            (_, Work::Cancelled) => self.halt(Phase::Cancelled, calendar, now),
        }
    }

    /// The staff has replied: the end of a first response clock, nothing to others.
    pub fn reply(&mut self, calendar: &Calendar, now: DateTime<Utc>) -> Option<Verdict> {
        (self.metric == Metric::FirstResponse && self.is_open())
            .then(|| self.halt(Phase::Done { at: now }, calendar, now))?
    }

    fn halt(&mut self, phase: Phase, calendar: &Calendar, now: DateTime<Utc>) -> Option<Verdict> {
        let verdict = self.judge_breach(now);
        self.elapsed = self.elapsed_at(calendar, now);
        self.phase = phase;
        self.warn_at = None;
        if phase == Phase::Paused {
            self.due_at = None;
        }
        verdict
    }

    /// Another goal, or another calendar, from now on. What was due until now is judged by the old ones, so up to two
    /// verdicts come out. Working time before `now` was measured by `before` and stays; if only the contents of the same
    /// calendar were edited, the current run is measured anew by `after`.
    pub fn retarget(
        &mut self,
        goal: Goal,
        before: Option<&Calendar>,
        after: &Calendar,
        now: DateTime<Utc>,
    ) -> Vec<Verdict> {
        if !self.is_open() {
            return Vec::new();
        }
        let mut verdicts = Vec::from_iter(self.judge(now));
        if let (Phase::Running { .. }, Some(before)) = (self.phase, before) {
            self.elapsed = self.elapsed_at(before, now);
            self.phase = Phase::Running { since: now };
        }
        self.goal = goal;
        let elapsed = self.elapsed_at(after, now);
        let reached = |threshold: Option<TimeDelta>| threshold.is_some_and(|t| elapsed >= t);
        if self.breached_at.is_some() && !reached(goal.target) {
            (self.breached_at, self.warned_at) = (None, None);
            self.generation += 1;
        } else if self.breached_at.is_none() && self.warned_at.is_some() && !reached(goal.warn_after()) {
            self.warned_at = None;
            self.generation += 1;
        }
        self.arm(after, now);
        verdicts.extend(self.judge(now));
        verdicts
    }

    fn arm(&mut self, calendar: &Calendar, now: DateTime<Utc>) {
        self.armed_at = now;
        let Phase::Running { since } = self.phase else { return };
        let elapsed = self.elapsed;
        let after = |threshold: TimeDelta| match threshold - elapsed {
            left if left > TimeDelta::zero() => calendar.add_working(since, left),
            _ => Some(since),
        };
        self.warn_at = self.goal.warn_after().and_then(after);
        // A deadline that was missed in an earlier run stays the deadline.
        self.due_at = self.breached_at.or_else(|| self.goal.target.and_then(after));
    }
}

#[cfg(test)]
#[path = "sla_tests.rs"]
mod tests;
