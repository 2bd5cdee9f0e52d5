//! Batches: jobs whose ends are counted together, and a job that goes on when all of them have ended.
//!
//! The job that goes on is a row from the beginning, suspended until the transaction that ends the last of the batch makes it ready. It is
//! a callback ([`open`]) or the parent of the jobs (`Running::wait_for`); both are one mechanism. The counting and its locks are
//! functions of the database (`migrations/0012_queue_batches.sql`); docs/adr/0016 says why so.

use crate::admin::{JobState, UnknownState};
use crate::enqueue::enqueue_joined;
use crate::{EnqueueError, JobId, NewJob, metrics};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, Row};
use std::fmt;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(pub Uuid);

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a dead letter means for its batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDeath {
    /// The batch waits until somebody has retried it to an end, or discarded it.
    #[default]
    Wait,
    /// It counts as an end, and is a member no more: what becomes of it later is its own affair.
    GoOn,
}

impl OnDeath {
    fn as_str(self) -> &'static str {
        match self {
            OnDeath::Wait => "wait",
            OnDeath::GoOn => "go_on",
        }
    }
}

/// A batch as people see it. Numbers of jobs; what is done is the rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BatchView {
    pub id: BatchId,
    pub organization: Option<Uuid>,
    /// The callback, or the parent.
    pub next: JobId,
    /// More jobs may come: it does not end before it is closed.
    pub open: bool,
    pub total: i64,
    /// Not ended yet, those that are dead letters included.
    pub pending: i64,
    pub done: i64,
    pub cancelled: i64,
    pub discarded: i64,
    pub dead: i64,
    pub created_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

/// How a job of a batch has ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ended {
    pub job: JobId,
    pub kind: String,
    /// Done, cancelled, discarded or dead.
    pub outcome: JobState,
    pub result: Option<serde_json::Value>,
    pub error: Option<String>,
}

/// Opens a batch: `callback` is enqueued in the transaction that ends its last job, once it is closed. Until then it is there, suspended;
/// its own time counts for nothing. The callback finds the batch with `Running::children`.
pub async fn open(
    connection: &mut PgConnection,
    callback: &NewJob,
    on_death: OnDeath,
) -> Result<BatchId, EnqueueError> {
    let next = callback.id.unwrap_or_else(JobId::new);
    let batch = begin(connection, next, callback.organization, on_death).await?;
    // Not before it is suspended, whatever happens.
    let callback = NewJob { id: Some(next), run_at: None, delay: Some(FAR), ..callback.clone() };
    let enqueued = crate::enqueue(connection, &[callback]).await?[0];
    if enqueued != next {
        return Err(EnqueueError::Duplicate(enqueued));
    }
    sqlx::query(
        "update queue.jobs set state = 'suspended', awaits = $2, due_at = clock_timestamp() where id = $1",
    )
    .bind(next.0)
    .bind(batch.0)
    .execute(connection)
    .await?;
    Ok(batch)
}

/// Which batch jobs are to be of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Joined {
    /// None: the member's.
    pub batch: Option<Uuid>,
    pub member: Option<Member>,
}

/// A run of a job that is of a batch, as long as it has not ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub id: Uuid,
    pub run: i64,
}

/// A part for each job that is about to be inserted.
pub(crate) async fn join(
    connection: &mut PgConnection,
    into: Joined,
    jobs: usize,
) -> Result<Vec<i64>, EnqueueError> {
    if jobs == 0 {
        return Ok(Vec::new());
    }
    let count = (jobs / PART).clamp(1, PARTS);
    let sizes: Vec<i32> = (0..count).map(|part| ((jobs - part).div_ceil(count)) as i32).collect();
    let parts: Vec<i64> = sqlx::query_scalar("select queue.join_batch($1, $2, $3, $4)")
        .bind(into.batch)
        .bind(sizes)
        .bind(into.member.map(|member| member.id))
        .bind(into.member.map(|member| member.run))
        .fetch_all(connection)
        .await?;
    if parts.len() != count {
        return Err(EnqueueError::BatchClosed);
    }
    Ok((0..jobs).map(|job| parts[job % count]).collect())
}

/// Of those, the ones that were not inserted after all, each by its part.
pub(crate) async fn leave_out(
    connection: &mut PgConnection,
    parts: impl Iterator<Item = i64>,
) -> Result<(), sqlx::Error> {
    let parts: Vec<i64> = parts.collect();
    if !parts.is_empty() {
        sqlx::query("select queue.leave_out($1)").bind(parts).execute(connection).await?;
    }
    Ok(())
}

/// Jobs of a part, and parts that one call makes at most.
const PART: usize = 64;
const PARTS: usize = 16;
const FAR: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 86_400);

pub(crate) async fn begin(
    connection: &mut PgConnection,
    next: JobId,
    organization: Option<Uuid>,
    on_death: OnDeath,
) -> Result<BatchId, sqlx::Error> {
    let batch = BatchId(Uuid::now_v7());
    sqlx::query(
        "insert into queue.batches (id, organization_id, next_job, open, on_death) \
         values ($1, coalesce($2, current_organization()), $3, true, $4)",
    )
    .bind(batch.0)
    .bind(organization)
    .bind(next.0)
    .bind(on_death.as_str())
    .execute(connection)
    .await?;
    Ok(batch)
}

