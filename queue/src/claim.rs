//! Claiming and giving back, as the database sees it.

use crate::enqueue::CHANNEL;
use crate::held::{Claim, StopSign};
use crate::listener::CANCELLATIONS;
use crate::turns::WINDOW;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use std::sync::{Arc, LazyLock};
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
    pub due_at: DateTime<Utc>,
    pub claimed_at: DateTime<Utc>,
    pub trace_parent: Option<String>,
    pub args_version: i16,
    /// The key that sealed the arguments.
    pub args_key: Option<String>,
    /// JSON as it was written; decoded by the handler's side, so that a bad payload is the job's failure.
    pub args: String,
    pub rank: DateTime<Utc>,
    pub limit_key: Option<String>,
    /// It waited for a limit and was called.
    pub was_called: bool,
    pub lane_limited: bool,
    /// Of a batch.
    pub is_member: bool,
    /// The batch that it was suspended for.
    pub awaited: Option<Uuid>,
    /// Slots of rates that it has paid for.
    pub paid: Option<Vec<String>>,
    /// The slots that it holds, or has taken a token of.
    pub slots: Arc<[String]>,
    /// How the run is told to stop.
    pub sign: Arc<StopSign>,
    /// The right to run; free again when the envelope is dropped.
    pub permit: Option<OwnedSemaphorePermit>,
}

/// Of a job without limits.
fn no_slots() -> Arc<[String]> {
    static NONE: LazyLock<Arc<[String]>> = LazyLock::new(|| Arc::new([]));
    NONE.clone()
}

impl Envelope {
    /// The types are those of our own statement, so they are not compared for each value of each row.
    pub fn read(row: &PgRow, lane: &str, worker: Uuid) -> Result<Self, sqlx::Error> {
        let mut limited: Vec<Option<String>> = row.try_get_unchecked::<Option<_>, _>(11)?.unwrap_or_default();
        let paid = limited.split_off(limited.len().min(3));
        let mut limited = limited.into_iter();
        Ok(Envelope {
            limit_key: limited.next().flatten(),
            was_called: limited.next().flatten().is_some(),
            lane_limited: limited.next().flatten().is_some(),
            paid: (!paid.is_empty()).then(|| paid.into_iter().flatten().collect()),
            slots: no_slots(),
            id: row.try_get_unchecked(0)?,
            run: row.try_get_unchecked(1)?,
            worker,
            lane: lane.to_owned(),
            kind: row.try_get_unchecked(2)?,
            organization: row.try_get_unchecked(3)?,
            attempt: row.try_get_unchecked(4)?,
            max_attempts: row.try_get_unchecked(5)?,
            due_at: row.try_get_unchecked(6)?,
            claimed_at: row.try_get_unchecked(7)?,
            trace_parent: row.try_get_unchecked(8)?,
            args: row.try_get_unchecked(9)?,
            rank: row.try_get_unchecked(10)?,
            is_member: row.try_get_unchecked(12)?,
            awaited: row.try_get_unchecked(13)?,
            args_version: row.try_get_unchecked::<Option<i16>, _>(14)?.unwrap_or(1),
            args_key: row.try_get_unchecked(15)?,
            sign: StopSign::new(),
            permit: None,
        })
    }
}

/// A rank below all that there are.
pub(crate) fn no_floor() -> DateTime<Utc> {
    DateTime::from_timestamp(-62_135_596_800, 0).unwrap_or_default() // the year 1
}

/// What limits need to know of a claimed row; null for almost all: its key, whether it was called, whether the lane is limited, and
/// what it has paid for.
macro_rules! limited {
    () => {
        "case when j.limit_key is not null or j.waits_for is not null or j.paid is not null \
                              or (select coalesce(set_at_once, at_once) is not null from queue.lanes where name = $1) \
                            then array[j.limit_key, case when j.waits_for is not null then 'called' end, \
                                       (select 'limited' from queue.lanes \
                                        where name = $1 and coalesce(set_at_once, at_once) is not null)] || j.paid end"
    };
}
pub(crate) use limited;

