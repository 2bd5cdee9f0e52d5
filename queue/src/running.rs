//! The run of one claimed job, as its handler sees it.

use crate::keys::KeyRing;
use crate::news::Voice;
use crate::payload::Secrets;
use crate::retention::Retention;
use crate::{JobId, metrics};
use chrono::{DateTime, Utc};
use sqlx::PgConnection;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};
use uuid::Uuid;

#[derive(Debug)]
pub struct Running {
    pub id: JobId,
    /// The fencing token: raised at each claim.
    pub run: i64,
    pub kind: String,
    pub lane: String,
    pub organization: Option<Uuid>,
    /// 1 at the first claim.
    pub attempt: i16,
    pub max_attempts: i16,
    /// When it was to run: the tick, for a job of a schedule.
    pub due_at: DateTime<Utc>,
    pub trace_parent: Option<String>,
    pub(crate) worker: Uuid,
    /// Its place in the line.
    pub(crate) rank: DateTime<Utc>,
    pub(crate) cancelled: CancellationToken,
    pub(crate) retention: Retention,
    pub(crate) slots: Arc<[String]>,
    pub(crate) completed: AtomicBool,
    /// Of a batch.
    pub(crate) is_member: bool,
    /// The batch that it was suspended for before this run.
    pub(crate) awaited: Option<Uuid>,
    pub(crate) keys: KeyRing,
    /// The words of encrypted arguments.
    pub(crate) secrets: OnceLock<Secrets>,
    /// Jobs that `complete_along` ended.
    pub(crate) went_along: AtomicU64,
    /// To those who follow it live.
    pub(crate) voice: Voice,
}

#[derive(Debug, thiserror::Error)]
pub enum CompleteError {
    #[error("the lease of this run was lost; another worker has the job")]
    Fenced,
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

macro_rules! finish {
    () => {
        "\
    with gone as ( \
      delete from queue.jobs j using unnest($1::uuid[], $2::int8[], $3::text[], $4::text[], $5::text[], $6::int2[]) \
          as u(id, run, outcome, result, error, retention) \
      where j.id = u.id and j.run = u.run and j.worker is not null \
      returning j.*, u.outcome, u.result, u.error, u.retention), \
    kept as ( \
      insert into queue.history (id, organization_id, finished_at, due_at, started_at, worker, priority, attempt, \
                                 max_attempts, retention, outcome, lane, kind, trace_parent, error, result, progress, args, args_key) \
      select id, organization_id, clock_timestamp(), due_at, claimed_at, worker, priority, attempt, max_attempts, retention, outcome, \
             lane, kind, trace_parent, coalesce(error, case when outcome <> 'done' then last_error end), result::json, \
             progress, case when pg_column_size(args) <= 2000 then args end, args_key \
      from gone where retention > 0)"
    };
}

macro_rules! finish_one {
    () => {
        "\
    with gone as ( \
      delete from queue.jobs where id = $1 and run = $2 and worker is not null returning *), \
    kept as ( \
      insert into queue.history (id, organization_id, finished_at, due_at, started_at, worker, priority, attempt, \
                                 max_attempts, retention, outcome, lane, kind, trace_parent, result, progress, args, args_key) \
      select id, organization_id, clock_timestamp(), due_at, claimed_at, worker, priority, attempt, max_attempts, $4, 'done', \
             lane, kind, trace_parent, $3::json, progress, case when pg_column_size(args) <= 2000 then args end, args_key \
      from gone where $4 > 0)"
    };
}

/// Finishes rows that are still held by the given run: out of the table, into the history. `$1` ids, `$2` runs,
/// `$3` outcomes, `$4` results, `$5` error texts, `$6` how long history is kept. Answers the ids that were finished.
pub(crate) const FINISH: &str = concat!(finish!(), " select id from gone");

/// Runs of one number that are done, without a result and without permits: `$1` ids, `$2` the run. Apart from [`FINISH`], because
/// one walk over the index finds them all, which is half of the work. Answers with the count of changed rows.
pub(crate) const DONE: &str = "delete from queue.jobs where id = any($1) and run = $2 and worker is not null";

/// As [`DONE`], into the history: `$3` how long it is kept.
pub(crate) const DONE_KEPT: &str = "\
    with gone as ( \
      delete from queue.jobs where id = any($1) and run = $2 and worker is not null \
      returning id, organization_id, due_at, claimed_at, worker, priority, attempt, max_attempts, lane, kind, trace_parent, \
                progress, args, args_key) \
    insert into queue.history (id, organization_id, finished_at, due_at, started_at, worker, priority, attempt, \
                               max_attempts, retention, outcome, lane, kind, trace_parent, progress, args, args_key) \
    select id, organization_id, clock_timestamp(), due_at, claimed_at, worker, priority, attempt, max_attempts, $3, 'done', \
           lane, kind, trace_parent, progress, case when pg_column_size(args) <= 2000 then args end, args_key \
    from gone";

/// The same for runs that hold permits. Apart, so that a job without limits does not even open that table.
pub(crate) const FINISH_LIMITED: &str = concat!(
    finish!(),
    ", freed as (delete from queue.permits p using gone where p.job_id = gone.id) select id from gone"
);

/// The same for runs of which some are of a batch, whose counts they leave.
pub(crate) const FINISH_MEMBERS: &str = concat!(
    finish!(),
    ", freed as (delete from queue.permits p using gone where p.job_id = gone.id), \
       parted as (select queue.leave_batches(array_agg(id), array_agg(organization_id), array_agg(part), array_agg(kind), \
                                             array_agg(outcome), array_agg(result), \
                                             array_agg(coalesce(error, case when outcome <> 'done' then last_error end))) \
                  from gone where part is not null having count(*) > 0) \
     select id from gone, (select count(*) from parted) p"
);

/// The same for a single run that is done: `$1` id, `$2` run, `$3` result, `$4` how long history is kept. Apart from [`FINISH`],
/// because Postgres keeps the plan of this one, and plans one over arrays anew at each call.
const FINISH_ONE: &str = concat!(finish_one!(), " select id from gone");

const FINISH_ONE_LIMITED: &str = concat!(
    finish_one!(),
    ", freed as (delete from queue.permits p using gone where p.job_id = gone.id) select id from gone"
);

const FINISH_ONE_MEMBER: &str = concat!(
    finish_one!(),
    ", freed as (delete from queue.permits p using gone where p.job_id = gone.id), \
       parted as (select queue.leave_batches(array[id], array[organization_id], array[part], array[kind], array['done'], \
                                             array[$3::text], array[null::text]) from gone where part is not null) \
     select id from gone, (select count(*) from parted) p"
);

impl Running {
    /// Done, in the caller's own transaction: what the handler changed and the end of the job are committed together or
    /// not at all. Afterwards commit and return `Ok(Outcome::Done)`.
    pub async fn complete_in(&self, connection: &mut PgConnection) -> Result<(), CompleteError> {
        self.finish_in(connection, None).await
    }

