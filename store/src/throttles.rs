//! How often something was tried: before it is known by whom, so it belongs to no organization. All of it needs a system transaction.

use crate::{Result, Tx};
use chrono::{DateTime, TimeDelta, Utc};

/// Failures leak away one after the other; what is above `free` has to wait, twice as long with each further failure.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub free: f64,
    /// In which one failure is forgiven.
    pub leak: TimeDelta,
    pub longest: TimeDelta,
}

/// Counts a try as failed before its outcome is known, so that many at once count too. `Some`: it must not be made before then, and was not
/// counted.
pub async fn take(tx: &mut Tx, key: &str, backoff: Backoff) -> Result<Option<DateTime<Utc>>> {
    let now = tx.now();
    let taken = sqlx::query_scalar!(
        "insert into throttles as t (key, level, touched_at, blocked_until) values ($1, 1, $2, $2)
         on conflict (key) do update set
           level = greatest(0, t.level - extract(epoch from $2 - t.touched_at)::float8 / $4) + 1,
           touched_at = $2,
           blocked_until = $2 + case when greatest(0, t.level - extract(epoch from $2 - t.touched_at)::float8 / $4) + 1 <= $3 then interval '0'
             else make_interval(secs => least($5, power(2, least(30, ceil(greatest(0, t.level - extract(epoch from $2 - t.touched_at)::float8 / $4) + 1 - $3))))) end
         where t.blocked_until <= $2
         returning key",
        key,
        now,
        backoff.free,
        backoff.leak.as_seconds_f64(),
        backoff.longest.as_seconds_f64(),
    )
    .fetch_optional(&mut **tx)
    .await?;
    if taken.is_some() {
        return Ok(None);
    }
    let until = sqlx::query_scalar!("select blocked_until from throttles where key = $1", key)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(Some(until.unwrap_or(now)))
}

/// The try was none that has to be held against anybody.
pub async fn forgive(tx: &mut Tx, key: &str, backoff: Backoff) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update throttles set level = greatest(0, level - 1),
                blocked_until = case when level - 1 <= $3 then $2 else blocked_until end
          where key = $1",
        key,
        now,
        backoff.free,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Forgets a key.
pub async fn clear(tx: &mut Tx, key: &str) -> Result<()> {
    sqlx::query!("delete from throttles where key = $1", key).execute(&mut **tx).await?;
    Ok(())
}

/// Counts a try, unless there were `most` within the time before. `Some`: when the next one may be made.
pub async fn take_within(
    tx: &mut Tx,
    key: &str,
    most: i32,
    within: TimeDelta,
) -> Result<Option<DateTime<Utc>>> {
    let now = tx.now();
    let taken = sqlx::query_scalar!(
        "insert into throttles as t (key, times, touched_at, blocked_until) values ($1, array[$2::timestamptz], $2, $2)
         on conflict (key) do update set
           times = array(select at from unnest(t.times) at where at > $3 order by at) || $2::timestamptz, touched_at = $2
         where cardinality(array(select at from unnest(t.times) at where at > $3)) < $4
         returning key",
        key,
        now,
        now - within,
        most,
    )
    .fetch_optional(&mut **tx)
    .await?;
    if taken.is_some() {
        return Ok(None);
    }
    let first = sqlx::query_scalar!(
        "select min(at) from throttles t, unnest(t.times) at where t.key = $1 and at > $2",
        key,
        now - within
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(Some(first.unwrap_or(now) + within))
}

/// Those that nobody has touched since then.
pub async fn prune(tx: &mut Tx, before: DateTime<Utc>, most: i64) -> Result<u64> {
    let gone = sqlx::query!(
        "delete from throttles where key = any(array(
           select key from throttles where touched_at < $1 order by touched_at limit $2 for update skip locked))",
        before,
        most
    )
    .execute(&mut **tx)
    .await?;
    Ok(gone.rows_affected())
}
