//! The rows of a lane on RabbitMQ, as the database sees them. `published_at` says that a message was handed to the relay;
//! a claim takes it away, so whatever becomes ready again is unpublished without anybody thinking of it.

use super::message::Notice;
use crate::claim::{Envelope, Wanted, limited};
use crate::turns::WINDOW;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};
use std::collections::HashMap;
use uuid::Uuid;

/// Around the `select` that picks rows.
macro_rules! marking {
    ($pick:literal) => {
        concat!(
            "with waiting as materialized (",
            $pick,
            ") \
             update queue.jobs j set published_at = statement_timestamp() \
             where j.ctid = any(array(select ctid from waiting)) and j.worker is null and j.published_at is null \
             returning j.id, j.run, j.kind, j.priority, j.organization_id, j.published_at, j.rank"
        )
    };
}

/// As claims do it (`claim::IN_ORDER`, `claim::BY_TURNS`).
const IN_ORDER: &str = marking!(
    "select ctid from queue.jobs \
     where lane = $1 and state = 'ready' and worker is null and published_at is null \
       and not exists (select from queue.lanes where name = $1 and paused) \
       and coalesce(id <= (select drain_to from queue.lanes where name = $1), true) \
     order by case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end, rank \
     limit $2 for update skip locked"
);

const BY_TURNS: &str = marking!(
    "select head.ctid from unnest($2::uuid[], $3::int8[]) as turn(tenant, jobs) cross join lateral ( \
       select ctid from queue.jobs \
       where lane = $1 and state = 'ready' and worker is null and published_at is null \
         and not exists (select from queue.lanes where name = $1 and paused) \
         and coalesce(id <= (select drain_to from queue.lanes where name = $1), true) \
         and case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end \
             = turn.tenant \
       order by rank limit turn.jobs for update skip locked) head"
);

/// Marks rows as published and answers them. Marked before they are published: no lock is held while the broker is talked to, and no
/// two relays publish the same row.
pub(crate) async fn mark(
    connection: &mut PgConnection,
    lane: &str,
    wanted: &Wanted,
) -> Result<Vec<Notice>, sqlx::Error> {
    let query = match wanted {
        Wanted::InOrder(room) => sqlx::query(IN_ORDER).bind(lane).bind(*room as i64),
        Wanted::ByTurns(turns) => sqlx::query(BY_TURNS)
            .bind(lane)
            .bind(turns.iter().map(|turn| turn.0).collect::<Vec<_>>())
            .bind(turns.iter().map(|turn| turn.1).collect::<Vec<_>>()),
    };
    let rows = query.fetch_all(connection).await?;
    let notices = rows
        .iter()
        .map(|row| {
            let notice = Notice {
                id: row.try_get(0)?,
                run: row.try_get(1)?,
                kind: row.try_get(2)?,
                priority: row.try_get(3)?,
                organization: row.try_get(4)?,
                published: row.try_get(5)?,
            };
            Ok((row.try_get(6)?, notice))
        })
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
    Ok(mixed(notices))
}

/// Everybody's in the order of their ranks, and the tenants' evenly mixed.
fn mixed(mut ranked: Vec<(DateTime<Utc>, Notice)>) -> Vec<Notice> {
    ranked.sort_unstable_by_key(|(rank, notice)| (*rank, notice.id));
    let mut totals: HashMap<Option<Uuid>, u32> = HashMap::new();
    for (_, notice) in &ranked {
        *totals.entry(notice.organization).or_default() += 1;
    }
    let mut places: HashMap<Option<Uuid>, u32> = HashMap::new();
    let mut placed: Vec<(f64, Notice)> = ranked
        .into_iter()
        .map(|(_, notice)| {
            let place = places.entry(notice.organization).or_default();
            *place += 1;
            ((f64::from(*place) - 0.5) / f64::from(totals[&notice.organization]), notice)
        })
        .collect();
    placed.sort_by(|one, other| one.0.total_cmp(&other.0));
    placed.into_iter().map(|(_, notice)| notice).collect()
}

/// As `claim::heads`, of jobs that are to be published.
pub(crate) async fn heads(
    connection: &mut PgConnection,
    lane: &str,
    from: Uuid,
) -> Result<Vec<(Uuid, f64)>, sqlx::Error> {
    sqlx::query_as(
        "with recursive head as ( \
           (select case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end as tenant \
            from queue.jobs where lane = $1 and state = 'ready' and worker is null and published_at is null \
              and case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end >= $2 \
            order by 1 limit 1) \
           union all \
           select next.tenant from head cross join lateral ( \
             select case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end as tenant \
             from queue.jobs where lane = $1 and state = 'ready' and worker is null and published_at is null \
               and case when organization_id is null then '00000000-0000-0000-0000-000000000000' else organization_id end \
                   > head.tenant \
             order by 1 limit 1) next) \
         select head.tenant, coalesce(t.weight, 1)::float8 from head left join queue.tenants t on t.organization_id = head.tenant \
         limit $3",
    )
    .bind(lane)
    .bind(from)
    .bind(WINDOW)
    .fetch_all(connection)
    .await
}