/// Around the `select` that picks rows: the worker's row is share-locked, so that nobody declares it lost meanwhile.
macro_rules! claiming {
    ($pick:expr) => {
        concat!(
            "with me as materialized (select id from queue.workers where id = $2 for key share), \
             picked as materialized (",
            $pick,
            ") \
             update queue.jobs j \
             set worker = $2, run = j.run + 1, attempt = j.attempt + 1, claimed_at = clock_timestamp(), \
                 published_at = null, \
                 unique_held = case when unique_held and unique_while & 2 = 0 and limit_key is null then false else unique_held end \
             where j.ctid = any(array(select ctid from picked)) and j.worker is null \
             returning j.id, j.run, j.kind, j.organization_id, j.attempt, j.max_attempts, j.due_at, j.claimed_at, \
                       j.trace_parent, j.args::text, j.rank, ",
            limited!(),
            ", j.part is not null, j.awaits, j.args_version, j.args_key"
        )
    };
}

/// How many to take: what is free of a lane that is limited over all processes, at most the parameter.
macro_rules! room {
    ($room:literal) => {
        concat!(
            "coalesce((select case when coalesce(set_at_once, at_once) is null then ",
            $room,
            " else least(",
            $room,
            ", \
               greatest(0, coalesce(set_at_once, at_once) \
                           - (select count(*) from queue.permits where slot = 'lane:' || $1))) end \
             from queue.lanes where name = $1), ",
            $room,
            ")"
        )
    };
}

/// In the order of the index. (The comparison with the end of a drain stands in a `coalesce`, so that no plan walks along the ids.) When it takes all that there is, no order between tenants is needed.
const IN_ORDER: &str = claiming!(concat!(
    "select ctid from queue.jobs \
     where lane = $1 and state = 'ready' and worker is null and kind = any($3) and rank > $4 and exists (select from me) \
       and not exists (select from queue.lanes where name = $1 and paused) \
       and coalesce(id <= (select drain_to from queue.lanes where name = $1), true) \
     order by case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end, rank \
     limit ",
    room!("$5"),
    " for update skip locked"
));

/// From the heads of some tenants' lines. Written with `case`, as the index is: row level security lets no other
/// expression reach an index.
const BY_TURNS: &str = claiming!(concat!(
    "select head.ctid from unnest($5::uuid[], $6::int8[]) as turn(tenant, jobs) cross join lateral ( \
       select ctid from queue.jobs \
       where lane = $1 and state = 'ready' and worker is null and kind = any($3) and rank > $4 and exists (select from me) \
         and not exists (select from queue.lanes where name = $1 and paused) \
         and coalesce(id <= (select drain_to from queue.lanes where name = $1), true) \
         and case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end \
             = turn.tenant \
       order by rank limit turn.jobs for update skip locked) head \
     limit ",
    room!("$7")
));

/// Which jobs a claim takes.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// Up to so many.
    InOrder(usize),
    /// Up to so many of each tenant.
    ByTurns(Vec<(Uuid, i64)>),
}

/// Takes jobs of the lane with ranks above `floor` for `worker`, of each tenant the lowest ranks. Takes nothing while the lane is
/// paused, or when the worker's row is gone (it was declared lost).
pub(crate) async fn claim(
    connection: &mut PgConnection,
    lane: &str,
    worker: Uuid,
    kinds: &[&str],
    wanted: &Wanted,
    floor: DateTime<Utc>,
) -> Result<Vec<Envelope>, sqlx::Error> {
    let query = match wanted {
        Wanted::InOrder(room) => {
            sqlx::query(IN_ORDER).bind(lane).bind(worker).bind(kinds).bind(floor).bind(*room as i64)
        }
        Wanted::ByTurns(turns) => sqlx::query(BY_TURNS)
            .bind(lane)
            .bind(worker)
            .bind(kinds)
            .bind(floor)
            .bind(turns.iter().map(|turn| turn.0).collect::<Vec<_>>())
            .bind(turns.iter().map(|turn| turn.1).collect::<Vec<_>>())
            .bind(turns.iter().map(|turn| turn.1).sum::<i64>()),
    };
    let rows = query.fetch_all(connection).await?;
    let mut envelopes =
        rows.iter().map(|row| Envelope::read(row, lane, worker)).collect::<Result<Vec<_>, _>>()?;
    envelopes.sort_unstable_by_key(|e| (e.rank, e.id));
    Ok(envelopes)
}

