//! Logins. One row per refresh token; all tokens that came out of one login are a family.

use crate::{Result, Tx};
use chrono::{DateTime, Utc};
use domain::{OrganizationId, SessionId, UserId};
use uuid::Uuid;

#[derive(Debug)]
pub struct NewSession<'a> {
    pub id: SessionId,
    pub user: UserId,
    /// Names the login; equal to the id of its first session.
    pub family: Uuid,
    pub refresh_hash: &'a str,
    pub expires_at: DateTime<Utc>,
    pub user_agent: Option<&'a str>,
    pub ip: Option<&'a str>,
}

pub async fn insert(tx: &mut Tx, new: &NewSession<'_>) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into sessions (id, organization_id, user_id, refresh_hash, family_id, created_at, expires_at, user_agent, ip)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        new.id.0,
        organization.0,
        new.user.0,
        new.refresh_hash,
        new.family,
        now,
        new.expires_at,
        new.user_agent,
        new.ip,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    pub organization: OrganizationId,
    pub user: UserId,
    pub family: Uuid,
    pub expires_at: DateTime<Utc>,
    pub rotated: bool,
    pub revoked: bool,
}

/// By the hash of a refresh token, in a transaction that presents this hash.
pub async fn find_presented(tx: &mut Tx, refresh_hash: &str) -> Result<Option<Session>> {
    let row = sqlx::query!(
        "select id, organization_id, user_id, family_id, expires_at, rotated_at, revoked_at from sessions where refresh_hash = $1",
        refresh_hash
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Session {
        id: row.id.into(),
        organization: row.organization_id.into(),
        user: row.user_id.into(),
        family: row.family_id,
        expires_at: row.expires_at,
        rotated: row.rotated_at.is_some(),
        revoked: row.revoked_at.is_some(),
    }))
}

/// Uses a refresh token up. Of two at once exactly one gets `true`.
pub async fn rotate(tx: &mut Tx, id: SessionId) -> Result<bool> {
    let now = tx.now();
    let done = sqlx::query!(
        "update sessions set rotated_at = $2
         where id = $1 and rotated_at is null and revoked_at is null and expires_at > $2",
        id.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends a login: neither its refresh tokens nor its access tokens work from the commit on.
pub async fn revoke_family(tx: &mut Tx, family: Uuid) -> Result<u64> {
    let now = tx.now();
    let done = sqlx::query!(
        "update sessions set revoked_at = $2 where family_id = $1 and revoked_at is null",
        family,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

/// Ends all logins of a user, except the family given.
pub async fn revoke_user(tx: &mut Tx, user: UserId, except: Option<Uuid>) -> Result<u64> {
    let now = tx.now();
    let done = sqlx::query!(
        "update sessions set revoked_at = $2
         where user_id = $1 and revoked_at is null and family_id is distinct from $3",
        user.0,
        now,
        except
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

/// Whether the login still stands.
pub async fn is_alive(tx: &mut Tx, family: Uuid, user: UserId) -> Result<bool> {
    let now = tx.now();
    let alive = sqlx::query_scalar!(
        r#"select exists(select from sessions
                         where family_id = $1 and user_id = $2 and revoked_at is null and expires_at > $3) as "alive!""#,
        family,
        user.0,
        now
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(alive)
}
