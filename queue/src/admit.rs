//! Limits at work: which of the claimed jobs may run, and who is called when there is room again.
//!
//! The statements are functions of the database (`migrations/0011_queue_limits.sql`), so that no lock on a slot waits for
//! this process.

use crate::claim::Envelope;
use crate::limit::{Limits, Need};
use crate::metrics;
use sqlx::postgres::types::PgInterval;
use sqlx::{Connection, PgConnection, Row};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tracing::warn;
use uuid::Uuid;

/// For how long ahead tokens of rates are handed out, each with its moment. Longer than the leader takes from one round to the
/// next, and no longer, because who has a token cannot be overtaken.
const AHEAD: Duration = Duration::from_secs(2);
/// Slots that are called for in one statement.
const CALLED: usize = 200;
/// How often a slot with much to call is called in a row: short of what the engine waits for one piece of work.
const ROUNDS: usize = 4;
/// How many jobs `queue.call` calls for a slot at most.
const EACH: i32 = 500;

fn interval(milliseconds: i64) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: milliseconds.saturating_mul(1000) }
}

fn ahead() -> PgInterval {
    interval(AHEAD.as_millis() as i64)
}

/// Keeps those that may run now; they hold their permits. The others are not claimed any more when this returns.
pub(crate) async fn admit(
    connection: &mut PgConnection,
    limits: &Limits,
    mut claimed: Vec<Envelope>,
    shift_ms: i64,
) -> Result<Vec<Envelope>, sqlx::Error> {
    let needs: Vec<Vec<Need>> = claimed.iter().map(|job| limits.needs(job)).collect();
    if needs.iter().all(Vec::is_empty) {
        return Ok(claimed);
    }
    // Sorted: in this order they are locked.
    let mut slots: BTreeMap<&str, (&str, i32)> = BTreeMap::new();
    for need in needs.iter().flatten() {
        slots.insert(&need.slot, (&need.limit, 0));
    }
    slots.values_mut().zip(1..).for_each(|(slot, n)| slot.1 = n);
    let (mut jobs, mut runs) = (Vec::new(), Vec::new());
    let (mut need_job, mut need_slot, mut need_pass) = (Vec::new(), Vec::new(), Vec::new());
    for (job, needs) in claimed.iter().zip(&needs).filter(|(_, needs)| !needs.is_empty()) {
        jobs.push(job.id);
        runs.push(job.run);
        for need in needs {
            need_job.push(jobs.len() as i32);
            need_slot.push(slots[need.slot.as_str()].1);
            need_pass.push(if need.is_rate {
                job.paid.as_ref().is_some_and(|paid| paid.contains(&need.slot))
            } else {
                job.was_called
            });
        }
    }
    let refused = sqlx::query("select * from queue.admit($1, $2, $3, $4, $5, $6, $7, $8, $9)")
        .bind(slots.keys().copied().collect::<Vec<_>>())
        .bind(slots.values().map(|slot| slot.0).collect::<Vec<_>>())
        .bind(jobs)
        .bind(runs)
        .bind(need_job)
        .bind(need_slot)
        .bind(need_pass)
        .bind(interval(shift_ms))
        .bind(ahead())
        .fetch_all(connection)
        .await?;
    let mut out = HashMap::new();
    for row in &refused {
        let (job, verdict): (Option<Uuid>, String) = (row.try_get(0)?, row.try_get(1)?);
        let (limit, count): (String, i32) = (row.try_get(2)?, row.try_get(3)?);
        metrics::LIMITED.with_label_values(&[limit.as_str()]).inc_by(count.max(0) as u64);
        job.map(|job| out.insert(job, verdict));
    }
    drop(slots);
    for (job, needs) in claimed.iter_mut().zip(needs) {
        if !needs.is_empty() {
            job.slots = needs.into_iter().map(|need| need.slot).collect::<Arc<[String]>>();
        }
    }
    claimed.retain(|job| !out.contains_key(&job.id));
    Ok(claimed)
}

/// Places may have become free: calls those that wait for them. Answers whether there are more to call.
pub(crate) async fn call(
    connection: &mut PgConnection,
    slots: &[&str],
    shift_ms: i64,
) -> Result<bool, sqlx::Error> {
    let mut more = false;
    for some in slots.chunks(CALLED) {
        let mut left = call_once(connection, some, shift_ms).await?;
        for _ in 1..ROUNDS {
            if left.is_empty() {
                break;
            }
            // Who was called has no permit yet, so the room that was told first is what counts.
            let names: Vec<&str> = left.keys().map(String::as_str).collect();
            let again = call_once(connection, &names, shift_ms).await?;
            left = again
                .into_iter()
                .filter_map(|(slot, rest)| {
                    let rest = rest.min(left.get(&slot)? - EACH);
                    (rest > 0).then_some((slot, rest))
                })
                .collect();
        }
        more |= !left.is_empty();
    }
    Ok(more)
}

