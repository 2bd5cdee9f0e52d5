//! Second factors: a TOTP secret per person, sealed, and recovery codes, hashed.

use crate::{Result, Tx};
use chrono::{DateTime, Utc};
use domain::UserId;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct SecondFactor {
    pub secret_id: Uuid,
    pub key_name: String,
    pub sealed_secret: Vec<u8>,
    /// `None`: being enrolled, and not asked for yet.
    pub confirmed_at: Option<DateTime<Utc>>,
}

pub async fn find(tx: &mut Tx, user: UserId) -> Result<Option<SecondFactor>> {
    let found = sqlx::query_as!(
        SecondFactor,
        "select secret_id, key_name, sealed_secret, confirmed_at from second_factors where user_id = $1",
        user.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(found)
}

/// Begins an enrolment, in place of one that was not finished. `false`: there is a confirmed one.
pub async fn begin(tx: &mut Tx, user: UserId, id: Uuid, key_name: &str, sealed: &[u8]) -> Result<bool> {
    let (organization, now) = (tx.organization(), tx.now());
    let done = sqlx::query!(
        "insert into second_factors as f (organization_id, user_id, secret_id, key_name, sealed_secret, created_at)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (user_id) do update set secret_id = $3, key_name = $4, sealed_secret = $5, created_at = $6, last_step = 0
         where f.confirmed_at is null",
        organization.0,
        user.0,
        id,
        key_name,
        sealed,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Uses the code of a time step up. Of many at once exactly one gets `true`; codes of earlier steps are used up with it.
pub async fn use_step(tx: &mut Tx, user: UserId, secret_id: Uuid, step: i64) -> Result<bool> {
    let done = sqlx::query!(
        "update second_factors set last_step = $3 where user_id = $1 and secret_id = $2 and last_step < $3",
        user.0,
        secret_id,
        step
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// From now on it is asked for. `false`: it was confirmed before.
pub async fn confirm(tx: &mut Tx, user: UserId) -> Result<bool> {
    let now = tx.now();
    let done = sqlx::query!(
        "update second_factors set confirmed_at = $2 where user_id = $1 and confirmed_at is null",
        user.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The same secret under another key.
pub async fn reseal(tx: &mut Tx, user: UserId, secret_id: Uuid, key_name: &str, sealed: &[u8]) -> Result<()> {
    sqlx::query!(
        "update second_factors set key_name = $3, sealed_secret = $4 where user_id = $1 and secret_id = $2",
        user.0,
        secret_id,
        key_name,
        sealed
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// With the recovery codes. `false`: there was none.
pub async fn remove(tx: &mut Tx, user: UserId) -> Result<bool> {
    sqlx::query!("delete from recovery_codes where user_id = $1", user.0).execute(&mut **tx).await?;
    let done =
        sqlx::query!("delete from second_factors where user_id = $1", user.0).execute(&mut **tx).await?;
    Ok(done.rows_affected() == 1)
}

/// In place of those before.
pub async fn set_recovery_codes(tx: &mut Tx, user: UserId, hashes: &[String]) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!("delete from recovery_codes where user_id = $1", user.0).execute(&mut **tx).await?;
    sqlx::query!(
        "insert into recovery_codes (organization_id, user_id, code_hash) select $1, $2, h from unnest($3::text[]) h",
        organization.0,
        user.0,
        hashes
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Of two at once exactly one gets `true`.
pub async fn use_recovery_code(tx: &mut Tx, user: UserId, hash: &str) -> Result<bool> {
    let now = tx.now();
    let done = sqlx::query!(
        "update recovery_codes set used_at = $3 where user_id = $1 and code_hash = $2 and used_at is null",
        user.0,
        hash,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn recovery_codes_left(tx: &mut Tx, user: UserId) -> Result<i64> {
    let left = sqlx::query_scalar!(
        r#"select count(*) as "left!" from recovery_codes where user_id = $1 and used_at is null"#,
        user.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(left)
}
