//! Limits as operators see and change them.

use super::notify;
use crate::admit;
use serde::Serialize;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

#[derive(Clone, Debug, Serialize)]
pub struct LimitView {
    pub name: String,
    /// As the program declares it; of a limit either this or `per_second` is given.
    pub at_once: Option<i32>,
    pub per_second: Option<f64>,
    pub burst: i32,
    /// What is in force instead of it.
    pub set_at_once: Option<i32>,
    pub set_per_second: Option<f64>,
    pub set_burst: Option<i32>,
    /// Jobs that hold a place of it now, all tenants and keys together (of one organization: its own).
    pub held: i64,
    /// Jobs that wait for it, counted up to 5,000.
    pub waiting: i64,
}

/// What an operator sets in place of what the program declares; `None` goes back to that.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LimitChange {
    pub at_once: Option<u32>,
    pub per_second: Option<f64>,
    pub burst: Option<u32>,
}

/// All limits of kinds (those of lanes stand with the lanes). With an organization the jobs counted are its own.
pub async fn limits(
    connection: &mut PgConnection,
    organization: Option<Uuid>,
) -> Result<Vec<LimitView>, sqlx::Error> {
    let rows = sqlx::query(
        "select l.*, \
                (select count(*) from queue.slots s join queue.permits p on p.slot = s.name \
                 where s.limit_name = l.name and ($1::uuid is null or exists ( \
                   select from queue.jobs j where j.id = p.job_id and j.organization_id = $1))) as held, \
                (select count(*) from (select from queue.slots s join queue.jobs j on j.waits_for = s.name and j.state = 'limited' \
                   where s.limit_name = l.name and ($1::uuid is null or j.organization_id = $1) limit 5000) w) as waiting \
         from queue.limits l order by l.name",
    )
    .bind(organization)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(LimitView {
                name: row.try_get("name")?,
                at_once: row.try_get("at_once")?,
                per_second: row.try_get("per_second")?,
                burst: row.try_get("burst")?,
                set_at_once: row.try_get("set_at_once")?,
                set_per_second: row.try_get("set_per_second")?,
                set_burst: row.try_get("set_burst")?,
                held: row.try_get("held")?,
                waiting: row.try_get("waiting")?,
            })
        })
        .collect()
}

/// Changes a limit while everything runs. What runs already goes on; what waits is called within a second or two. Answers
/// whether there is such a limit. A rate stays a rate: `at_once` of one is ignored, and the other way round. With a new rate the buckets are as
/// full as they would be with it, however long the old one would have kept them empty.
pub async fn set_limit(
    connection: &mut PgConnection,
    name: &str,
    change: LimitChange,
) -> Result<bool, sqlx::Error> {
    let number = |jobs: Option<u32>| jobs.map(|jobs| i32::try_from(jobs).unwrap_or(i32::MAX));
    let set = sqlx::query(
        "update queue.limits set set_at_once = case when at_once is not null then $2 end, \
                set_per_second = case when per_second is not null then $3 end, \
                set_burst = case when per_second is not null then $4 end, changed_at = clock_timestamp() where name = $1",
    )
    .bind(name)
    .bind(number(change.at_once))
    .bind(change.per_second.filter(|rate| rate.is_finite() && *rate > 0.0))
    .bind(number(change.burst).map(|burst| burst.max(1)))
    .execute(&mut *connection)
    .await?;
    admit::fit_buckets(connection, &[name]).await?;
    Ok(set.rows_affected() == 1)
}

/// As [`set_limit`] for a lane: how many of its jobs run at once in all processes.
pub async fn limit_lane(
    connection: &mut PgConnection,
    lane: &str,
    at_once: Option<u32>,
) -> Result<bool, sqlx::Error> {
    let set = sqlx::query(
        "update queue.lanes set set_at_once = $2, changed_at = clock_timestamp() where name = $1",
    )
    .bind(lane)
    .bind(at_once.map(|jobs| i32::try_from(jobs).unwrap_or(i32::MAX)))
    .execute(&mut *connection)
    .await?;
    notify(connection, &format!("~{lane}")).await?;
    Ok(set.rows_affected() == 1)
}

/// Looks for permits without a running job and takes them away, as the leader does every few seconds; answers how many. There
/// should be none.
pub async fn reconcile_limits(connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    admit::reconcile(connection).await
}
