//! When a channel may be sent to. Its peer's limits ("slow down") and absences (no connection) are kept once for the
//! channel, so that not every message has to find them out for itself.
//!
//! A channel without trouble is not held back. After a "slow down" it is *paced* for a while: one message at a time,
//! and those that wait have turns in a line. After several failed connections in a row it *rests*: now and then one
//! message tries, the others keep waiting.

use chrono::{DateTime, TimeDelta, Utc};

/// Nobody is asked again sooner than this, whatever they say.
pub const LEAST_WAIT: TimeDelta = TimeDelta::seconds(1);
/// Between two messages while the channel is paced. Slack takes one a second; a little more leaves room for the network.
pub const PACE: TimeDelta = TimeDelta::milliseconds(1_100);
/// How long a channel is paced after its peer last asked to slow down.
pub const PACED_FOR: TimeDelta = TimeDelta::minutes(10);
/// Failed connections in a row after which the channel rests.
pub const MOST_FAILURES: i32 = 5;
/// A resting channel is tried again after as long as it has been failing, within these limits.
pub const SHORTEST_REST: TimeDelta = TimeDelta::seconds(10);
pub const LONGEST_REST: TimeDelta = TimeDelta::minutes(5);
/// For waits that cost no attempt: what was not taken by then is given up.
pub const PATIENCE: TimeDelta = TimeDelta::hours(24);
/// No attempt takes longer; a probe whose process died holds up the channel for this long.
const PROBE: TimeDelta = TimeDelta::seconds(30);
/// Between the turns of those who wait for a resting channel.
const STEP: TimeDelta = TimeDelta::milliseconds(50);

/// The default is a channel without trouble.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gate {
    /// Nothing is sent earlier.
    pub not_before: Option<DateTime<Utc>>,
    /// The turn that the next in the line gets, if that is in the future.
    pub line_end: Option<DateTime<Utc>>,
    pub paced_until: Option<DateTime<Utc>>,
    /// Failed connections in a row, and the first of them.
    pub failures: i32,
    pub failing_since: Option<DateTime<Utc>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Go,
    /// Come back then: this turn is yours.
    Wait(DateTime<Utc>),
}

impl Gate {
    /// True when [`Gate::enter`] would let everybody through and change nothing.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        !self.is_resting() && !self.is_paced(now) && self.not_before.is_none_or(|at| at <= now)
    }

    pub fn is_resting(&self) -> bool {
        self.failures >= MOST_FAILURES
    }

    fn is_paced(&self, now: DateTime<Utc>) -> bool {
        self.paced_until.is_some_and(|until| until > now)
    }

    /// May a message be sent now? `turn`: what it was given when it had to wait.
    pub fn enter(&mut self, now: DateTime<Utc>, turn: Option<DateTime<Utc>>) -> Entry {
        if self.not_before.is_some_and(|at| at > now) {
            return Entry::Wait(self.line_up(now));
        }
        if self.is_resting() {
            self.not_before = Some(now + PROBE);
            return Entry::Go;
        }
        if self.is_paced(now) {
            let waited = turn.is_some_and(|turn| turn <= now);
            if !waited && self.line_end.is_some_and(|end| end > now) {
                return Entry::Wait(self.line_up(now));
            }
            self.not_before = Some(now + PACE);
        }
        Entry::Go
    }

    /// A turn at the end of the line.
    pub fn line_up(&mut self, now: DateTime<Utc>) -> DateTime<Utc> {
        let turn = [self.line_end, self.not_before].into_iter().flatten().fold(now, DateTime::max);
        let step = if self.is_paced(now) && !self.is_resting() { PACE } else { STEP };
        self.line_end = Some(turn + step);
        turn
    }

    /// The peer asked to come back after `wait`.
    pub fn slow_down(&mut self, now: DateTime<Utc>, wait: TimeDelta) {
        let until = now + wait.max(LEAST_WAIT);
        self.not_before = self.not_before.max(Some(until));
        self.paced_until = Some(until + PACED_FOR);
        (self.failures, self.failing_since) = (0, None);
    }

    /// There was no connection, or no answer in time.
    pub fn unreachable(&mut self, now: DateTime<Utc>) {
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(now);
        if self.is_resting() {
            self.not_before = Some(now + (now - since).clamp(SHORTEST_REST, LONGEST_REST));
        }
    }

    /// The peer answered, whatever it said.
    pub fn reached(&mut self, now: DateTime<Utc>) {
        if self.is_resting() {
            self.not_before = self.is_paced(now).then(|| now + PACE);
        }
        (self.failures, self.failing_since) = (0, None);
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
