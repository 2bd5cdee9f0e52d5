//! For tests of jobs and of what enqueues them.
//!
//! * [`Enqueued`] asserts that a job is there, and shows what is there instead.
//! * [`inline`] runs a handler by itself: no queue, no server.
//! * [`Worker`] claims and runs by hand: [one job](Worker::perform), all that is [pending](Worker::drain), or claim and end
//!   as two steps, with a crash between them.
//! * [`Memory`] is a queue without a server, with the rules of the real one, for unit tests of handlers.
//! * [`Clock`](crate::Clock) and [`pass`] let time go by; nobody sleeps.
//!
//! A handler and its unit test, without any server:
//!
//! ```
//! use queue::testing::{Ended, Enqueued, Memory, Worker};
//! use queue::{Job, JobResult, NewJob, Outcome, Registry, Run, Running};
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//!
//! #[derive(Serialize, Deserialize)]
//! struct Greet { name: String }
//!
//! impl Job for Greet {
//!     const KIND: &'static str = "greet";
//!     const LANE: &'static str = "default";
//! }
//!
//! impl Run<()> for Greet {
//!     async fn run(self, job: &Running, _: &()) -> JobResult {
//!         if job.attempt == 1 {
//!             return Err(anyhow::anyhow!("nobody opens").into());
//!         }
//!         Ok(Outcome::DoneWith(format!("hello, {}", self.name).into()))
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let memory = Memory::new();
//! memory.enqueue(&[NewJob::of(&Greet { name: "Ada".into() })]);
//! Enqueued::of::<Greet>().args(serde_json::json!({"name": "Ada"})).assert_in_memory(&memory);
//!
//! let mut worker = Worker::in_memory(&memory, Registry::new().job::<Greet>(), ());
//! let first = worker.perform::<Greet>().await.expect("a job");
//! assert!(matches!(first.end, Ended::Retry { .. }));
//!
//! memory.advance(Duration::from_secs(2)); // the backoff is over
//! let second = worker.perform::<Greet>().await.expect("the same again");
//! assert_eq!(second.end, Ended::Done { result: Some("hello, Ada".into()) });
//! # }
//! ```

mod enqueued;
mod inline;
mod memory;
mod seen;
mod worker;

pub use enqueued::Enqueued;
pub use inline::{Inline, inline};
pub use memory::Memory;
pub use seen::{Seen, jobs};
pub use worker::{Claimed, Ended, Performed, Worker};

use sqlx::postgres::types::PgInterval;
use sqlx::{Connection, PgConnection};
use std::time::Duration;

/// Lets time pass for everything that waits in this database: due times, places in the lines, windows of unique keys, tokens of
/// rates and the next moments of schedules come nearer by so much. Leases are left alone, since workers live in real time. Needs a connection that
/// works for no organization.
pub async fn pass(connection: &mut PgConnection, time: Duration) -> Result<(), sqlx::Error> {
    let time = PgInterval { months: 0, days: 0, microseconds: time.as_micros() as i64 };
    let mut tx = connection.begin().await?;
    for older in [
        "update queue.jobs set due_at = due_at - $1, rank = rank - $1",
        "update queue.unique_windows set ends_at = ends_at - $1",
        "update queue.slots set tokens_until = tokens_until - $1",
        "update queue.schedules set next_at = next_at - $1, last_at = last_at - $1",
    ] {
        sqlx::query(older).bind(time).execute(&mut *tx).await?;
    }
    tx.commit().await
}
