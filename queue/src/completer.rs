//! Writes how runs ended, many at a time. Every write names the run it ends; a run whose lease was lost changes nothing.

use crate::admit;
use crate::batch::{Joined, Member};
use crate::enqueue::{EnqueueError, enqueue_joined};
use crate::held::Held;
use crate::metrics;
use crate::new_job::NewJob;
use crate::plumbing::{Patience, Plumbing, is_about_the_data};
use crate::release::{Release, release_all};
use crate::running::{DONE, DONE_KEPT, FINISH, FINISH_LIMITED, FINISH_MEMBERS};
use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

const BATCH: usize = 1000;
/// From so many runs on that ended alike, they have a statement of their own.
const ALIKE: usize = 4;
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
    pub keep_history: bool,
    /// What it has used of limits: to be given to those who wait.
    pub slots: Arc<[String]>,
    /// Of a batch.
    pub is_member: bool,
    pub end: End,
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
    ) -> Result<Vec<Completion>, sqlx::Error> {
        let mut late = Vec::new();
        for completion in batch {
            let error = match self.write_one(completion.clone(), hurry).await {
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
            match self.write_one(dead, hurry).await {
                Err(error) if is_about_the_data(&error) => {
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
    ) -> Result<Vec<Completion>, sqlx::Error> {
        self.plumbing
            .run(move |connection| {
                Box::pin(async move { write(connection, &[completion], Some(hurry)).await })
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
        while !batch.is_empty() {
            let work = batch.clone();
            let mut written = self
                .plumbing
                .run(move |connection| Box::pin(async move { write(connection, &work, Some(hurry)).await }))
                .await;
            if written.as_ref().is_err_and(is_about_the_data) {
                written = self.one_by_one(&batch, hurry).await;
            }
            match written {
                Ok(waiting) => {
                    patience.reset();
                    let ids: BTreeSet<Uuid> = waiting.iter().map(|completion| completion.id).collect();
                    let written = batch.iter().filter(|completion| !ids.contains(&completion.id));
                    self.held.remove(written.map(|completion| (completion.id, completion.run)));
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

/// Calls those who wait for what these runs have used.
pub(crate) async fn call(
    connection: &mut PgConnection,
    batch: &[Completion],
    shift_ms: i64,
) -> Result<bool, sqlx::Error> {
    let slots: BTreeSet<&str> =
        batch.iter().flat_map(|completion| completion.slots.iter().map(String::as_str)).collect();
    admit::call(connection, &slots.into_iter().collect::<Vec<_>>(), shift_ms).await
}

/// One statement for everything that is over and alike, one for what else is over, one for everything that goes on; one more for what is over and
/// of a batch, because it may wait for a moment where others leave the same batch. A transaction for each that has something next. Each holds or falls by itself: written
/// twice after a lost answer, the second time finds the runs gone.
///
/// Those of batches, and those with something next, may meet the open transaction of a handler: with `hurry` they wait so long for it, and all
/// together some times as long. Answers those that are still to be written.
pub(crate) async fn write(
    connection: &mut PgConnection,
    batch: &[Completion],
    hurry: Option<Duration>,
) -> Result<Vec<Completion>, sqlx::Error> {
    let mut late = Vec::new();
    let until = Instant::now() + hurry.unwrap_or_default() * 10;
    let is_over = || hurry.is_some() && Instant::now() > until;
    let (mut finish, mut members) = (Vec::new(), Vec::new());
    let mut release = Vec::new();
    let mut plain: BTreeMap<(i64, bool), Vec<&Completion>> = BTreeMap::new();
    let mut then = Vec::new();
    for completion in batch {
        let over = if completion.is_member { &mut members } else { &mut finish };
        match &completion.end {
            End::Done { result: None } if completion.slots.is_empty() && !completion.is_member => {
                plain.entry((completion.run, completion.keep_history)).or_default().push(completion);
            }
            End::Done { result } => over.push((completion, "done", result.as_deref(), None)),
            End::Cancelled { why } => over.push((completion, "cancelled", None, Some(why.as_str()))),
            End::Then { next, last_attempt } => then.push((completion, next, *last_attempt)),
            _ => release.push(Release::of(completion)),
        }
    }
    let mut missed = 0;
    for ((run, keep_history), done) in plain {
        if done.len() < ALIKE {
            finish.extend(done.into_iter().map(|completion| (completion, "done", None, None)));
            continue;
        }
        let mut ids: Vec<Uuid> = done.iter().map(|completion| completion.id).collect();
        ids.sort_unstable();
        let statement = if keep_history { DONE_KEPT } else { DONE };
        let written = sqlx::query(statement).bind(&ids).bind(run).execute(&mut *connection).await?;
        missed += ids.len().saturating_sub(written.rows_affected() as usize);
    }
    let limited = finish.iter().any(|f| !f.0.slots.is_empty());
    let statement = if limited { FINISH_LIMITED } else { FINISH };
    if !finish.is_empty() {
        missed += finish.len() - self::finish(connection, statement, &finish).await?;
    }
    if !members.is_empty() {
        match finish_members(connection, &members, hurry).await {
            Err(error) if is_locked(&error) => {
                for member in members {
                    if is_over() {
                        late.push(member.0.clone());
                        continue;
                    }
                    match finish_members(connection, &[member], hurry.map(|hurry| hurry.min(SHORTER))).await {
                        Err(error) if is_locked(&error) => late.push(member.0.clone()),
                        finished => missed += 1 - finished?,
                    }
                }
            }
            finished => missed += members.len() - finished?,
        }
    }
    for (completion, next, last_attempt) in then {
        if is_over() {
            late.push(completion.clone());
            continue;
        }
        match finish_then(connection, completion, next, last_attempt, hurry).await {
            Err(error) if is_locked(&error) => late.push(completion.clone()),
            finished => missed += usize::from(!finished?),
        }
    }
    if !release.is_empty() {
        let expected = release.iter().filter(|r| !r.already_done).count();
        let released = release_all(connection, &release).await?;
        missed += expected.saturating_sub(released);
    }
    if missed > 0 {
        metrics::FENCED.inc_by(missed as u64);
        warn!(missed, "results of runs whose lease was lost were refused");
    }
    // Those that were not tried come first.
    late.reverse();
    Ok(late)
}

fn is_locked(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "55P03")
}

async fn finish_members(
    connection: &mut PgConnection,
    members: &[Over<'_>],
    hurry: Option<Duration>,
) -> Result<usize, sqlx::Error> {
    let mut tx = connection.begin().await?;
    wait_shortly(&mut tx, hurry).await?;
    let finished = finish(&mut tx, FINISH_MEMBERS, members).await?;
    tx.commit().await?;
    Ok(finished)
}

async fn wait_shortly(tx: &mut PgConnection, hurry: Option<Duration>) -> Result<(), sqlx::Error> {
    if let Some(hurry) = hurry {
        sqlx::query("select set_config('lock_timeout', $1, true)")
            .bind(hurry.as_millis().to_string())
            .execute(tx)
            .await?;
    }
    Ok(())
}

type Over<'a> = (&'a Completion, &'static str, Option<&'a str>, Option<&'a str>);

async fn finish(
    connection: &mut PgConnection,
    statement: &'static str,
    over: &[Over<'_>],
) -> Result<usize, sqlx::Error> {
    let mut over = over.to_vec(); // in one order everywhere: others may end jobs of the same batch, or abandon it
    over.sort_unstable_by_key(|over| over.0.id);
    let finished: Vec<Uuid> = sqlx::query_scalar(statement)
        .bind(over.iter().map(|over| over.0.id).collect::<Vec<_>>())
        .bind(over.iter().map(|over| over.0.run).collect::<Vec<_>>())
        .bind(over.iter().map(|over| over.1).collect::<Vec<_>>())
        .bind(over.iter().map(|over| over.2).collect::<Vec<_>>())
        .bind(over.iter().map(|over| over.3).collect::<Vec<_>>())
        .bind(over.iter().map(|over| over.0.keep_history).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(finished.len())
}

/// Ends a run as done and enqueues what comes next, or neither. False: the run was gone.
async fn finish_then(
    connection: &mut PgConnection,
    completion: &Completion,
    next: &[NewJob],
    last_attempt: bool,
    hurry: Option<Duration>,
) -> Result<bool, sqlx::Error> {
    let mut tx = connection.begin().await?;
    wait_shortly(&mut tx, hurry).await?;
    let held = sqlx::query(
        "select from queue.jobs where id = $1 and run = $2 and worker is not null for no key update",
    )
    .bind(completion.id)
    .bind(completion.run)
    .execute(&mut *tx)
    .await?;
    if held.rows_affected() == 0 {
        return Ok(false);
    }
    let member = Member { id: completion.id, run: completion.run };
    let into = completion.is_member.then_some(Joined { batch: None, member: Some(member) });
    match enqueue_joined(&mut tx, next, into).await {
        Ok(_) => {}
        Err(EnqueueError::Database(error)) => return Err(error),
        Err(refused) => {
            tx.rollback().await?;
            let (failure, error) =
                (Failure::Failed, format!("what comes next cannot be enqueued: {refused}"));
            let end = match refused {
                // Nobody waits for its batch any more.
                EnqueueError::BatchClosed => End::Cancelled { why: error },
                _ if last_attempt => End::Dead { failure, error },
                _ => End::Retry { delay: Duration::from_secs(10), failure, error },
            };
            if let End::Cancelled { why } = &end {
                let cancelled = [(completion, "cancelled", None, Some(why.as_str()))];
                return Ok(finish(connection, FINISH_MEMBERS, &cancelled).await? == 1);
            }
            let failed = Completion { end, ..completion.clone() };
            return Ok(release_all(connection, &[Release::of(&failed)]).await? == 1);
        }
    }
    let statement = if completion.is_member { FINISH_MEMBERS } else { FINISH_LIMITED };
    finish(&mut tx, statement, &[(completion, "done", None, None)]).await?;
    tx.commit().await?;
    Ok(true)
}
