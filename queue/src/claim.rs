//! Claiming and giving back, as the database sees it.

use crate::enqueue::CHANNEL;
use crate::held::{Claim, StopSign};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

/// One claimed job on its way to its handler.
#[derive(Debug)]
pub(crate) struct Envelope {
    pub id: Uuid,
    pub run: i64,
    pub worker: Uuid,
    pub lane: String,
    pub kind: String,
    pub organization: Option<Uuid>,
    pub attempt: i16,
    pub max_attempts: i16,
    pub priority: i16,
    pub due_at: DateTime<Utc>,
    pub claimed_at: DateTime<Utc>,
    pub trace_parent: Option<String>,
    /// JSON as it was written; decoded by the handler's side, so that a bad payload is the job's failure.
    pub args: String,
    /// How the run is told to stop.
    pub sign: Arc<StopSign>,
    /// The right to run; free again when the envelope is dropped.
    pub permit: Option<OwnedSemaphorePermit>,
}

impl Envelope {
    fn read(row: &PgRow, lane: &str, worker: Uuid) -> Result<Self, sqlx::Error> {
        Ok(Envelope {
            id: row.try_get(0)?,
            run: row.try_get(1)?,
            worker,
            lane: lane.to_owned(),
            kind: row.try_get(2)?,
            organization: row.try_get(3)?,
            attempt: row.try_get(4)?,
            max_attempts: row.try_get(5)?,
            priority: row.try_get(6)?,
            due_at: row.try_get(7)?,
            claimed_at: row.try_get(8)?,
            trace_parent: row.try_get(9)?,
            args: row.try_get(10)?,
            sign: StopSign::new(),
            permit: None,
        })
    }
}

/// Takes up to `room` jobs of the lane with ids above `floor` for `worker`, highest priority first, then oldest. Takes nothing while the lane
/// is paused, or when the worker's row is gone (it was declared lost): the row is share-locked against that.
pub(crate) async fn claim(
    connection: &mut PgConnection,
    lane: &str,
    worker: Uuid,
    kinds: &[&str],
    room: i64,
    floor: Uuid,
) -> Result<Vec<Envelope>, sqlx::Error> {
    let rows = sqlx::query(
        "with me as materialized (select id from queue.workers where id = $2 for key share), \
         picked as materialized ( \
           select ctid from queue.jobs \
           where lane = $1 and state = 'ready' and worker is null and kind = any($3) and id > $5 and exists (select from me) \
             and not exists (select from queue.lanes where name = $1 and paused) \
           order by priority desc, id limit $4 for update skip locked) \
         update queue.jobs j \
         set worker = $2, run = j.run + 1, attempt = j.attempt + 1, claimed_at = clock_timestamp(), \
             unique_key = case when unique_while & 2 = 0 then null else unique_key end \
         where j.ctid = any(array(select ctid from picked)) and j.worker is null \
         returning j.id, j.run, j.kind, j.organization_id, j.attempt, j.max_attempts, j.priority, j.due_at, j.claimed_at, \
                   j.trace_parent, j.args::text",
    )
    .bind(lane)
    .bind(worker)
    .bind(kinds)
    .bind(room)
    .bind(floor)
    .fetch_all(connection)
    .await?;
    let mut envelopes =
        rows.iter().map(|row| Envelope::read(row, lane, worker)).collect::<Result<Vec<_>, _>>()?;
    envelopes.sort_unstable_by_key(|e| (std::cmp::Reverse(e.priority), e.id));
    Ok(envelopes)
}

/// Gives back jobs that were claimed and not started: the claim does not count as an attempt.
pub(crate) async fn give_back(connection: &mut PgConnection, jobs: &[Claim]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with back as ( \
           update queue.jobs j set worker = null, run = j.run + 1, attempt = j.attempt - 1, claimed_at = null \
           from unnest($1::uuid[], $2::int8[]) as u(id, run) \
           where j.id = u.id and j.run = u.run and j.worker is not null returning j.lane) \
         select pg_notify($3, '~' || lane) from (select distinct lane from back) lanes",
    )
    .bind(jobs.iter().map(|job| job.0).collect::<Vec<_>>())
    .bind(jobs.iter().map(|job| job.1).collect::<Vec<_>>())
    .bind(CHANNEL)
    .execute(connection)
    .await?;
    Ok(())
}

/// The lane's claims of `worker`, as the database has them.
pub(crate) async fn claims_of(
    connection: &mut PgConnection,
    lane: &str,
    worker: Uuid,
) -> Result<Vec<Claim>, sqlx::Error> {
    sqlx::query_as("select id, run from queue.jobs where lane = $1 and state = 'ready' and worker = $2")
        .bind(lane)
        .bind(worker)
        .fetch_all(connection)
        .await
}

/// Which of the lanes have work that this process could take now.
pub(crate) async fn lanes_with_work(
    connection: &mut PgConnection,
    lanes: &[String],
    kinds: &[&str],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select l from unnest($1::text[]) l \
         where not exists (select from queue.lanes where name = l and paused) \
           and exists (select from queue.jobs \
                       where lane = l and state = 'ready' and worker is null and kind = any($2))",
    )
    .bind(lanes)
    .bind(kinds)
    .fetch_all(connection)
    .await
}