/// The tenants from `from` on with jobs that could be claimed, and their weights: one look at the head of each line, from the rank
/// `floor` on, as a claim. Entries of the index beneath it are passed, not followed to their rows, and those of `from` not even passed.
pub(crate) async fn heads(
    connection: &mut PgConnection,
    lane: &str,
    kinds: &[&str],
    from: Uuid,
    floor: DateTime<Utc>,
) -> Result<Vec<(Uuid, f64)>, sqlx::Error> {
    sqlx::query_as(
        "with recursive head as ( \
           (select case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end as tenant \
            from queue.jobs where lane = $1 and state = 'ready' and worker is null and kind = any($2) and rank >= $5 \
              and (case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end, rank) >= ($3, $5) \
            order by 1 limit 1) \
           union all \
           select next.tenant from head cross join lateral ( \
             select case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end as tenant \
             from queue.jobs where lane = $1 and state = 'ready' and worker is null and kind = any($2) and rank >= $5 \
               and case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end \
                   > head.tenant \
             order by 1 limit 1) next) \
         select head.tenant, coalesce(t.weight, 1)::float8 from head left join queue.tenants t on t.organization_id = head.tenant \
         limit $4",
    )
    .bind(lane)
    .bind(kinds)
    .bind(from)
    .bind(WINDOW)
    .bind(floor)
    .fetch_all(connection)
    .await
}

/// What is free of a lane that is limited over all processes; `None` when it is not.
pub(crate) async fn free(connection: &mut PgConnection, lane: &str) -> Result<Option<usize>, sqlx::Error> {
    let free: Option<i64> = sqlx::query_scalar(
        "select coalesce(set_at_once, at_once) - (select count(*) from queue.permits where slot = 'lane:' || $1) \
         from queue.lanes where name = $1 and coalesce(set_at_once, at_once) is not null",
    )
    .bind(lane)
    .fetch_optional(connection)
    .await?;
    Ok(free.map(|free| free.max(0) as usize))
}

/// Gives back jobs that were claimed and not started: the claim does not count as an attempt.
pub(crate) async fn give_back(connection: &mut PgConnection, jobs: &[Claim]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with back as ( \
           update queue.jobs j set worker = null, run = j.run + 1, attempt = j.attempt - 1, claimed_at = null \
           from unnest($1::uuid[], $2::int8[]) as u(id, run) \
           where j.id = u.id and j.run = u.run and j.worker is not null returning j.id, j.lane, not j.unique_held as let_go), \
         freed as (delete from queue.permits p using back where p.job_id = back.id), \
         held as (select queue.hold_again(array_agg(id)) from back where let_go having count(*) > 0) \
         select pg_notify($3, '~' || lane) from (select distinct lane from back) lanes, (select count(*) from held) h",
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

/// Which of the lanes have work that this process could take now; and [`CANCELLATIONS`] when a running job is to be stopped.
pub(crate) async fn lanes_with_work(
    connection: &mut PgConnection,
    lanes: &[String],
    kinds: &[&str],
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "select l from unnest($1::text[]) l left join queue.lanes q on q.name = l \
         where q.paused is not true \
           and exists (select from queue.jobs \
                       where lane = l and state = 'ready' and worker is null and kind = any($2) \
                         and (q.drain_to is null or id <= q.drain_to)) \
         union all \
         select $3 where exists (select from queue.jobs where cancel_requested and worker is not null)",
    )
    .bind(lanes)
    .bind(kinds)
    .bind(CANCELLATIONS)
    .fetch_all(connection)
    .await
}
