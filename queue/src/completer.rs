//! Writes how runs ended, many at a time. Every write names the run it ends; a run whose lease was lost changes nothing.

use crate::admit;
use crate::batch::{Joined, Member};
use crate::enqueue::{CHANNEL, EnqueueError, enqueue_joined, rank};
use crate::held::Held;
use crate::metrics;
use crate::new_job::NewJob;
use crate::plumbing::{Patience, Plumbing, is_about_the_data};
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
/// How long a look at what was completed inside handlers' transactions waits for company: nothing hangs on it but the news of
/// a rollback.
const GATHER: Duration = Duration::from_millis(20);

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
    /// Done, and what comes next.
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
        loop {
            let receive = self.receiver.recv_many(&mut commands, BATCH);
            let received = if batch.is_empty() {
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
            if !self.write_all(std::mem::take(&mut batch), &mut patience).await {
                return;
            }
            for answer in flushed {
                let _ = answer.send(());
            }
            if ended {
                return;
            }
        }
    }

    /// Something in the batch cannot be written. The others are, and that one is a dead letter: the process must not stand
    /// still because of it. An error is the database's, and all of it is to be tried again.
    async fn one_by_one(&self, batch: &[Completion]) -> Result<(), sqlx::Error> {
        for completion in batch {
            let Err(error) = self.write_one(completion.clone()).await else { continue };
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
            match self.write_one(dead).await {
                Err(error) if is_about_the_data(&error) => {
                    tracing::error!(job.id = %completion.id, %error, "nor as a dead letter; it stays claimed until this process ends");
                }
                written => written?,
            }
        }
        Ok(())
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

    async fn write_one(&self, completion: Completion) -> Result<(), sqlx::Error> {
        self.plumbing
            .run(move |connection| Box::pin(async move { write(connection, &[completion]).await }))
            .await
    }

    /// Until it is written; false when the end came first.
    async fn write_all(&self, batch: Vec<Completion>, patience: &mut Patience) -> bool {
        let batch = Arc::new(batch);
        while !batch.is_empty() {
            let work = batch.clone();
            let mut written = self
                .plumbing
                .run(move |connection| Box::pin(async move { write(connection, &work).await }))
                .await;
            if written.as_ref().is_err_and(is_about_the_data) {
                written = self.one_by_one(&batch).await;
            }
            match written {
                Ok(()) => {
                    patience.reset();
                    self.held.remove(batch.iter().map(|completion| (completion.id, completion.run)));
                    self.call(&batch).await;
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
pub(crate) async fn write(connection: &mut PgConnection, batch: &[Completion]) -> Result<(), sqlx::Error> {
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
    for (statement, finish) in [(statement, finish), (FINISH_MEMBERS, members)] {
        if finish.is_empty() {
            continue;
        }
        let finished: Vec<Uuid> = sqlx::query_scalar(statement)
            .bind(finish.iter().map(|f| f.0.id).collect::<Vec<_>>())
            .bind(finish.iter().map(|f| f.0.run).collect::<Vec<_>>())
            .bind(finish.iter().map(|f| f.1).collect::<Vec<_>>())
            .bind(finish.iter().map(|f| f.2).collect::<Vec<_>>())
            .bind(finish.iter().map(|f| f.3).collect::<Vec<_>>())
            .bind(finish.iter().map(|f| f.0.keep_history).collect::<Vec<_>>())
            .fetch_all(&mut *connection)
            .await?;
        missed += finish.len() - finished.len();
    }
    for (completion, next, last_attempt) in then {
        missed += usize::from(!finish_then(connection, completion, next, last_attempt).await?);
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
    Ok(())
}

/// Ends a run as done and enqueues what comes next, or neither. False: the run was gone.
async fn finish_then(
    connection: &mut PgConnection,
    completion: &Completion,
    next: &[NewJob],
    last_attempt: bool,
) -> Result<bool, sqlx::Error> {
    let mut tx = connection.begin().await?;
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
        Err(error) => {
            tx.rollback().await?;
            let (failure, error) = (Failure::Failed, format!("what comes next cannot be enqueued: {error}"));
            let end = if last_attempt {
                End::Dead { failure, error }
            } else {
                End::Retry { delay: Duration::from_secs(10), failure, error }
            };
            let failed = Completion { end, ..completion.clone() };
            return Ok(release_all(connection, &[Release::of(&failed)]).await? == 1);
        }
    }
    let statement = if completion.is_member { FINISH_MEMBERS } else { FINISH_LIMITED };
    sqlx::query(statement)
        .bind([completion.id])
        .bind([completion.run])
        .bind(["done"])
        .bind([None::<&str>])
        .bind([None::<&str>])
        .bind([completion.keep_history])
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(true)
}

struct Release<'a> {
    completion: &'a Completion,
    state: &'static str,
    delay: f64,
    refund: i16,
    outcome: Option<&'static str>,
    error: Option<&'a str>,
    already_done: bool,
}

impl<'a> Release<'a> {
    fn of(completion: &'a Completion) -> Self {
        let waiting = |delay: Duration| if delay.is_zero() { "ready" } else { "scheduled" };
        let (state, delay, refund, outcome, error, already_done) = match &completion.end {
            End::Retry { delay, failure, error } => {
                (waiting(*delay), *delay, 0, Some(failure.name()), Some(error.as_str()), false)
            }
            End::Snooze { delay } => (waiting(*delay), *delay, 1, None, None, false),
            End::GivenBack { delay, why } => (waiting(*delay), *delay, 1, None, Some(why.as_str()), false),
            End::Dead { failure, error } => {
                ("dead", Duration::ZERO, 0, Some(failure.name()), Some(error.as_str()), false)
            }
            End::DoneInside { last_attempt } => {
                let state = if *last_attempt { "dead" } else { "scheduled" };
                let why = "the transaction that completed this job was rolled back";
                (state, Duration::from_secs(1), 0, Some(Failure::RolledBack.name()), Some(why), true)
            }
            End::Interrupted | End::Done { .. } | End::Then { .. } | End::Cancelled { .. } => {
                ("ready", Duration::ZERO, 1, Some("interrupted"), Some("the worker was shut down"), false)
            }
        };
        Release { completion, state, delay: delay.as_secs_f64(), refund, outcome, error, already_done }
    }
}

/// Claims that end without the job being over: `$1` ids, `$2` runs, `$3` states, `$4` delays, `$5` attempts given back, `$6` outcomes, `$7` errors,
/// `$8` workers, `$9` times of claims, `$10` attempts, `$11` organizations, `$12` the channel.
macro_rules! release {
    ($more:literal, $and:literal) => {
        concat!("with given as ( \
           select * from unnest($1::uuid[], $2::int8[], $3::text[], $4::float8[], $5::int2[], $6::text[], $7::text[], \
                                $8::uuid[], $9::timestamptz[], $10::int2[], $11::uuid[]) \
             as u(id, run, state, delay, refund, outcome, error, worker, claimed_at, attempt, organization_id)), \
         back as ( \
           update queue.jobs j \
           set worker = null, run = j.run + 1, claimed_at = null, attempt = j.attempt - u.refund, \
               state = u.state::queue.state, due_at = clock_timestamp() + make_interval(secs => u.delay), \
               rank = case when u.outcome = 'interrupted' then j.rank else ",
               rank!("clock_timestamp() + make_interval(secs => u.delay)", "j"), " end, \
               last_error = coalesce(u.error, j.last_error), waits_for = null, paid = null, \
               died_of = case when u.state = 'dead' then case u.outcome when 'failed' then 'exhausted' else u.outcome end end, \
               unique_held = case when u.state = 'dead' and j.unique_held then j.unique_while & 4 <> 0 else j.unique_held end \
           from given u where j.id = u.id and j.run = u.run and j.worker is not null \
           returning j.id, j.lane, j.state, not j.unique_held and u.state <> 'dead' as let_go), \
         noted as ( \
           insert into queue.attempts (job_id, organization_id, attempt, run, started_at, finished_at, worker, outcome, error) \
           select u.id, u.organization_id, u.attempt, u.run, u.claimed_at, clock_timestamp(), u.worker, u.outcome, \
                  coalesce(u.error, '') \
           from given u join back on back.id = u.id where u.outcome is not null), \
         freed as (delete from queue.permits p using back where p.job_id = back.id), \
         held as (select queue.hold_again(array_agg(id)) from back where let_go having count(*) > 0), \
",
            $more,
            "told as (select pg_notify($12, '~' || lane) from (select distinct lane from back where state = 'ready') lanes) \
             select id from back, (select count(*) from told) t, (select count(*) from held) h",
            $and
        )
    };
}

const RELEASE: &str = release!("", "");
/// The same when dead letters of batches may be among them.
const RELEASE_MEMBERS: &str = release!(
    "died as (select queue.die_in_batches(array_agg(id)) from back where state = 'dead' having count(*) > 0), ",
    ", (select count(*) from died) d"
);

async fn release_all(connection: &mut PgConnection, release: &[Release<'_>]) -> Result<usize, sqlx::Error> {
    let dead_member = release.iter().any(|r| r.completion.is_member && r.state == "dead");
    let released: Vec<Uuid> = sqlx::query_scalar(if dead_member { RELEASE_MEMBERS } else { RELEASE })
        .bind(release.iter().map(|r| r.completion.id).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.completion.run).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.state).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.delay).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.refund).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.outcome).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.error).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.completion.worker).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.completion.claimed_at).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.completion.attempt).collect::<Vec<_>>())
        .bind(release.iter().map(|r| r.completion.organization).collect::<Vec<_>>())
        .bind(CHANNEL)
        .fetch_all(connection)
        .await?;
    Ok(released.len())
}
