//! Lanes: what is in them, pause, drain and resume.

use super::notify;
use serde::Serialize;
use sqlx::postgres::types::PgInterval;
use sqlx::{PgConnection, Row};
use std::time::Duration;
use uuid::Uuid;

#[derive(Clone, Debug, Serialize)]
pub struct LaneView {
    pub name: String,
    pub transport: String,
    /// How the broker is seen by the lane's workers, the worst of what they say: connected, blocked (it takes no messages for
    /// now), away. Null on Postgres, and without a worker.
    pub broker: Option<String>,
    pub paused: bool,
    /// What was there is worked off; then it is paused.
    pub draining: bool,
    pub ready: i64,
    /// Of those that are ready: not handed to the broker yet. 0 on Postgres.
    pub unpublished: i64,
    pub scheduled: i64,
    pub running: i64,
    /// Waiting for a limit.
    pub limited: i64,
    /// Waiting for the end of a batch.
    pub suspended: i64,
    pub dead: i64,
    /// Numbers above 5,000 (above 500, when many lanes are full) are estimates.
    pub approximate: bool,
    /// Seconds that the job at the head has waited; 0 when none waits.
    pub oldest_ready_age_seconds: f64,
    /// Processes that work on it now. Always 0 when asked for one organization.
    pub workers: i64,
    /// Jobs that run at once in all processes, as it is in force; null: no limit but the workers' sizes.
    pub at_once: Option<i32>,
    /// Seconds of waiting that one point of priority is worth.
    pub aging_seconds: f64,
}

/// Up to this many jobs of a lane and state are counted, more are estimated.
const EXACT: i32 = 5_000;

/// All lanes with what is in them; with an organization only its jobs are counted. What it costs does not grow with the jobs.
pub async fn lanes(
    connection: &mut PgConnection,
    organization: Option<Uuid>,
) -> Result<Vec<LaneView>, sqlx::Error> {
    let rows = sqlx::query(
        "select j.lane as name, coalesce(l.transport, 'postgres') as transport, coalesce(l.paused, false) as paused, l.drain_to is not null as draining, j.ready, \
                case when l.transport = 'rabbitmq' then j.unpublished else 0 end as unpublished, \
                case when l.transport = 'rabbitmq' \
                     then (select min(w.broker) from queue.workers w where l.name = any(w.lanes)) end as broker, \
                j.scheduled, j.running, j.limited, j.suspended, j.dead, j.approximate, \
                greatest(coalesce(extract(epoch from clock_timestamp() - j.oldest), 0), 0)::float8 as age, \
                case when $1::uuid is null then (select count(*) from queue.workers w where l.name = any(w.lanes)) \
                     else 0 end as workers, \
                coalesce(l.set_at_once, l.at_once) as at_once, extract(epoch from coalesce(l.aging, '1 minute'))::float8 as aging \
         from queue.count_lanes($1, $2) j left join queue.lanes l on l.name = j.lane order by 1",
    )
    .bind(organization)
    .bind(EXACT)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(LaneView {
                name: row.try_get("name")?,
                transport: row.try_get("transport")?,
                broker: row.try_get("broker")?,
                paused: row.try_get("paused")?,
                draining: row.try_get("draining")?,
                ready: row.try_get("ready")?,
                unpublished: row.try_get("unpublished")?,
                scheduled: row.try_get("scheduled")?,
                running: row.try_get("running")?,
                limited: row.try_get("limited")?,
                suspended: row.try_get("suspended")?,
                dead: row.try_get("dead")?,
                approximate: row.try_get("approximate")?,
                oldest_ready_age_seconds: row.try_get("age")?,
                workers: row.try_get("workers")?,
                at_once: row.try_get("at_once")?,
                aging_seconds: row.try_get("aging")?,
            })
        })
        .collect()
}

/// No process takes jobs of the lane any more; running ones go on. Answers whether there is such a lane.
pub async fn pause(connection: &mut PgConnection, lane: &str) -> Result<bool, sqlx::Error> {
    set_paused(connection, lane, true).await
}

