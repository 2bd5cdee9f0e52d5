//! Notification channels: where messages go.

use crate::lock::lock;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{ChannelConfig, ChannelId, ChannelKind};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Channel {
    pub id: ChannelId,
    pub name: String,
    pub config: ChannelConfig,
    pub is_active: bool,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl Channel {
    pub fn kind(&self) -> ChannelKind {
        self.config.kind()
    }
}

struct ChannelRow {
    id: Uuid,
    kind: String,
    name: String,
    config: serde_json::Value,
    is_active: bool,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<ChannelRow> for Channel {
    type Error = Error;
    fn try_from(row: ChannelRow) -> Result<Self> {
        let kind = row.kind.parse().map_err(|word: domain::UnknownWord| Error::Corrupt(word.to_string()))?;
        // The message of a field error never holds the value, which may be a secret.
        let config = ChannelConfig::parse(kind, &row.config)
            .map_err(|errors| Error::Corrupt(format!("configuration of channel {}: {errors:?}", row.id)))?;
        Ok(Channel {
            id: row.id.into(),
            name: row.name,
            config,
            is_active: row.is_active,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

pub async fn insert(
    tx: &mut Tx,
    id: ChannelId,
    name: &str,
    config: &ChannelConfig,
    is_active: bool,
) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into notification_channels (id, organization_id, kind, name, config, is_active, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)",
        id.0,
        organization.0,
        config.kind().as_str(),
        name,
        config.to_value(),
        is_active,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: ChannelId) -> Result<Channel> {
    sqlx::query_as!(
        ChannelRow,
        "select id, kind, name, config, is_active, version, created_at, updated_at
           from notification_channels where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}

/// Changes the row if it still has `version`.
pub async fn update(tx: &mut Tx, channel: &Channel) -> Result<()> {
    let now = tx.now();
    let done = sqlx::query!(
        "update notification_channels
            set name = $3, config = $4, is_active = $5, version = version + 1, updated_at = $6
          where id = $1 and version = $2",
        channel.id.0,
        channel.version,
        channel.name,
        channel.config.to_value(),
        channel.is_active,
        now,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Stale) }
}

/// What would no longer find it: the names of escalation chains and of rules. Nobody can name it anew until the
/// transaction ends.
pub async fn lock_uses(tx: &mut Tx, id: ChannelId) -> Result<(Vec<String>, Vec<String>)> {
    sqlx::query_scalar!("select id from notification_channels where id = $1 for update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?;
    let chains = sqlx::query_scalar!(
        "select name from escalation_chains
          where steps @> jsonb_build_array(jsonb_build_object('channel', $1::text)) order by name",
        id.to_string(),
    )
    .fetch_all(&mut **tx)
    .await?;
    let rules =
        sqlx::query_scalar!("select name from notification_rules where channel_id = $1 order by name", id.0)
            .fetch_all(&mut **tx)
            .await?;
    Ok((chains, rules))
}

/// Whether it is there; nobody can delete it until the transaction ends.
pub async fn hold(tx: &mut Tx, id: ChannelId) -> Result<bool> {
    let found = sqlx::query_scalar!("select id from notification_channels where id = $1 for key share", id.0)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.is_some())
}

/// Its deliveries stay.
pub async fn delete(tx: &mut Tx, id: ChannelId) -> Result<()> {
    let done =
        sqlx::query!("delete from notification_channels where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}

lock!(ChannelId => Channel, "select id from notification_channels where id = $1 for no key update");

/// Newest first, at most `limit`, after the position `(created_at, id)`.
pub async fn list(
    tx: &mut Tx,
    kind: Option<ChannelKind>,
    q: Option<&str>,
    after: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<Channel>> {
    let (after_at, after_id) = after.unzip();
    sqlx::query_as!(
        ChannelRow,
        "select id, kind, name, config, is_active, version, created_at, updated_at
           from notification_channels
          where ($1::text is null or kind = $1)
            and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid))
            and ($5::text is null or position(lower($5) in lower(name)) > 0)
          order by created_at desc, id desc limit $4",
        kind.map(ChannelKind::as_str),
        after_at,
        after_id,
        limit,
        q,
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

/// The name of the transaction's organization, for messages.
pub async fn organization_name(tx: &mut Tx) -> Result<String> {
    let organization = tx.organization();
    Ok(sqlx::query_scalar!("select name from organizations where id = $1", organization.0)
        .fetch_one(&mut **tx)
        .await?)
}
