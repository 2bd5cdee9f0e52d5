//! Links of mails with which a forgotten password is set anew. Only the hash of a token is stored.

use crate::{Result, Tx};
use chrono::{DateTime, Utc};
use domain::{OrganizationId, UserId};
use uuid::Uuid;

pub async fn insert(tx: &mut Tx, user: UserId, token_hash: &str, expires_at: DateTime<Utc>) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into password_resets (id, organization_id, user_id, token_hash, created_at, expires_at)
         values ($1, $2, $3, $4, $5, $6)",
        Uuid::now_v7(),
        organization.0,
        user.0,
        token_hash,
        now,
        expires_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whose token that is, in a transaction that presents its hash. Used and expired ones do not exist.
pub async fn find_presented(tx: &mut Tx, token_hash: &str) -> Result<Option<(OrganizationId, UserId)>> {
    let now = tx.now();
    let row = sqlx::query!(
        "select organization_id, user_id from password_resets
          where token_hash = $1 and used_at is null and expires_at > $2",
        token_hash,
        now
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| (row.organization_id.into(), row.user_id.into())))
}

/// Of two at once exactly one gets `true`.
pub async fn use_up(tx: &mut Tx, token_hash: &str) -> Result<bool> {
    let now = tx.now();
    let done = sqlx::query!(
        "update password_resets set used_at = $2 where token_hash = $1 and used_at is null and expires_at > $2",
        token_hash,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes all links of a person back: the password has changed.
pub async fn withdraw(tx: &mut Tx, user: UserId) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "update password_resets set used_at = $3 where organization_id = $1 and user_id = $2 and used_at is null",
        organization.0,
        user.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