/// Everything that waits to run now, or runs, is worked off, and nothing that is enqueued from now on; it waits. When nothing is left, the lane
/// is paused. Jobs that are scheduled for later, to be tried again too, stay where they are. Answers whether there is such a lane.
pub async fn drain(connection: &mut PgConnection, lane: &str) -> Result<bool, sqlx::Error> {
    // Ids are UUIDv7: the last one of this millisecond.
    let set = sqlx::query(
        "update queue.lanes set paused = false, changed_at = clock_timestamp(), \
                drain_to = (lpad(to_hex((extract(epoch from clock_timestamp()) * 1000)::bigint), 12, '0') || repeat('f', 20))::uuid \
         where name = $1",
    )
    .bind(lane)
    .execute(&mut *connection)
    .await?;
    if set.rows_affected() == 1 {
        notify(connection, &format!("~{lane}")).await?;
    }
    Ok(set.rows_affected() == 1)
}

/// Lanes in which nothing is left that was to be worked off.
pub(crate) async fn pause_drained(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update queue.lanes l set paused = true, drain_to = null, changed_at = clock_timestamp() \
         where drain_to is not null \
           and not exists (select from queue.jobs j where j.lane = l.name and j.state = 'ready' and j.id <= l.drain_to) \
           and not exists (select from queue.jobs j where j.lane = l.name and j.aside = 'l' and j.id <= l.drain_to)",
    )
    .execute(connection)
    .await?;
    Ok(())
}

pub async fn resume(connection: &mut PgConnection, lane: &str) -> Result<bool, sqlx::Error> {
    let there = set_paused(connection, lane, false).await?;
    if there {
        notify(connection, &format!("~{lane}")).await?;
    }
    Ok(there)
}

async fn set_paused(connection: &mut PgConnection, lane: &str, paused: bool) -> Result<bool, sqlx::Error> {
    let set = sqlx::query(
        "update queue.lanes set paused = $2, drain_to = null, changed_at = clock_timestamp() where name = $1",
    )
    .bind(lane)
    .bind(paused)
    .execute(connection)
    .await?;
    Ok(set.rows_affected() == 1)
}

/// Makes lanes known before a worker has worked on them, so that they can be listed and paused.
pub async fn know_lanes(connection: &mut PgConnection, lanes: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query("insert into queue.lanes (name) select unnest($1::text[]) on conflict do nothing")
        .bind(lanes)
        .execute(connection)
        .await?;
    Ok(())
}

/// How much waiting time one point of priority is worth in the lane (a minute, unless it was changed; a day at most). Zero:
/// priorities do not count. Jobs that wait already keep their places. Answers whether there is such a lane.
pub async fn set_aging(
    connection: &mut PgConnection,
    lane: &str,
    aging: Duration,
) -> Result<bool, sqlx::Error> {
    let aging = aging.min(Duration::from_secs(86_400));
    let set =
        sqlx::query("update queue.lanes set aging = $2, changed_at = clock_timestamp() where name = $1")
            .bind(lane)
            .bind(PgInterval { months: 0, days: 0, microseconds: aging.as_micros() as i64 })
            .execute(connection)
            .await?;
    Ok(set.rows_affected() == 1)
}

/// The organization's share of a lane in which several wait, as a multiple of the usual share (0.01 to 1,000).
pub async fn set_weight(
    connection: &mut PgConnection,
    organization: Uuid,
    weight: f32,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into queue.tenants (organization_id, weight) values ($1, $2) \
         on conflict (organization_id) do update set weight = $2, changed_at = clock_timestamp()",
    )
    .bind(organization)
    .bind(if weight.is_finite() { weight.clamp(0.01, 1000.0) } else { 1.0 })
    .execute(connection)
    .await?;
    Ok(())
}

/// A tenant whose share is not the usual one.
#[derive(Clone, Debug, Serialize)]
pub struct WeightView {
    pub organization: Uuid,
    pub weight: f32,
}

pub async fn weights(connection: &mut PgConnection) -> Result<Vec<WeightView>, sqlx::Error> {
    let rows: Vec<(Uuid, f32)> =
        sqlx::query_as("select organization_id, weight from queue.tenants order by 1")
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|(organization, weight)| WeightView { organization, weight }).collect())
}
