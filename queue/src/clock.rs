//! The clock by which jobs are due.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// The database's clock, ahead by what a test has moved it: jobs that are due by then become ready. In production nobody
/// moves it.
///
/// A running engine looks again within a second or two; [`Drain`](crate::Drain) and
/// [`testing::Worker`](crate::testing::Worker) look each time. What is enqueued or put off afterwards with a delay
/// counts from the database's own time; [`testing::pass`](crate::testing::pass) lets time pass for all that is there instead.
///
/// ```
/// use std::time::Duration;
///
/// let clock = queue::Clock::default();
/// let config = queue::EngineConfig { clock: clock.clone(), ..queue::EngineConfig::default() };
/// // … Engine::start(…, config) …
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(clock.shift_ms(), 3_600_000);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    /// A new one, which is not moved.
    pub fn new() -> Clock {
        Clock::default()
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_millis() as i64, Ordering::AcqRel);
    }

    /// By how many milliseconds it is ahead.
    pub fn shift_ms(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn handle(&self) -> Arc<AtomicI64> {
        self.0.clone()
    }
}

/// Shared with who keeps the shift of a clock, in milliseconds, in an atomic of its own.
impl From<Arc<AtomicI64>> for Clock {
    fn from(shift_ms: Arc<AtomicI64>) -> Clock {
        Clock(shift_ms)
    }
}
