//! Writes that may be repeated: what was answered to the first request with an `Idempotency-Key`.
//!
//! The row is made in a transaction of its own before the work begins. While the work runs its key is task-local, and every
//! commit of that organization marks the row in the same transaction ([`mark`]). So there are three states to find:
//! an answer (repeat it), no answer but effective (the process died between commit and answer: never repeat the work), and
//! neither (nothing happened: after the lock ran out the work may be done again, and the first run can no longer commit).

use crate::{Error, Result, Tx};
use chrono::TimeDelta;
use domain::{OrganizationId, UserId};
use serde_json::Value;
use std::future::Future;
use uuid::Uuid;

/// How long a run that gave no answer keeps its key, seconds.
const LOCK_SECONDS: i64 = 120;
/// How long answers are kept, hours.
const KEEP_HOURS: i64 = 24;

tokio::task_local! {
    static CURRENT: Key;
}

#[derive(Clone, Debug)]
pub struct Key {
    pub organization: OrganizationId,
    pub user: UserId,
    pub method: String,
    pub path: String,
    pub key: String,
    pub run: Uuid,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names and values, as an object.
    pub headers: Value,
    /// None: the answer held a secret and was not kept.
    pub body: Option<Vec<u8>>,
}

#[derive(Debug)]
pub enum Begun {
    /// The work is ours to do.
    First,
    /// Another request with this key is at work.
    Running,
    /// The key was used for a different request.
    OtherRequest,
    /// It took effect, but its answer is lost.
    Lost,
    Answered(Answer),
}

/// Runs `work` so that its commits are tied to `key`.
pub async fn scope<F: Future>(key: Key, work: F) -> F::Output {
    CURRENT.scope(key, work).await
}

pub async fn begin(tx: &mut Tx, key: &Key, request_hash: &str) -> Result<Begun> {
    let now = tx.now();
    // Pruned here, where rows are made: no key, no work.
    sqlx::query!("delete from idempotency_keys where created_at < $1", now - TimeDelta::hours(KEEP_HOURS))
        .execute(&mut **tx)
        .await?;
    let inserted = sqlx::query!(
        "insert into idempotency_keys (organization_id, user_id, method, path, key, request_hash, run, created_at, locked_until)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict on constraint idempotency_keys_pkey do nothing",
        key.organization.0,
        key.user.0,
        key.method,
        key.path,
        key.key,
        request_hash,
        key.run,
        now,
        now + TimeDelta::seconds(LOCK_SECONDS),
    )
    .execute(&mut **tx)
    .await?;
    if inserted.rows_affected() == 1 {
        return Ok(Begun::First);
    }
    let row = sqlx::query!(
        "select request_hash, run, effective, status, headers, body, locked_until from idempotency_keys
         where user_id = $1 and method = $2 and path = $3 and key = $4",
        key.user.0,
        key.method,
        key.path,
        key.key
    )
    .fetch_optional(&mut **tx)
    .await?;
    // Gone between the two statements: the first request failed and gave its key back.
    let Some(row) = row else { return Ok(Begun::Running) };
    if row.request_hash != request_hash {
        return Ok(Begun::OtherRequest);
    }
    if let Some(status) = row.status {
        let status = u16::try_from(status).map_err(|_| Error::Corrupt(format!("status {status}")))?;
        return Ok(Begun::Answered(Answer { status, headers: row.headers, body: row.body }));
    }
    if row.locked_until > now {
        return Ok(Begun::Running);
    }
    if row.effective {
        return Ok(Begun::Lost);
    }
    let taken = sqlx::query!(
        "update idempotency_keys set run = $5, locked_until = $6
         where user_id = $1 and method = $2 and path = $3 and key = $4 and run = $7 and not effective and status is null",
        key.user.0,
        key.method,
        key.path,
        key.key,
        key.run,
        now + TimeDelta::seconds(LOCK_SECONDS),
        row.run,
    )
    .execute(&mut **tx)
    .await?;
    Ok(if taken.rows_affected() == 1 { Begun::First } else { Begun::Running })
}

/// Called by `Tx::commit`: ties what is committed to the key of the running request, if there is one. A request that
/// lost its key to a later one cannot commit.
pub(crate) async fn mark(tx: &mut Tx) -> Result<()> {
    let Ok(key) = CURRENT.try_with(Clone::clone) else {
        return Ok(());
    };
    if tx.scope_organization() != Some(key.organization) {
        return Ok(());
    }
    let done = sqlx::query!(
        "update idempotency_keys set effective = true
         where user_id = $1 and method = $2 and path = $3 and key = $4 and run = $5",
        key.user.0,
        key.method,
        key.path,
        key.key,
        key.run
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Stale) }
}

pub async fn finish(tx: &mut Tx, key: &Key, answer: &Answer) -> Result<()> {
    sqlx::query!(
        "update idempotency_keys set status = $6, headers = $7, body = $8
         where user_id = $1 and method = $2 and path = $3 and key = $4 and run = $5",
        key.user.0,
        key.method,
        key.path,
        key.key,
        key.run,
        i32::from(answer.status),
        answer.headers,
        answer.body,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Gives the key back after a failure that had no effect, so that the request can be repeated at once.
pub async fn forget(tx: &mut Tx, key: &Key) -> Result<()> {
    sqlx::query!(
        "delete from idempotency_keys
         where user_id = $1 and method = $2 and path = $3 and key = $4 and run = $5 and not effective",
        key.user.0,
        key.method,
        key.path,
        key.key,
        key.run
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
