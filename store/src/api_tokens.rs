//! API tokens: only their hash is stored; a token can do what its user can.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, field, within};
use crate::rights::NOTED;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{ApiTokenId, OrganizationId, UserId};
use sqlx::FromRow;
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

#[derive(FromRow)]
struct Row {
    id: Uuid,
    user_id: Uuid,
    name: String,
    token_prefix: String,
    scopes: Option<Vec<String>>,
    created_at: DateTime<Utc>,
    expires_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

impl From<Row> for ApiToken {
    fn from(row: Row) -> Self {
        ApiToken {
            id: row.id.into(),
            user: row.user_id.into(),
            name: row.name,
            prefix: row.token_prefix,
            scopes: row.scopes,
            created_at: row.created_at,
            expires_at: row.expires_at,
            last_used_at: row.last_used_at,
            revoked_at: row.revoked_at,
        }
    }
}

pub async fn get(tx: &mut Tx, id: ApiTokenId) -> Result<ApiToken> {
    let row = sqlx::query_as!(
        Row,
        "select id, user_id, name, token_prefix, scopes, created_at, expires_at, last_used_at, revoked_at from api_tokens where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Into::into).ok_or(Error::NotFound)
}

/// What tokens can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "k.id"),
    field("user", Kind::Id, "k.user_id").says("Whose."),
    field("name", Kind::LowerText, "lower(k.name)").by("lower(k.name)", "text"),
    field("prefix", Kind::Text, "k.token_prefix").says("How the token begins."),
    within("scope", Kind::Text, "exists (select from unnest(k.scopes) as s(name) where s.name")
        .says("A permission that it is for."),
    field("created_at", Kind::Time, "k.created_at").by("k.created_at", "timestamptz"),
    field("expires_at", Kind::Time, "k.expires_at").or_null(),
    field("last_used_at", Kind::Time, "k.last_used_at").or_null(),
    field("revoked_at", Kind::Time, "k.revoked_at").or_null(),
];

pub const LIST: List =
    List { from: "api_tokens k", fields: FIELDS, usual: "-created_at", id: Key::uuid("k.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<ApiToken>>> {
    let columns = "select k.id, k.user_id, k.name, k.token_prefix, k.scopes, k.created_at, k.expires_at, k.last_used_at, k.revoked_at";
    LIST.rows::<Row, _>(tx, wanted, columns, |_| {}).await
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
