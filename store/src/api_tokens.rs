//! API tokens: only their hash is stored; a token can do what its user can.

use crate::rights::NOTED;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{ApiTokenId, OrganizationId, UserId};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct ApiToken {
    pub id: ApiTokenId,
    pub user: UserId,
    pub name: String,
    /// The first characters of the token, so that its owner recognises it.
    pub prefix: String,
    /// The permissions that it is for; `None`: all of its user.
    pub scopes: Option<Vec<String>>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub last_used_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
}

#[derive(Debug)]
pub struct NewApiToken<'a> {
    pub user: UserId,
    pub name: &'a str,
    pub hash: &'a str,
    pub prefix: &'a str,
    pub scopes: Option<&'a [String]>,
    pub expires_at: Option<DateTime<Utc>>,
}

pub async fn insert(tx: &mut Tx, new: &NewApiToken<'_>) -> Result<ApiTokenId> {
    let (organization, now, id) = (tx.organization(), tx.now(), ApiTokenId::new());
    sqlx::query!(
        "insert into api_tokens (id, organization_id, user_id, name, token_hash, token_prefix, created_at, expires_at, scopes)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        id.0,
        organization.0,
        new.user.0,
        new.name,
        new.hash,
        new.prefix,
        now,
        new.expires_at,
        new.scopes,
    )
    .execute(&mut **tx)
    .await?;
    Ok(id)
}

/// Where the token leads of which the transaction presents this hash.
pub async fn organization_of(tx: &mut Tx, hash: &str) -> Result<Option<OrganizationId>> {
    let found = sqlx::query_scalar!("select organization_id from api_tokens where token_hash = $1", hash)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.map(Into::into))
}

/// Notes the use, unless somebody else just did. Answers whether it wrote something.
pub async fn touch(tx: &mut Tx, id: ApiTokenId) -> Result<bool> {
    let now = tx.now();
    let done = sqlx::query!(
        "update api_tokens set last_used_at = $2 where id = $1 and (last_used_at is null or last_used_at < $3)",
        id.0,
        now,
        now - NOTED,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn get(tx: &mut Tx, id: ApiTokenId) -> Result<ApiToken> {
    let row = sqlx::query!(
        "select id, user_id, name, token_prefix, scopes, created_at, expires_at, last_used_at, revoked_at from api_tokens where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?;
    Ok(ApiToken {
        id: row.id.into(),
        user: row.user_id.into(),
        name: row.name,
        prefix: row.token_prefix,
        scopes: row.scopes,
        created_at: row.created_at,
        expires_at: row.expires_at,
        last_used_at: row.last_used_at,
        revoked_at: row.revoked_at,
    })
}

/// Newest first; of one user, or of all. `after` is the creation time and id of the last one of the page before.
pub async fn list(
    tx: &mut Tx,
    user: Option<UserId>,
    after: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<ApiToken>> {
    let (organization, (after_at, after_id)) = (tx.organization(), after.unzip());
    let rows = sqlx::query!(
        "select id, user_id, name, token_prefix, scopes, created_at, expires_at, last_used_at, revoked_at from api_tokens
         where organization_id = $5 and ($1::uuid is null or user_id = $1)
           and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid))
         order by created_at desc, id desc limit $4",
        user.map(|u| u.0),
        after_at,
        after_id,
        limit,
        organization.0,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| ApiToken {
            id: row.id.into(),
            user: row.user_id.into(),
            name: row.name,
            prefix: row.token_prefix,
            scopes: row.scopes,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
        })
        .collect())
}

/// All tokens of a user, for good: a user who comes back makes new ones.
pub async fn revoke_user(tx: &mut Tx, user: UserId) -> Result<u64> {
    let now = tx.now();
    let done = sqlx::query!(
        "update api_tokens set revoked_at = $2 where user_id = $1 and revoked_at is null",
        user.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

pub async fn revoke(tx: &mut Tx, id: ApiTokenId) -> Result<()> {
    let now = tx.now();
    sqlx::query!("update api_tokens set revoked_at = coalesce(revoked_at, $2) where id = $1", id.0, now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