/// Slots with more to call, and how many have room.
async fn call_once(
    connection: &mut PgConnection,
    slots: &[&str],
    shift_ms: i64,
) -> Result<BTreeMap<String, i32>, sqlx::Error> {
    let left: Vec<(String, i32)> = sqlx::query_as("select again, rest from queue.call($1, $2, $3)")
        .bind(slots)
        .bind(interval(shift_ms))
        .bind(ahead())
        .fetch_all(connection)
        .await?;
    Ok(left.into_iter().collect())
}

/// The leader's round: tokens that have become due, and whoever should have been called and was not, because a process ended
/// between the end of a job and the call. What is full is left out: 10,000 full slots take a tenth of a second. Answers whether
/// there are more to call.
pub(crate) async fn call_all(connection: &mut PgConnection, shift_ms: i64) -> Result<bool, sqlx::Error> {
    let slots: Vec<String> = sqlx::query_scalar(
        "with recursive line as ( \
           (select waits_for from queue.jobs where state = 'limited' order by waits_for limit 1) \
           union all \
           select next.waits_for from line cross join lateral ( \
             select waits_for from queue.jobs where state = 'limited' and waits_for > line.waits_for \
             order by waits_for limit 1) next) \
         select waits_for from line \
                left join queue.slots s on s.name = waits_for left join queue.limits l on l.name = s.limit_name \
         where l.at_once is null \
            or coalesce(l.set_at_once, l.at_once) > (select count(*) from queue.permits p where p.slot = waits_for)",
    )
    .fetch_all(&mut *connection)
    .await?;
    let slots: Vec<&str> = slots.iter().map(String::as_str).collect();
    call(connection, &slots, shift_ms).await
}

/// After a rate was changed: tokens are handed out for so far ahead at most as the new rate needs for a full bucket. With what the old
/// one had reserved, a rate set wrongly for a moment would stay in force for its whole gap.
pub(crate) async fn fit_buckets(connection: &mut PgConnection, limits: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update queue.slots s set tokens_until = clock_timestamp() \
                + coalesce(l.set_burst, l.burst, 1) * make_interval(secs => 1 / coalesce(l.set_per_second, l.per_second)) \
         from queue.limits l where l.name = any($1) and s.limit_name = l.name and l.per_second is not null \
           and s.tokens_until > clock_timestamp() \
                + coalesce(l.set_burst, l.burst, 1) * make_interval(secs => 1 / coalesce(l.set_per_second, l.per_second))",
    )
    .bind(limits)
    .execute(connection)
    .await?;
    Ok(())
}

/// Permits go with the claim they belong to, in one transaction. Should one be left all the same, it is taken away, and told.
pub(crate) async fn reconcile(connection: &mut PgConnection) -> Result<u64, sqlx::Error> {
    let left: Vec<String> = sqlx::query_scalar(
        "delete from queue.permits p where not exists ( \
           select from queue.jobs j where j.id = p.job_id and j.run = p.run and j.worker is not null) returning slot",
    )
    .fetch_all(&mut *connection)
    .await?;
    if !left.is_empty() {
        warn!(permits = left.len(), slots = ?&left[..left.len().min(5)], "permits without a running job were taken away");
        metrics::DRIFT.inc_by(left.len() as u64);
    }
    Ok(left.len() as u64)
}

/// Slots that nobody holds, waits for or paces by any more: keys come and go. First the locks, then a statement that sees what was
/// committed before it had them: a job that began to wait meanwhile would not be called without its slot.
pub(crate) async fn forget_idle(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut tx = connection.begin().await?;
    let idle: Vec<String> = sqlx::query_scalar(
        "select s.name from queue.slots s \
         where coalesce(s.tokens_until, '-infinity') < clock_timestamp() - interval '1 hour' \
           and not exists (select from queue.permits p where p.slot = s.name) \
           and not exists (select from queue.jobs j where j.waits_for = s.name and j.state = 'limited') \
         limit 10000 for update skip locked",
    )
    .fetch_all(&mut *tx)
    .await?;
    if !idle.is_empty() {
        sqlx::query(
            "delete from queue.slots s where s.name = any($1) \
               and coalesce(s.tokens_until, '-infinity') < clock_timestamp() - interval '1 hour' \
               and not exists (select from queue.permits p where p.slot = s.name) \
               and not exists (select from queue.jobs j where j.waits_for = s.name and j.state = 'limited')",
        )
        .bind(&idle)
        .execute(&mut *tx)
        .await?;
    }
    tx.commit().await
}