    /// Like [`Running::complete_in`], with a result that is kept with the job.
    pub async fn complete_with(
        &self,
        connection: &mut PgConnection,
        result: &serde_json::Value,
    ) -> Result<(), CompleteError> {
        self.finish_in(connection, Some(self.kept(result))).await
    }

    /// As it may be kept: without the words of encrypted arguments.
    pub(crate) fn kept(&self, value: &serde_json::Value) -> String {
        match self.secrets.get() {
            Some(secrets) => secrets.taken_out_of_json(value).to_string(),
            None => value.to_string(),
        }
    }

    async fn finish_in(
        &self,
        connection: &mut PgConnection,
        result: Option<String>,
    ) -> Result<(), CompleteError> {
        if self.has_no_row() {
            self.completed.store(true, Ordering::Release);
            return Ok(());
        }
        let has_result = result.is_some();
        let hidden = self.unhide(connection).await?;
        let statement = match (self.is_member, self.slots.is_empty()) {
            (true, _) => FINISH_ONE_MEMBER,
            (false, true) => FINISH_ONE,
            (false, false) => FINISH_ONE_LIMITED,
        };
        let finished = sqlx::query(statement)
            .bind(self.id.0)
            .bind(self.run)
            .bind(result)
            .bind(self.retention.number())
            .fetch_all(&mut *connection)
            .await?;
        hide(connection, &hidden).await?;
        if finished.is_empty() {
            metrics::FENCED.inc();
            return Err(CompleteError::Fenced);
        }
        self.completed.store(true, Ordering::Release);
        if has_result {
            self.voice.speak(self, None);
        }
        Ok(())
    }

    /// Run by a test, without a database behind it.
    pub(crate) fn has_no_row(&self) -> bool {
        self.worker.is_nil()
    }

    /// A job of no organization may work in one organization's transaction, where its row is not visible: answers that organization,
    /// which is not in force until [`hide`].
    pub(crate) async fn unhide(&self, connection: &mut PgConnection) -> Result<Option<String>, sqlx::Error> {
        if self.organization.is_some() {
            return Ok(None);
        }
        let hidden: Option<String> =
            sqlx::query_scalar("select nullif(current_setting('app.organization_id', true), '')")
                .fetch_one(&mut *connection)
                .await?;
        if hidden.is_some() {
            set_organization(connection, "").await?;
        }
        Ok(hidden)
    }

    /// Resolves when somebody asked for the job to be cancelled, or when its lease was lost: stop soon.
    pub fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.cancelled.cancelled()
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Keeps how far the job is, for people to see and for its next run to go on from. Joins the caller's transaction if it has one; it is written
    /// as often as this is called. Live streams tell of it a few times a second.
    pub async fn progress(
        &self,
        connection: &mut PgConnection,
        progress: &serde_json::Value,
    ) -> Result<(), CompleteError> {
        if self.has_no_row() {
            return Ok(());
        }
        let updated = sqlx::query(
            "update queue.jobs set progress = $3::json where id = $1 and run = $2 and worker is not null",
        )
        .bind(self.id.0)
        .bind(self.run)
        .bind(self.kept(progress))
        .execute(connection)
        .await?;
        if updated.rows_affected() == 0 {
            metrics::FENCED.inc();
            return Err(CompleteError::Fenced);
        }
        self.voice.speak(self, None);
        Ok(())
    }

    /// Says how far the job is, for people to see: at no cost, as often as the handler likes. The engine writes it down a few times a
    /// second, the last word counts, and what is said last before the end is kept with it. It may get lost with the process: what the next run
    /// goes on from is kept with [`Running::progress`]. A kind uses one of the two.
    pub fn report(&self, progress: &serde_json::Value) {
        if !self.has_no_row() {
            self.voice.speak(self, Some(self.kept(progress)));
        }
    }
}

pub(crate) async fn hide(connection: &mut PgConnection, hidden: &Option<String>) -> Result<(), sqlx::Error> {
    match hidden {
        Some(organization) => set_organization(connection, organization).await,
        None => Ok(()),
    }
}

async fn set_organization(connection: &mut PgConnection, organization: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select set_config('app.organization_id', $1, true)")
        .bind(organization)
        .execute(connection)
        .await?;
    Ok(())
}
