//! The rules of outgoing webhooks: when a delivery is tried again, and when a webhook that only fails is switched off.

use crate::words::words;
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

words! {
    /// How a delivery stands.
    WebhookStatus("webhook delivery status") {
        /// Waits for its first or next attempt.
        Pending => "pending",
        /// The receiver has answered 2xx.
        Delivered => "delivered",
        /// Will not be tried again by itself; its last error says why.
        Failed => "failed",
    }
}

words! {
    /// Why a webhook is switched off.
    WebhookOff("reason") {
        /// Somebody did it.
        ByHand => "by_hand",
        /// The receiver answered 410: it is not there any more.
        Gone => "gone",
        /// Nothing was delivered for [`FAILING_FOR`].
        Failing => "failing",
        /// Whoever it spoke for was deleted.
        OwnerDeleted => "owner_deleted",
    }
}

/// Waits after the first, second … failed attempt, in seconds: a little over 22 hours together.
const WAITS: [u64; 9] = [5, 30, 120, 600, 1_800, 3_600, 10_800, 21_600, 43_200];
pub const MOST_ATTEMPTS: i16 = WAITS.len() as i16 + 1;

/// So long nothing has been delivered …
pub const FAILING_FOR: TimeDelta = TimeDelta::days(3);
/// … and so many attempts have failed since: then it is switched off.
pub const FAILURES: i32 = 20;

/// How long until the next attempt after the `attempt`th (from 1) failed; `None`: there is none. `chance` in 0..1 spreads it by ±20 %, so that
/// what failed together does not come back together.
pub fn wait(attempt: i16, chance: f64) -> Option<Duration> {
    let seconds = *WAITS.get(usize::try_from(attempt.max(1) - 1).ok()?)?;
    Some(Duration::from_secs_f64(seconds as f64 * (0.8 + 0.4 * chance.clamp(0.0, 1.0))))
}

/// Whether a webhook has failed for so long that it is switched off. `since`: the first failure after the last delivery.
pub fn has_failed_for_good(now: DateTime<Utc>, since: DateTime<Utc>, failures: i32) -> bool {
    now - since >= FAILING_FOR && failures >= FAILURES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        for (attempt, seconds) in (1..).zip(WAITS) {
            let (least, most) = (wait(attempt, 0.0).unwrap(), wait(attempt, 1.0).unwrap());
            assert!((least.as_secs_f64() - seconds as f64 * 0.8).abs() < 0.01);
            assert!((most.as_secs_f64() - seconds as f64 * 1.2).abs() < 0.01);
        }
        assert_eq!(wait(MOST_ATTEMPTS, 0.5), None);
        assert_eq!(wait(i16::MAX, 0.5), None);
        assert_eq!(wait(i16::MIN + 1, 0.5), wait(1, 0.5));
    }

    #[test]
    fn a_short_or_a_rare_failure_switches_nothing_off() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        assert!(has_failed_for_good(now, now - FAILING_FOR, FAILURES));
        assert!(!has_failed_for_good(now, now - FAILING_FOR + TimeDelta::seconds(1), 1_000));
        assert!(!has_failed_for_good(now, now - TimeDelta::days(30), FAILURES - 1));
    }
}
