//! Logins. One row per refresh token; all tokens that came out of one login are a family.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, field};
use crate::{Result, Tx};
use chrono::{DateTime, Utc};
use domain::{IdentityProviderId, OrganizationId, SessionId, UserId};
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

#[derive(Debug)]
pub struct NewSession<'a> {
    pub id: SessionId,
    pub user: UserId,
    /// Names the login; equal to the id of its first session.
    pub family: Uuid,
    /// When the login began.
    pub login_at: DateTime<Utc>,
    pub refresh_hash: &'a str,
    pub expires_at: DateTime<Utc>,
    pub user_agent: Option<&'a str>,
    pub ip: Option<&'a str>,
    pub bounds: Bounds,
}

/// Of a login by way of a provider.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    pub provider: Option<IdentityProviderId>,
    /// However often it is refreshed.
    pub ends_at: Option<DateTime<Utc>>,
    /// When they showed there who they are, if that is known.
    pub proven_at: Option<DateTime<Utc>>,
}

pub async fn insert(tx: &mut Tx, new: &NewSession<'_>) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into sessions (id, organization_id, user_id, refresh_hash, family_id, login_at, created_at, last_used_at,
                               expires_at, user_agent, ip, provider_id, ends_at, proven_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10, $11, $12, $13)",
        new.id.0,
        organization.0,
        new.user.0,
        new.refresh_hash,
        new.family,
        new.login_at,
        now,
        new.expires_at,
        new.user_agent,
        new.ip,
        new.bounds.provider.map(|provider| provider.0),
        new.bounds.ends_at,
        new.bounds.proven_at,
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
    pub login_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub rotated: bool,
    pub revoked: bool,
    pub bounds: Bounds,
}

/// By the hash of a refresh token, in a transaction that presents this hash.
pub async fn find_presented(tx: &mut Tx, refresh_hash: &str) -> Result<Option<Session>> {
    let row = sqlx::query!(
        "select id, organization_id, user_id, family_id, login_at, expires_at, rotated_at, revoked_at, provider_id, ends_at, proven_at from sessions
          where refresh_hash = $1",
        refresh_hash
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Session {
        id: row.id.into(),
        organization: row.organization_id.into(),
        user: row.user_id.into(),
        family: row.family_id,
        login_at: row.login_at,
        expires_at: row.expires_at,
        rotated: row.rotated_at.is_some(),
        revoked: row.revoked_at.is_some(),
        bounds: Bounds {
            provider: row.provider_id.map(Into::into),
            ends_at: row.ends_at,
            proven_at: row.proven_at,
        },
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

/// What bounds a login that has not ended, and whoever proves anew who they are.
pub async fn bounds_of(tx: &mut Tx, family: Uuid) -> Result<Option<Bounds>> {
    let row = sqlx::query!(
        "select provider_id, ends_at from sessions where family_id = $1 and revoked_at is null limit 1",
        family
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Bounds {
        provider: row.provider_id.map(Into::into),
        ends_at: row.ends_at,
        proven_at: None,
    }))
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

/// Ends all logins by way of a provider.
pub async fn revoke_provider(tx: &mut Tx, provider: IdentityProviderId) -> Result<u64> {
    let (organization, now) = (tx.organization(), tx.now());
    let done = sqlx::query!(
        "update sessions set revoked_at = $3 where organization_id = $1 and provider_id = $2 and revoked_at is null",
        organization.0,
        provider.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

/// Ends all logins of a user by way of a provider.
pub async fn revoke_user_of(tx: &mut Tx, user: UserId, provider: IdentityProviderId) -> Result<u64> {
    let now = tx.now();
    let done = sqlx::query!(
        "update sessions set revoked_at = $3 where user_id = $1 and provider_id = $2 and revoked_at is null",
        user.0,
        provider.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

/// Notes the use of a login. Answers whether it wrote something: who changes the row just now knows that it is used.
pub async fn touch(tx: &mut Tx, session: Uuid) -> Result<bool> {
    let now = tx.now();
    let done = sqlx::query!(
        "update sessions set last_used_at = $2 where id in (select id from sessions where id = $1 for update skip locked)",
        session,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A login that stands: what its owner sees of it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Login {
    pub family: Uuid,
    pub login_at: DateTime<Utc>,
    pub last_used_at: DateTime<Utc>,
    /// Unless it is refreshed before.
    pub expires_at: DateTime<Utc>,
    pub user_agent: Option<String>,
    pub ip: Option<String>,
}

/// What logins can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "s.family_id"),
    field("device", Kind::Text, "s.user_agent").or_null(),
    field("address", Kind::Address, "s.ip").or_null(),
    field("created_at", Kind::Time, "s.login_at").by("s.login_at", "timestamptz"),
    field("last_used_at", Kind::Time, "s.last_used_at").by("s.last_used_at", "timestamptz"),
    field("expires_at", Kind::Time, "s.expires_at").by("s.expires_at", "timestamptz"),
];

pub const LIST: List =
    List { from: "sessions s", fields: FIELDS, usual: "-created_at", id: Key::uuid("s.family_id") };

/// The logins of a user that stand.
pub async fn list(tx: &mut Tx, user: UserId, wanted: &Wanted) -> Result<Vec<Placed<Login>>> {
    let (now, columns) = (
        tx.now(),
        "select s.family_id as family, s.login_at, s.last_used_at, s.expires_at, s.user_agent, s.ip",
    );
    let more = |sql: &mut QueryBuilder<Postgres>| {
        sql.push(" and s.user_id = ").push_bind(user.0);
        sql.push(" and s.rotated_at is null and s.revoked_at is null and s.expires_at > ").push_bind(now);
    };
    LIST.rows::<Login, _>(tx, wanted, columns, more).await
}

/// Whose login that is, if it stands.
pub async fn owner(tx: &mut Tx, family: Uuid) -> Result<Option<UserId>> {
    let now = tx.now();
    let user = sqlx::query_scalar!(
        "select user_id from sessions
          where family_id = $1 and rotated_at is null and revoked_at is null and expires_at > $2",
        family,
        now
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(user.map(Into::into))
}
