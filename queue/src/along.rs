//! Jobs that go along. A handler whose work costs more by the transaction than by the piece takes waiting jobs of its own
//! kind and organization into its transaction, does the work of all, and ends all with the one commit.
//!
//! A job that goes along is not claimed: it is locked, and stays a waiting job until the commit. Whatever rolls the transaction
//! back (an error, a crash, a lost lease) leaves it as it was, to be run by itself. So one bad job cannot hold the others
//! up: a job that was tried before neither takes others along nor goes along.

use crate::payload::Payload;
use crate::running::{CompleteError, Running};
use crate::trace::TraceContext;
use crate::{Job, JobId, metrics};
use sqlx::{PgConnection, Row};
use std::sync::atomic::Ordering;
use uuid::Uuid;

/// A waiting job, locked until the end of the transaction that took it along.
#[derive(Debug)]
pub struct Along<J> {
    pub id: JobId,
    pub args: J,
    /// A position in the trace of what asked for this job.
    pub trace: TraceContext,
}

impl Running {
    /// Up to `most` waiting jobs of this kind, lane and organization that have not been tried yet, in the order in which they
    /// would be claimed. None when this job itself was tried before, works for no organization, or is limited, encrypted or of a batch. They stay waiting jobs
    /// unless [`Running::complete_along`] ends them in the same transaction. Those whose message is on its way to a consumer, and
    /// those whose unique key a claim would let go, do not go along.
    pub async fn take_along<J: Job>(
        &self,
        connection: &mut PgConnection,
        most: usize,
    ) -> Result<Vec<Along<J>>, sqlx::Error> {
        let Some(organization) = self.organization.filter(|_| {
            self.attempt == 1 && self.slots.is_empty() && !self.is_member && most > 0 && !self.has_no_row()
        }) else {
            return Ok(Vec::new());
        };
        let rows = sqlx::query(
            "select id, trace_parent, args::text, args_version from queue.jobs \
             where lane = $1 and state = 'ready' and worker is null and kind = $2 \
               and case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end = $3 \
               and attempt = 0 and crashes = 0 and not cancel_requested \
               and rank >= $4 and published_at is null and (unique_key is null or unique_while & 2 <> 0) \
               and limit_key is null and waits_for is null and paid is null and part is null and args_key is null \
               and not exists (select from queue.lanes where name = $1 and paused) \
               and coalesce(id <= (select drain_to from queue.lanes where name = $1), true) \
             order by rank limit $5 for update skip locked",
        )
        .bind(&self.lane)
        .bind(&self.kind)
        .bind(organization)
        .bind(self.rank)
        .bind(most as i64)
        .fetch_all(connection)
        .await?;
        let mut along = Vec::with_capacity(rows.len());
        for row in rows {
            let (id, trace, args): (Uuid, Option<String>, String) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            // What cannot be decoded fails by itself, when it is claimed.
            let version = row.try_get::<Option<i16>, _>(3)?.unwrap_or(1);
            let payload = Payload { id, kind: &self.kind, args: &args, version, key: None };
            if let Ok(args) = payload.read(&self.keys, |_| {}) {
                let parent = trace.and_then(|trace| trace.parse::<TraceContext>().ok());
                let trace = parent.map_or_else(TraceContext::new_root, TraceContext::child);
                along.push(Along { id: JobId(id), args, trace });
            }
        }
        Ok(along)
    }

    /// Ends jobs that went along as done, in the transaction that took them. Call [`Running::complete_in`] too.
    pub async fn complete_along<J>(
        &self,
        connection: &mut PgConnection,
        jobs: &[Along<J>],
    ) -> Result<(), CompleteError> {
        if jobs.is_empty() {
            return Ok(());
        }
        let ended = sqlx::query(
            "with gone as ( \
               delete from queue.jobs where id = any($1) and worker is null returning *), \
             kept as ( \
             insert into queue.history (id, organization_id, finished_at, due_at, started_at, worker, priority, attempt, \
                                        max_attempts, retention, outcome, lane, kind, trace_parent, args) \
             select id, organization_id, clock_timestamp(), due_at, now(), $2, priority, attempt + 1, max_attempts, $3, 'done', \
                    lane, kind, trace_parent, case when pg_column_size(args) <= 2000 then args end \
             from gone where $3 > 0) \
             select id from gone",
        )
        .bind(jobs.iter().map(|job| job.id.0).collect::<Vec<_>>())
        .bind(self.worker)
        .bind(self.retention.number())
        .fetch_all(connection)
        .await?;
        if ended.len() != jobs.len() {
            // Cannot be, for the rows are locked; if it is, nobody must believe that they are done.
            metrics::FENCED.inc();
            return Err(CompleteError::Fenced);
        }
        self.went_along.fetch_add(jobs.len() as u64, Ordering::AcqRel);
        Ok(())
    }
}
