//! Out of office: somebody is away for a time, and somebody else stands in.

use crate::UserId;
use chrono::{DateTime, TimeDelta, Utc};

/// Longer than anybody is away.
pub const LONGEST_ABSENCE: TimeDelta = TimeDelta::days(366);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absence {
    pub from: DateTime<Utc>,
    /// Not part of it.
    pub until: DateTime<Utc>,
    /// Who gets what would be theirs; nobody: it waits.
    pub substitute: Option<UserId>,
    /// For those who look them up.
    pub note: Option<String>,
}

impl Absence {
    /// What is wrong with its times, and with which.
    pub fn wrong_times(&self, now: DateTime<Utc>) -> Option<(&'static str, &'static str)> {
        if self.until <= self.from {
            Some(("until", "must be after from"))
        } else if self.until <= now {
            Some(("until", "must be in the future"))
        } else if self.until - self.from > LONGEST_ABSENCE {
            Some(("until", "must be within a year of from"))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_order_and_not_over() {
        let now: DateTime<Utc> = "2026-05-01T00:00:00Z".parse().unwrap();
        let wrong = |from: i64, until: i64| {
            let (from, until) = (now + TimeDelta::days(from), now + TimeDelta::days(until));
            Absence { from, until, substitute: None, note: None }.wrong_times(now).map(|(field, _)| field)
        };
        assert_eq!(wrong(-3, 3), None);
        assert_eq!(wrong(10, 376), None);
        for (from, until) in [(3, 3), (3, 2), (-3, 0), (-3, -1), (0, 367)] {
            assert_eq!(wrong(from, until), Some("until"), "{from} {until}");
        }
    }
}