/// For rows whose message the broker did not confirm.
pub(crate) async fn unmark(
    connection: &mut PgConnection,
    ids: &[Uuid],
    published: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update queue.jobs set published_at = null \
         where id = any($1) and state = 'ready' and worker is null and published_at = $2",
    )
    .bind(ids)
    .bind(published)
    .execute(connection)
    .await?;
    Ok(())
}

/// Looks at the whole lane: to be called with pauses. Unmarks what was published more than `after` before the message that came last (`head`, in microseconds; without one: before
/// now) and is still not claimed: those messages are lost.
pub(crate) async fn unmark_lost(
    connection: &mut PgConnection,
    lane: &str,
    head: Option<i64>,
    after: std::time::Duration,
) -> Result<u64, sqlx::Error> {
    let head = head.and_then(DateTime::from_timestamp_micros);
    let unmarked = sqlx::query(
        "update queue.jobs set published_at = null \
         where lane = $1 and state = 'ready' and worker is null \
           and published_at < coalesce($2, clock_timestamp()) - make_interval(secs => $3)",
    )
    .bind(lane)
    .bind(head)
    .bind(after.as_secs_f64())
    .execute(connection)
    .await?;
    Ok(unmarked.rows_affected())
}

/// What became of the jobs that messages named.
#[derive(Debug)]
pub(crate) enum Claimed {
    Jobs(Vec<Envelope>),
    /// This worker has no row: it was declared lost, or is not registered yet. Ask again later.
    NotRegistered,
}

/// As [`crate::claim::claim`], of the jobs with these ids. Those that are gone, run already or are locked by somebody who moves
/// them are left alone; those of a paused lane become unpublished.
pub(crate) async fn claim(
    connection: &mut PgConnection,
    lane: &str,
    worker: Uuid,
    kinds: &[&str],
    ids: &[Uuid],
) -> Result<Claimed, sqlx::Error> {
    let rows = sqlx::query(concat!(
        "with me as materialized (select id from queue.workers where id = $2 for key share), \
         pause as materialized (select coalesce(bool_or(paused), false) as paused, \
                                       coalesce((array_agg(drain_to))[1], 'ffffffff-ffff-ffff-ffff-ffffffffffff') as up_to \
                                from queue.lanes where name = $1), \
         picked as materialized ( \
           select ctid from queue.jobs \
           where id = any($4) and lane = $1 and state = 'ready' and worker is null and kind = any($3) \
             and exists (select from me) and not (select paused from pause) and id <= (select up_to from pause) \
           for update skip locked), \
         taken as ( \
           update queue.jobs j \
           set worker = $2, run = j.run + 1, attempt = j.attempt + 1, claimed_at = clock_timestamp(), published_at = null, \
               unique_held = case when unique_held and unique_while & 2 = 0 and limit_key is null then false else unique_held end \
           where j.ctid = any(array(select ctid from picked)) and j.worker is null \
           returning j.id, j.run, j.kind, j.organization_id, j.attempt, j.max_attempts, j.due_at, j.claimed_at, \
                     j.trace_parent, j.args::text as args, j.rank, ",
        limited!(),
        " as limited, j.part is not null as is_member, j.awaits, j.args_version, j.args_key), \
         back as ( \
           update queue.jobs set published_at = null \
           where id = any($4) and state = 'ready' and worker is null and ((select paused from pause) or id > (select up_to from pause))) \
         select taken.*, exists (select from me) as registered from (select) one left join taken on true"
    ))
    .bind(lane)
    .bind(worker)
    .bind(kinds)
    .bind(ids)
    .fetch_all(connection)
    .await?;
    if let Some(row) = rows.first()
        && !row.try_get::<bool, _>("registered")?
    {
        return Ok(Claimed::NotRegistered);
    }
    let mut envelopes = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.try_get::<Option<Uuid>, _>(0)?.is_some() {
            envelopes.push(Envelope::read(row, lane, worker)?);
        }
    }
    envelopes.sort_unstable_by_key(|e| (e.rank, e.id));
    Ok(Claimed::Jobs(envelopes))
}