/// Adds jobs to an open batch, as [`crate::enqueue`] does. One that is left out for its unique key is not of the batch. Once a batch is closed,
/// only its own running jobs add to it (`Running::add_to_batch`).
pub async fn add(
    connection: &mut PgConnection,
    batch: BatchId,
    jobs: &[NewJob],
) -> Result<Vec<JobId>, EnqueueError> {
    enqueue_joined(connection, jobs, Some(Joined { batch: Some(batch.0), member: None })).await
}

/// All jobs are added: when they have ended, it ends; at once when they have already. Waits for transactions that add to it.
pub async fn close(connection: &mut PgConnection, batch: BatchId) -> Result<(), sqlx::Error> {
    // The strongest lock: who adds holds the row against it until the end of the transaction.
    let closed = sqlx::query("select from queue.batches where id = $1 and open for update")
        .bind(batch.0)
        .execute(&mut *connection)
        .await?;
    if closed.rows_affected() > 0 {
        sqlx::query("update queue.batches set open = false where id = $1")
            .bind(batch.0)
            .execute(&mut *connection)
            .await?;
        sqlx::query("select queue.end_batches(array[$1])").bind(batch.0).execute(connection).await?;
    }
    Ok(())
}

/// `None`: there is no such batch, or it is another organization's.
pub async fn show(
    connection: &mut PgConnection,
    batch: BatchId,
    organization: Option<Uuid>,
) -> Result<Option<BatchView>, sqlx::Error> {
    let row = sqlx::query(
        "select b.organization_id, b.next_job, b.open, b.created_at, b.ended_at, coalesce(sum(p.total), 0)::int8, \
                coalesce(sum(p.pending), 0)::int8, coalesce(sum(p.cancelled), 0)::int8, coalesce(sum(p.discarded), 0)::int8, \
                coalesce(sum(p.died), 0)::int8, \
                (select count(*) from queue.jobs j where j.part = any(array_agg(p.id)) and j.state = 'dead') \
         from queue.batches b left join queue.batch_parts p on p.batch_id = b.id \
         where b.id = $1 and ($2::uuid is null or b.organization_id = $2) group by b.id",
    )
    .bind(batch.0)
    .bind(organization)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (total, pending): (i64, i64) = (row.try_get(5)?, row.try_get(6)?);
    let (cancelled, discarded, died): (i64, i64, i64) = (row.try_get(7)?, row.try_get(8)?, row.try_get(9)?);
    Ok(Some(BatchView {
        id: batch,
        organization: row.try_get(0)?,
        next: JobId(row.try_get(1)?),
        open: row.try_get(2)?,
        created_at: row.try_get(3)?,
        ended_at: row.try_get(4)?,
        total,
        pending,
        done: total - pending - cancelled - discarded - died,
        cancelled,
        discarded,
        dead: died + row.try_get::<i64, _>(10)?,
    }))
}

/// What its jobs left behind: those with a result, and those that were not done, in the order in which they were enqueued. Those that were
/// done without a result are only counted.
pub async fn ends(connection: &mut PgConnection, batch: BatchId) -> Result<Vec<Ended>, sqlx::Error> {
    let rows = sqlx::query(
        "select job_id, kind, outcome, result::text, error from queue.batch_ends where batch_id = $1 order by job_id",
    )
    .bind(batch.0)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let (outcome, result): (String, Option<String>) = (row.try_get(2)?, row.try_get(3)?);
            let decode = |error: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::Decode(error);
            Ok(Ended {
                job: JobId(row.try_get(0)?),
                kind: row.try_get(1)?,
                outcome: outcome.parse().map_err(|error: UnknownState| decode(error.into()))?,
                result: result
                    .map(|text| serde_json::from_str(&text))
                    .transpose()
                    .map_err(|error| decode(error.into()))?,
                error: row.try_get(4)?,
            })
        })
        .collect()
}

/// Ends of jobs are counted in the transaction that ends them. Should a job have gone without, its batch must not wait for ever.
pub(crate) async fn reconcile(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mended: i64 = sqlx::query_scalar("select queue.mend_batches()").fetch_one(connection).await?;
    if mended > 0 {
        tracing::error!(parts = mended, "counts of batches did not fit their jobs and were mended");
        metrics::BATCH_DRIFT.inc_by(mended as u64);
    }
    Ok(())
}

/// Takes away batches that ended so long ago, and that nobody looks at any more: a parent may snooze for long, or be a dead letter that is
/// retried late, and would take itself for one that has not begun. So many at most; answers whether there may be more.
pub(crate) async fn forget(
    connection: &mut PgConnection,
    age: sqlx::postgres::types::PgInterval,
) -> Result<bool, sqlx::Error> {
    const PIECE: i64 = 500;
    let gone = sqlx::query(
        "delete from queue.batches where id = any(array( \
           select b.id from queue.batches b where b.ended_at < (select clock_timestamp() - $1) \
             and not exists (select from queue.jobs j where j.id = b.next_job) \
           order by b.ended_at limit $2 for update skip locked))",
    )
    .bind(age)
    .bind(PIECE)
    .execute(connection)
    .await?;
    Ok(gone.rows_affected() == PIECE as u64)
}
