//! Keys of which there is one job at a time: while it is in certain states, or for a time after it was enqueued.
//!
//! States are kept by a partial unique index over the rows that hold their key (`unique_held`), windows by rows of their own
//! (`queue.unique_windows`), which outlive the job. Jobs without a window do not touch those.

use crate::{JobId, NewJob};
use sqlx::PgConnection;
use std::collections::HashMap;
use std::time::Duration;
use uuid::Uuid;

/// In which states an earlier job with the same kind, organization and key keeps a new one from being enqueued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// While it waits: a job that is already running does not stop the next. One that comes back to wait (a retry, a snooze) takes its
    /// key again, unless the next has it by then.
    WhileWaiting,
    /// While it waits or runs.
    WhileUnfinished,
    /// While it waits, runs or is a dead letter: until somebody has retried that to its end or put it away.
    UntilOver,
    /// In no state, but for this long after it was enqueued, even when it has finished.
    Within(Duration),
}

impl Unique {
    /// Bit 1: while waiting, bit 2: while running, bit 4: while dead.
    pub(crate) fn mask(self) -> i16 {
        match self {
            Unique::WhileWaiting => 1,
            Unique::WhileUnfinished => 3,
            Unique::UntilOver => 7,
            Unique::Within(_) => 0,
        }
    }
}

impl NewJob {
    /// One job with this key (within kind and organization) in the states; another one is not enqueued, and the id of the one that is
    /// there is answered.
    pub fn unique(mut self, key: impl Into<String>, states: Unique) -> Self {
        self.unique = Some((key.into(), states));
        self
    }

    /// For a job with a unique key: besides, not again for this long after the last one was enqueued.
    pub fn window(mut self, time: Duration) -> Self {
        self.window = Some(time);
        self
    }

    fn keyed_window(&self) -> Option<(&str, Duration)> {
        let (key, states) = self.unique.as_ref()?;
        let states = if let Unique::Within(time) = states { Some(*time) } else { None };
        let window = self.window.max(states)?;
        Some((key, window))
    }
}

/// What the windows say of the jobs of one call.
#[derive(Default)]
pub(crate) struct Windows {
    /// Not to be enqueued: that job was, a short time ago.
    pub shut: HashMap<usize, JobId>,
    /// Not to be enqueued: an earlier one of the same call has the same key.
    pub follows: HashMap<usize, usize>,
}

impl Windows {
    /// Looks at the windows of all keys, and locks those that are not shut until the end of the transaction: who comes with the same
    /// key meanwhile waits, and sees what became of this one. In one order everywhere.
    pub async fn look(connection: &mut PgConnection, jobs: &[NewJob]) -> Result<Windows, sqlx::Error> {
        let keyed: Vec<usize> = (0..jobs.len()).filter(|i| jobs[*i].keyed_window().is_some()).collect();
        if keyed.is_empty() {
            return Ok(Windows::default());
        }
        let rows: Vec<(i32, Option<Uuid>, i32)> = sqlx::query_as(
            "with asked as materialized ( \
               select u.n, u.kind, u.unique_key, coalesce(u.organization_id, current_organization()) as organization_id \
               from unnest($1::int4[], $2::text[], $3::text[], $4::uuid[]) u(n, kind, unique_key, organization_id)), \
             shut as materialized ( \
               select a.n, w.job_id from asked a join queue.unique_windows w on w.kind = a.kind and w.unique_key = a.unique_key \
                    and w.organization_id is not distinct from a.organization_id \
               where w.ends_at > clock_timestamp()), \
             locked as ( \
               insert into queue.unique_windows as w (kind, unique_key, organization_id, job_id, ends_at) \
               select distinct a.kind, a.unique_key, a.organization_id, '00000000-0000-0000-0000-000000000000'::uuid, \
                      '-infinity'::timestamptz \
               from asked a where not exists (select from shut where shut.n = a.n) \
               order by a.kind, a.unique_key, a.organization_id \
               on conflict on constraint unique_windows_key do update set ends_at = w.ends_at \
               returning kind, unique_key, organization_id, job_id, ends_at) \
             select a.n, coalesce(shut.job_id, case when locked.ends_at > clock_timestamp() then locked.job_id end), \
                    min(a.n) over (partition by a.kind, a.unique_key, a.organization_id) \
             from asked a left join shut on shut.n = a.n \
                  left join locked on locked.kind = a.kind and locked.unique_key = a.unique_key \
                       and locked.organization_id is not distinct from a.organization_id",
        )
        .bind(keyed.iter().map(|i| *i as i32).collect::<Vec<_>>())
        .bind(keyed.iter().map(|i| jobs[*i].kind).collect::<Vec<_>>())
        .bind(keyed.iter().map(|i| jobs[*i].keyed_window().map(|window| window.0)).collect::<Vec<_>>())
        .bind(keyed.iter().map(|i| jobs[*i].organization).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
        let mut windows = Windows::default();
        for (n, job, first) in rows {
            if let Some(job) = job {
                windows.shut.insert(n as usize, JobId(job));
            } else if first != n {
                windows.follows.insert(n as usize, first as usize);
            }
        }
        Ok(windows)
    }

    /// Opens the windows of the jobs that were enqueued: those of the caller's `entered` that have one.
    pub async fn begin(
        connection: &mut PgConnection,
        jobs: &[NewJob],
        entered: impl Iterator<Item = (usize, Uuid)>,
    ) -> Result<(), sqlx::Error> {
        let begun: Vec<(usize, Uuid, &str, Duration)> = entered
            .filter_map(|(i, id)| jobs[i].keyed_window().map(|(key, time)| (i, id, key, time)))
            .collect();
        if begun.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "update queue.unique_windows w set job_id = u.id, ends_at = clock_timestamp() + make_interval(secs => u.seconds) \
             from unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::float8[]) u(id, kind, unique_key, organization_id, seconds) \
             where w.kind = u.kind and w.unique_key = u.unique_key \
               and w.organization_id is not distinct from coalesce(u.organization_id, current_organization())",
        )
        .bind(begun.iter().map(|b| b.1).collect::<Vec<_>>())
        .bind(begun.iter().map(|b| jobs[b.0].kind).collect::<Vec<_>>())
        .bind(begun.iter().map(|b| b.2).collect::<Vec<_>>())
        .bind(begun.iter().map(|b| jobs[b.0].organization).collect::<Vec<_>>())
        .bind(begun.iter().map(|b| b.3.as_secs_f64()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Windows that are taken away at a time.
const OVER: i64 = 20_000;

/// Takes away windows that are over, so many at most; answers whether there may be more.
pub(crate) async fn forget(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let gone = sqlx::query(
        "delete from queue.unique_windows where ctid = any(array( \
           select ctid from queue.unique_windows where ends_at < (select clock_timestamp()) \
           order by ends_at limit $1 for update skip locked)) \
         and ends_at < clock_timestamp()",
    )
    .bind(OVER)
    .execute(connection)
    .await?;
    Ok(gone.rows_affected() == OVER as u64)
}
