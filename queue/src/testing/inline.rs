//! A handler by itself.

use crate::keys::KeyRing;
use crate::news::Voice;
use crate::payload::Payload;
use crate::registry::Registry;
use crate::running::Running;
use crate::{JobError, JobId, JobResult, Retention, Run};
use chrono::DateTime;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Runs the handler of these arguments right here: no queue, no server, no timeout, no retry; a panic is the test's. The arguments are written
/// and read as on their way through the queue.
///
/// There is no row behind such a run: [`Running::complete_in`] and [`Running::progress`] succeed and write nothing, what comes next
/// is not enqueued, it has no children, and nothing goes along.
///
/// ```
/// # use queue::{Job, JobResult, Outcome, Run, Running};
/// # use serde::{Deserialize, Serialize};
/// #[derive(Serialize, Deserialize)]
/// struct Double(u32);
/// # impl Job for Double {
/// #     const KIND: &'static str = "double";
/// #     const LANE: &'static str = "default";
/// # }
/// impl Run<()> for Double {
///     async fn run(self, _: &Running, _: &()) -> JobResult {
///         Ok(Outcome::DoneWith((self.0 * 2).into()))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let result = queue::testing::inline(&Double(21)).run(&()).await;
/// assert!(matches!(result, Ok(Outcome::DoneWith(answer)) if answer == 42));
/// # }
/// ```
pub fn inline<J>(args: &J) -> Inline<'_, J> {
    Inline { args, organization: None, attempt: 1, cancelled: false }
}

/// See [`inline`].
#[derive(Debug)]
#[must_use]
pub struct Inline<'a, J> {
    args: &'a J,
    organization: Option<Uuid>,
    attempt: i16,
    cancelled: bool,
}

impl<J> Inline<'_, J> {
    pub fn organization(mut self, id: impl Into<Uuid>) -> Self {
        self.organization = Some(id.into());
        self
    }

    /// As if it had been tried before; 1 is the first.
    pub fn attempt(mut self, attempt: i16) -> Self {
        self.attempt = attempt;
        self
    }

    /// As if somebody had cancelled it already.
    pub fn cancelled(mut self) -> Self {
        self.cancelled = true;
        self
    }

    /// What the handler answers.
    ///
    /// # Panics
    /// As the handler does.
    pub async fn run<S>(self, shared: &S) -> JobResult
    where
        J: Run<S>,
        S: Send + Sync + 'static,
    {
        let cancelled = CancellationToken::new();
        if self.cancelled {
            cancelled.cancel();
        }
        let running = Running {
            id: JobId::new(),
            run: 1,
            kind: J::KIND.to_owned(),
            lane: J::LANE.to_owned(),
            organization: self.organization,
            attempt: self.attempt,
            max_attempts: J::MAX_ATTEMPTS,
            due_at: DateTime::UNIX_EPOCH,
            trace_parent: None,
            worker: Uuid::nil(),
            rank: DateTime::UNIX_EPOCH,
            cancelled,
            retention: Retention::None,
            slots: Arc::new([]),
            is_member: false,
            awaited: None,
            keys: KeyRing::default(),
            secrets: OnceLock::new(),
            completed: AtomicBool::new(false),
            went_along: AtomicU64::new(0),
            voice: Voice::default(),
        };
        let registry = Registry::new().job::<J>();
        let kind = registry.get(J::KIND).expect("it was put in");
        let args = serde_json::to_string(self.args)?;
        let payload =
            Payload { id: running.id.0, kind: J::KIND, args: &args, version: J::VERSION, key: None };
        match kind.handler.run(payload, &KeyRing::default(), &running, shared) {
            Ok(work) => work.await,
            Err(error) => Err(JobError::GiveUp(error.into())),
        }
    }
}
