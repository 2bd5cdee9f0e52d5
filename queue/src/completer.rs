//! Writes how runs ended, many at a time. Every write names the run it ends; a run whose lease was lost changes nothing.

mod write;

pub(crate) use write::{Settled, call, write};

use crate::held::{Claim, Held};
use crate::new_job::NewJob;
use crate::plumbing::{Patience, Plumbing, is_about_the_data};
use crate::retention::Retention;
use chrono::{DateTime, Utc};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

const BATCH: usize = 1000;
/// How long a look at what was completed inside handlers' transactions waits for company: only the news of a rollback hangs on it.
const GATHER: Duration = Duration::from_millis(20);
/// How long a run waits for a handler's transaction that has what it needs: the first time, and later. The others wait with it.
const SHORT: Duration = Duration::from_millis(100);
const SHORTER: Duration = Duration::from_millis(20);
/// When it is tried again.
const AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    Failed,
    Timeout,
    Panicked,
    Undecodable,
    GaveUp,
    RolledBack,
}

impl Failure {
    pub fn name(self) -> &'static str {
        match self {
            Failure::Failed => "failed",
            Failure::Timeout => "timeout",
            Failure::Panicked => "panicked",
            Failure::Undecodable => "undecodable",
            Failure::GaveUp => "gave_up",
            Failure::RolledBack => "rolled_back",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum End {
    Done {
        result: Option<String>,
    },
    Then {
        next: Vec<NewJob>,
        last_attempt: bool,
    },
    /// Completed in the handler's own transaction. Should that have been rolled back, the job is tried again.
    DoneInside {
        last_attempt: bool,
    },
    Cancelled {
        why: String,
    },
    Snooze {
        delay: Duration,
    },
    /// It cannot be read here, but elsewhere: again, and not counted.
    GivenBack {
        delay: Duration,
        why: String,
    },
    Retry {
        delay: Duration,
        failure: Failure,
        error: String,
    },
    Dead {
        failure: Failure,
        error: String,
    },
    /// The process ended first: again, at once, and not counted.
    Interrupted,
}

impl End {
    pub fn name(&self) -> &'static str {
        match self {
            End::Done { .. } | End::Then { .. } | End::DoneInside { .. } => "done",
            End::Cancelled { .. } => "cancelled",
            End::Snooze { .. } => "snoozed",
            End::GivenBack { .. } => "given_back",
            End::Retry { failure, .. } => failure.name(),
            End::Dead { .. } => "dead",
            End::Interrupted => "interrupted",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Completion {
    pub id: Uuid,
    pub run: i64,
    pub worker: Uuid,
    pub attempt: i16,
    pub organization: Option<Uuid>,
    pub claimed_at: DateTime<Utc>,
    pub retention: Retention,
    /// What it has used of limits: to be given to those who wait.
    pub slots: Arc<[String]>,
    /// Of a batch.
    pub is_member: bool,
    pub end: End,
}

impl Completion {
    /// The run that it ends.
    pub fn claim(&self) -> Claim {
        (self.id, self.run)
    }
}

pub(crate) enum Command {
    Complete(Box<Completion>),
    /// Answered when everything sent before is written.
    Flush(oneshot::Sender<()>),
}

pub(crate) struct Completer {
    pub receiver: mpsc::Receiver<Command>,
    pub held: Arc<Held>,
    pub plumbing: Plumbing,
    pub clock_shift: Arc<AtomicI64>,
    pub stop: CancellationToken,
}

impl Completer {
    pub async fn run(mut self) {
        let mut commands = Vec::with_capacity(BATCH);
        let mut patience = Patience::default();
        let mut batch: Vec<Completion> = Vec::new();
        let mut due = Instant::now();
        // What waits for a transaction of somebody else; and those who wait until it is written.
        let mut late: Vec<Completion> = Vec::new();
        let mut flushes: Vec<oneshot::Sender<()>> = Vec::new();
        let mut again = Instant::now();
        loop {
            let receive = self.receiver.recv_many(&mut commands, BATCH);
            let received = if batch.is_empty() && !late.is_empty() {
                tokio::time::timeout_at(again, receive).await.ok()
            } else if batch.is_empty() {
                let received = receive.await;
                due = Instant::now() + GATHER;
                Some(received)
            } else {
                tokio::time::timeout_at(due, receive).await.ok()
            };
            let mut flushed = Vec::new();
            for command in commands.drain(..) {
                match command {
                    Command::Complete(completion) => batch.push(*completion),
                    Command::Flush(answer) => flushed.push(answer),
                }
            }
            let ended = received == Some(0);
            let hurried = ended || received.is_none() || !flushed.is_empty() || batch.len() >= BATCH;
            // Their rows are gone already, most likely, and nobody waits for what they used.
            let no_hurry = |c: &Completion| matches!(c.end, End::DoneInside { .. }) && c.slots.is_empty();
            if !hurried && batch.iter().all(no_hurry) {
                continue;
            }
            if !self.write_all(std::mem::take(&mut batch), SHORT, &mut late, &mut patience).await {
                return;
            }
            // Apart, so that those of this round do not wait for them, and not in every round.
            if !late.is_empty() && (ended || Instant::now() >= again) {
                if !self.write_all(std::mem::take(&mut late), SHORTER, &mut late, &mut patience).await {
                    return;
                }
                again = Instant::now() + AGAIN;
            }
            flushes.extend(flushed);
            if late.is_empty() {
                for answer in flushes.drain(..) {
                    let _ = answer.send(());
                }
            }
            if ended && (late.is_empty() || self.stop.is_cancelled()) {
                return;
            }
            if ended {
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// Something in the batch cannot be written. The others are, and that one is a dead letter: the process must not stand still because of
    /// it. An error is the database's, and all of it is to be tried again.
    async fn one_by_one(
        &self,
        batch: &[Completion],
        hurry: Duration,
        settled: &Settled,
    ) -> Result<Vec<Completion>, sqlx::Error> {
        let mut late = Vec::new();
        for completion in batch {
            let error = match self.write_one(completion.clone(), hurry, settled).await {
                Ok(waiting) => {
                    late.extend(waiting);
                    continue;
                }
                Err(error) => error,
            };
            if !is_about_the_data(&error) {
                return Err(error);
            }
            tracing::error!(job.id = %completion.id, %error, end = completion.end.name(), "the end of a job cannot be written");
            let dead = Completion {
                end: End::Dead {
                    failure: Failure::Failed,
                    error: format!("its end ({}) could not be written: {error}", completion.end.name()),
                },
                ..completion.clone()
            };
            match self.write_one(dead, hurry, settled).await {
                Err(error) if is_about_the_data(&error) => {
                    settled.add([completion]);
                    tracing::error!(job.id = %completion.id, %error, "nor as a dead letter; it stays claimed until this process ends");
                }
                written => late.extend(written?),
            }
        }
        Ok(late)
    }

    /// After the commit, so that whoever came to wait meanwhile is seen. Best effort: the leader calls too.
    async fn call(&self, batch: &Arc<Vec<Completion>>) {
        if batch.iter().all(|completion| completion.slots.is_empty()) {
            return;
        }
        let (batch, shift) = (batch.clone(), self.clock_shift.load(Ordering::Relaxed));
        let called = self
            .plumbing
            .run(move |connection| Box::pin(async move { call(connection, &batch, shift).await }))
            .await;
        if let Err(error) = called {
            tracing::debug!(%error, "those who wait for a limit were not called; the leader will");
        }
    }

    async fn write_one(
        &self,
        completion: Completion,
        hurry: Duration,
        settled: &Settled,
    ) -> Result<Vec<Completion>, sqlx::Error> {
        let settled = settled.clone();
        self.plumbing
            .run(move |connection| {
                Box::pin(async move { write(connection, &[completion], Some(hurry), &settled).await })
            })
            .await
    }

    /// Until it is written, or added to what is `late`; false when the end came first.
    async fn write_all(
        &self,
        batch: Vec<Completion>,
        hurry: Duration,
        late: &mut Vec<Completion>,
        patience: &mut Patience,
    ) -> bool {
        let batch = Arc::new(batch);
        let (mut rest, settled) = (batch.clone(), Settled::default());
        while !batch.is_empty() {
            let (work, done) = (rest.clone(), settled.clone());
            let mut written = self
                .plumbing
                .run(move |connection| {
                    Box::pin(async move { write(connection, &work, Some(hurry), &done).await })
                })
                .await;
            if written.as_ref().is_err_and(is_about_the_data) {
                written = self.one_by_one(&settled.rest_of(&batch), hurry, &settled).await;
            }
            if written.is_err() {
                // Those that were written before are gone: again, they would be taken for runs that had lost their lease.
                rest = Arc::new(settled.rest_of(&batch));
            }
            match written {
                Ok(waiting) => {
                    patience.reset();
                    let waits: HashSet<Claim> = waiting.iter().map(Completion::claim).collect();
                    let written = batch.iter().filter(|completion| !waits.contains(&completion.claim()));
                    self.held.remove(written.map(Completion::claim));
                    self.call(&batch).await;
                    late.extend(waiting);
                    break;
                }
                Err(error) => {
                    if !patience.failed("writing completions", &error, &self.stop).await {
                        warn!(
                            jobs = batch.len(),
                            "completions could not be written before the end; the jobs will run again"
                        );
                        return false;
                    }
                }
            }
        }
        true
    }
}
