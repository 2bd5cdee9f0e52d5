//! The lane as a backend of apalis' worker runtime. It does no I/O itself: the claimer fills a hand-over, the worker
//! empties it. Nothing here can fail, so a lost database never ends a worker.

use crate::claim::Envelope;
use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::worker::context::WorkerContext;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tower::layer::util::Identity;

/// Claimed jobs that no handler has yet. Bounded by the lane's permits, which the claimer takes first.
#[derive(Clone, Debug, Default)]
pub(crate) struct HandOver {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// On the heap: an envelope passes through several hands, and is large.
    waiting: VecDeque<Box<Envelope>>,
    waker: Option<Waker>,
    closed: bool,
}

impl HandOver {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `Err` gives them back: the worker is stopping.
    pub fn push(&self, envelopes: Vec<Envelope>) -> Result<(), Vec<Envelope>> {
        let mut inner = self.lock();
        if inner.closed {
            return Err(envelopes);
        }
        inner.waiting.extend(envelopes.into_iter().map(Box::new));
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    /// Ends the worker after what it has started; answers what it had not.
    pub fn close(&self) -> Vec<Envelope> {
        let mut inner = self.lock();
        inner.closed = true;
        if let Some(waker) = inner.waker.take() {
            waker.wake();
        }
        inner.waiting.drain(..).map(|envelope| *envelope).collect()
    }
}

/// One lane.
#[derive(Debug)]
pub(crate) struct LaneBackend {
    pub hand_over: HandOver,
}

impl Backend for LaneBackend {
    type Task = Task<Box<Envelope>>;
    type Error = Infallible;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        worker: &WorkerContext,
    ) -> Poll<Option<Result<Self::Task, Infallible>>> {
        let mut inner = self.hand_over.lock();
        if let Some(envelope) = inner.waiting.pop_front() {
            return Poll::Ready(Some(Ok(Task::new(envelope))));
        }
        if inner.closed {
            // An exhausted backend alone does not end a worker; it fails only for one that was never started.
            let _ = worker.stop();
            return Poll::Ready(None);
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Completions are flushed by the engine after all lanes have ended.
    fn poll_close(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }
}

impl BackendConfig for LaneBackend {
    type Args = Box<Envelope>;
    type Id = uuid::Uuid;
    type Kind = Ephemeral;
    type Config = ();
    type Layer = Identity;

    fn config(&self) -> &() {
        &()
    }

    fn middleware(&mut self, _: &mut WorkerContext) -> Identity {
        Identity::new()
    }
}
