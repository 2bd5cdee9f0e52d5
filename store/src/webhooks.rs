//! Outgoing webhooks: where events are told to, with sealed secrets.

use crate::listing::{self, Field, Key, Kind, List, Placed, Wanted, field, within};
use crate::lock::lock;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{EventPattern, UserId, WebhookId, WebhookOff};
use sqlx::{FromRow, Postgres, QueryBuilder};
use uuid::Uuid;

/// A secret as it is kept.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// It opens for this id only.
    pub id: Uuid,
    /// Of the key that it is sealed with.
    pub key_name: String,
    pub sealed: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Webhook {
    pub id: WebhookId,
    pub url: String,
    pub description: String,
    pub event_types: Vec<EventPattern>,
    pub is_active: bool,
    pub created_by: Option<UserId>,
    /// Whose rights decide what it hears.
    pub owner: UserId,
    /// Of the token with which the owner said so; `None`: all of the owner's rights.
    pub scopes: Option<Vec<String>>,
    pub expires_at: Option<DateTime<Utc>>,
    pub secret: Sealed,
    /// Signs too, until that time.
    pub previous: Option<(Sealed, DateTime<Utc>)>,
    pub disabled: Option<(DateTime<Utc>, WebhookOff)>,
    pub failing_since: Option<DateTime<Utc>>,
    pub failures: i32,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    url: String,
    description: String,
    event_types: Vec<String>,
    is_active: bool,
    created_by: Option<Uuid>,
    owner_id: Uuid,
    scopes: Option<Vec<String>>,
    expires_at: Option<DateTime<Utc>>,
    secret_id: Uuid,
    key_name: String,
    sealed_secret: Vec<u8>,
    previous_secret_id: Option<Uuid>,
    previous_key_name: Option<String>,
    previous_sealed_secret: Option<Vec<u8>>,
    previous_until: Option<DateTime<Utc>>,
    disabled_at: Option<DateTime<Utc>>,
    disabled_reason: Option<String>,
    failing_since: Option<DateTime<Utc>>,
    failures: i32,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Webhook {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let reason = row.disabled_reason.map(|word| word.parse()).transpose();
        let reason = reason.map_err(|error: domain::UnknownWord| Error::Corrupt(error.to_string()))?;
        let previous = match (row.previous_secret_id, row.previous_key_name, row.previous_sealed_secret) {
            (Some(id), Some(key_name), Some(sealed)) => Some(Sealed { id, key_name, sealed }),
            _ => None,
        };
        Ok(Webhook {
            id: row.id.into(),
            url: row.url,
            description: row.description,
            // Of types that this program does not know nothing is told.
            event_types: row.event_types.iter().filter_map(|text| text.parse().ok()).collect(),
            is_active: row.is_active,
            created_by: row.created_by.map(Into::into),
            owner: row.owner_id.into(),
            scopes: row.scopes,
            expires_at: row.expires_at,
            secret: Sealed { id: row.secret_id, key_name: row.key_name, sealed: row.sealed_secret },
            previous: previous.zip(row.previous_until),
            disabled: row.disabled_at.zip(reason),
            failing_since: row.failing_since,
            failures: row.failures,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

fn texts(event_types: &[EventPattern]) -> Vec<String> {
    event_types.iter().map(ToString::to_string).collect()
}

#[derive(Debug)]
pub struct NewWebhook<'a> {
    pub url: &'a str,
    pub description: &'a str,
    pub event_types: &'a [EventPattern],
    pub is_active: bool,
    pub owner: UserId,
    pub scopes: Option<&'a [String]>,
    pub expires_at: Option<DateTime<Utc>>,
    pub secret: &'a Sealed,
}

pub async fn insert(tx: &mut Tx, new: &NewWebhook<'_>) -> Result<WebhookId> {
    let (organization, now, id) = (tx.organization(), tx.now(), WebhookId::new());
    sqlx::query!(
        "insert into webhooks (id, organization_id, url, description, event_types, is_active, created_by, owner_id, scopes, expires_at,
                               secret_id, key_name, sealed_secret, disabled_at, disabled_reason, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10, $11, $12,
                 case when not $6 then $13::timestamptz end, case when not $6 then 'by_hand' end, $13, $13)",
        id.0,
        organization.0,
        new.url,
        new.description,
        &texts(new.event_types),
        new.is_active,
        new.owner.0,
        new.scopes,
        new.expires_at,
        new.secret.id,
        new.secret.key_name,
        new.secret.sealed,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(id)
}

pub async fn get(tx: &mut Tx, id: WebhookId) -> Result<Webhook> {
    sqlx::query_as!(
        Row,
        "select id, url, description, event_types, is_active, created_by, owner_id, scopes, expires_at, secret_id, key_name, sealed_secret,
                previous_secret_id, previous_key_name, previous_sealed_secret, previous_until, disabled_at, disabled_reason,
                failing_since, failures, version, created_at, updated_at
           from webhooks where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}

lock!(WebhookId => Webhook, "select id from webhooks where id = $1 for no key update");

/// Those of the organization that are switched on.
pub async fn listening(tx: &mut Tx) -> Result<Vec<Webhook>> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query_as!(
        Row,
        "select id, url, description, event_types, is_active, created_by, owner_id, scopes, expires_at, secret_id, key_name, sealed_secret,
                previous_secret_id, previous_key_name, previous_sealed_secret, previous_until, disabled_at, disabled_reason,
                failing_since, failures, version, created_at, updated_at
           from webhooks where organization_id = $1 and is_active and (expires_at is null or expires_at > $2) order by id",
        organization.0,
        now
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// Those of a person that are switched on, in the order in which they are to be locked.
pub async fn active_of(tx: &mut Tx, owner: UserId) -> Result<Vec<WebhookId>> {
    let organization = tx.organization();
    let ids = sqlx::query_scalar!(
        "select id from webhooks where organization_id = $1 and owner_id = $2 and is_active order by id",
        organization.0,
        owner.0
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids.into_iter().map(Into::into).collect())
}

pub async fn count(tx: &mut Tx) -> Result<i64> {
    let organization = tx.organization();
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from webhooks where organization_id = $1"#,
        organization.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(count)
}

/// What webhooks can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "w.id"),
    field("url", Kind::Text, "w.url").by("w.url", "text"),
    within("event_type", Kind::Text, "exists (select from unnest(w.event_types) as e(name) where e.name")
        .says("As it was given: `sla.*` is not `sla.breached`."),
    field("is_active", Kind::Flag, "w.is_active"),
    field("created_by", Kind::Id, "w.created_by").or_null(),
    field("owner", Kind::Id, "w.owner_id"),
    field("expires_at", Kind::Time, "w.expires_at").or_null(),
    field("disabled_at", Kind::Time, "w.disabled_at").or_null(),
    field("disabled_reason", Kind::Words(WebhookOff::WORDS), "w.disabled_reason").or_null(),
    field("failing_since", Kind::Time, "w.failing_since").or_null(),
    field("failures", Kind::Number, "w.failures"),
    field("created_at", Kind::Time, "w.created_at").by("w.created_at", "timestamptz"),
    field("updated_at", Kind::Time, "w.updated_at").by("w.updated_at", "timestamptz"),
];

/// `q` is a part of the address or of the description.
pub const LIST: List =
    List { from: "webhooks w", fields: FIELDS, usual: "-created_at", id: Key::uuid("w.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<Webhook>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "w.url || ' ' || w.description");
    };
    let columns = "select w.id, w.url, w.description, w.event_types, w.is_active, w.created_by, w.owner_id, w.scopes, w.expires_at, w.secret_id, \
                   w.key_name, w.sealed_secret, w.previous_secret_id, w.previous_key_name, w.previous_sealed_secret, w.previous_until, \
                   w.disabled_at, w.disabled_reason, w.failing_since, w.failures, w.version, w.created_at, w.updated_at";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}

/// Address, description, types, owner and whether it is on; needs the row locked.
pub async fn update(tx: &mut Tx, webhook: &Webhook) -> Result<()> {
    let now = tx.now();
    let (disabled_at, reason) = webhook.disabled.unzip();
    sqlx::query!(
        "update webhooks
            set url = $2, description = $3, event_types = $4, is_active = $5, owner_id = $6, scopes = $7, expires_at = $8,
                disabled_at = $9, disabled_reason = $10, failing_since = $11, failures = $12, version = version + 1, updated_at = $13
          where id = $1",
        webhook.id.0,
        webhook.url,
        webhook.description,
        &texts(&webhook.event_types),
        webhook.is_active,
        webhook.owner.0,
        webhook.scopes.as_deref(),
        webhook.expires_at,
        disabled_at,
        reason.map(WebhookOff::as_str),
        webhook.failing_since,
        webhook.failures,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A new secret; the present one signs as well until then, unless it is `None`.
pub async fn replace_secret(
    tx: &mut Tx,
    id: WebhookId,
    secret: &Sealed,
    previous_until: Option<DateTime<Utc>>,
) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update webhooks
            set previous_secret_id = case when $5::timestamptz is not null then secret_id end,
                previous_key_name = case when $5::timestamptz is not null then key_name end,
                previous_sealed_secret = case when $5::timestamptz is not null then sealed_secret end,
                previous_until = $5,
                secret_id = $2, key_name = $3, sealed_secret = $4, version = version + 1, updated_at = $6
          where id = $1",
        id.0,
        secret.id,
        secret.key_name,
        secret.sealed,
        previous_until,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The same secret under another key.
pub async fn reseal(tx: &mut Tx, id: WebhookId, secret: &Sealed) -> Result<()> {
    sqlx::query!(
        "update webhooks set key_name = $3, sealed_secret = $4 where id = $1 and secret_id = $2",
        id.0,
        secret.id,
        secret.key_name,
        secret.sealed
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// An attempt has failed. Answers the first failure since the last delivery and how many there were, if it is still switched on.
pub async fn note_failure(tx: &mut Tx, id: WebhookId) -> Result<Option<(DateTime<Utc>, i32)>> {
    let now = tx.now();
    let row = sqlx::query!(
        r#"update webhooks set failures = least(failures, 1000000) + 1, failing_since = coalesce(failing_since, $2)
            where id = $1 and is_active returning failing_since as "failing_since!", failures"#,
        id.0,
        now
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| (row.failing_since, row.failures)))
}

/// Something was delivered.
pub async fn note_success(tx: &mut Tx, id: WebhookId) -> Result<()> {
    sqlx::query!(
        "update webhooks set failures = 0, failing_since = null where id = $1 and failing_since is not null",
        id.0
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn delete(tx: &mut Tx, id: WebhookId) -> Result<()> {
    let done = sqlx::query!("delete from webhooks where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}
