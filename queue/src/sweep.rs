//! The leader's statements. All are set-based, safe to repeat, and skip what others have locked.

use crate::enqueue::CHANNEL;
use crate::metrics;
use sqlx::{Connection, PgConnection, Row};
use std::time::Duration;
use tracing::{error, warn};
use uuid::Uuid;

const PROMOTE_BATCH: i64 = 2000;

/// Makes due jobs ready; answers how long until the next one is due. However many wait for their time, it looks at none that is not due, also by a
/// plan that was made for an empty table: so the time stands in a query of its own (what is volatile reaches no index), the update has no
/// condition that another index would serve, and the next one is the first of its order, not the least of all.
pub(crate) async fn promote(
    connection: &mut PgConnection,
    shift_ms: i64,
) -> Result<Option<Duration>, sqlx::Error> {
    let promoted: i64 = sqlx::query_scalar(
        "with due as materialized ( \
           select ctid from queue.jobs \
           where state = 'scheduled' and due_at <= (select clock_timestamp() + make_interval(secs => $1)) \
           order by due_at limit $2 for update skip locked), \
         up as (update queue.jobs j set state = 'ready' \
                where j.ctid = any(array(select ctid from due)) returning j.lane), \
         told as (select pg_notify($3, '~' || lane) from (select distinct lane from up) lanes) \
         select count(*) + 0 * (select count(*) from told) from up",
    )
    .bind(shift_ms as f64 / 1000.0)
    .bind(PROMOTE_BATCH)
    .bind(CHANNEL)
    .fetch_one(&mut *connection)
    .await?;
    if promoted == PROMOTE_BATCH {
        return Ok(Some(Duration::ZERO));
    }
    let next: Option<f64> = sqlx::query_scalar(
        "select extract(epoch from due_at - clock_timestamp() - make_interval(secs => $1))::float8 \
         from queue.jobs where state = 'scheduled' order by due_at limit 1",
    )
    .bind(shift_ms as f64 / 1000.0)
    .fetch_optional(connection)
    .await?;
    // Not below 10 ms: a due row that somebody has locked must not make this spin.
    Ok(next.map(|seconds| Duration::from_secs_f64(seconds.clamp(0.01, 3600.0))))
}

/// Takes back what lost workers had claimed. A job that has cost `crash_limit` workers is taken for poison. Those that are lost not
/// for the first time come back at different moments within a few seconds: claimed together again, the innocent would be lost with
/// the poison each time, and be taken for it.
pub(crate) async fn rescue(
    connection: &mut PgConnection,
    lease: Duration,
    crash_limit: i16,
) -> Result<u64, sqlx::Error> {
    let mut tx = connection.begin().await?;
    let lost: Vec<Uuid> = sqlx::query_scalar(
        "select id from queue.workers where beat_at < clock_timestamp() - make_interval(secs => $1) for update skip locked",
    )
    .bind(lease.as_secs_f64())
    .fetch_all(&mut *tx)
    .await?;
    if lost.is_empty() {
        tx.rollback().await?;
        return Ok(0);
    }
    let rows = sqlx::query(
        "with lost as materialized ( \
           select id, run, worker, attempt, claimed_at, crashes + 1 >= $2 or attempt >= max_attempts as poison, \
                  case when crashes > 0 then make_interval(secs => random() * 2 ^ least(crashes, 4)) end as later from queue.jobs \
           where state = 'ready' and worker = any($1) for update), \
         back as ( \
           update queue.jobs j \
           set worker = null, run = j.run + 1, crashes = j.crashes + 1, claimed_at = null, \
               due_at = clock_timestamp() + case when lost.poison or lost.later is null then interval '0' else lost.later end, \
               last_error = $3, waits_for = null, paid = null, died_of = case when lost.poison then 'lost' end, \
               state = case when lost.poison then 'dead'::queue.state when lost.later is null then 'ready' else 'scheduled' end, \
               unique_held = case when lost.poison and j.unique_held then j.unique_while & 4 <> 0 else j.unique_held end \
           from lost where j.id = lost.id \
           returning j.id, j.kind, j.lane, j.state, j.organization_id, j.part, not j.unique_held and j.state <> 'dead' as let_go), \
         noted as ( \
           insert into queue.attempts (job_id, organization_id, attempt, retention, run, started_at, finished_at, worker, outcome, error) \
           select lost.id, back.organization_id, lost.attempt, greatest(queue.retention_of(back.kind), 2), lost.run, lost.claimed_at, \
                  clock_timestamp(), lost.worker, 'lost', $3 from lost join back on back.id = lost.id), \
         freed as (delete from queue.permits p using back where p.job_id = back.id), \
         held as (select queue.hold_again(array_agg(id)) from back where let_go having count(*) > 0), \
         died as (select queue.die_in_batches(array_agg(id)) from back where state = 'dead' and part is not null having count(*) > 0), \
         told as (select pg_notify($4, '~' || lane) from (select distinct lane from back where state = 'ready') lanes) \
         select kind, state = 'dead', count(*) + 0 * ((select count(*) from told) + (select count(*) from held) + (select count(*) from died)) from back group by 1, 2",
    )
    .bind(&lost)
    .bind(crash_limit)
    .bind("the worker was lost (no heartbeat within the lease)")
    .bind(CHANNEL)
    .fetch_all(&mut *tx)
    .await?;
    sqlx::query("delete from queue.workers where id = any($1)").bind(&lost).execute(&mut *tx).await?;
    tx.commit().await?;
    let mut jobs = 0u64;
    for row in rows {
        let (kind, dead, count): (String, bool, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        jobs += count as u64;
        metrics::ATTEMPTS.with_label_values(&[kind.as_str(), "lost"]).inc_by(count as u64);
        if dead {
            error!(job.kind = kind, jobs = count, "jobs lost too many workers and are dead letters");
        }
    }
    metrics::RESCUED.inc_by(jobs);
    warn!(workers = lost.len(), jobs, "lost workers: their jobs run again");
    Ok(jobs)
}

/// Jobs whose cancellation was asked for while they ran, and that came back instead of ending.
pub(crate) async fn cancel_waiting(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "select queue.put_away(array(select id from queue.jobs where cancel_requested and worker is null and state <> 'dead' order by id), \
                               array['scheduled', 'ready', 'limited', 'suspended'], 'cancelled', 'cancelled while it ran')",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Claims of workers that have no row: nobody would end their lease. There should be none.
pub(crate) async fn adopt(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let orphans = sqlx::query(
        "with back as ( \
           update queue.jobs j set worker = null, run = j.run + 1, claimed_at = null, due_at = clock_timestamp() \
           where j.state = 'ready' and j.worker is not null and not exists (select from queue.workers w where w.id = j.worker) \
           returning j.id, j.lane), \
         freed as (delete from queue.permits p using back where p.job_id = back.id), \
         held as (select queue.hold_again(array_agg(id)) from back) \
         select pg_notify($1, '~' || lane) from (select distinct lane from back) lanes, (select count(*) from held) h",
    )
    .bind(CHANNEL)
    .fetch_all(connection)
    .await?;
    if !orphans.is_empty() {
        error!(lanes = orphans.len(), "claims of workers without a row were given back");
    }
    Ok(())
}
