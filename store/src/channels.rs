//! Notification channels: where messages go.

use crate::listing::{self, Field, Key, Kind, List, Placed, Wanted, field};
use crate::lock::lock;
use crate::{Error, Result, Sealed, Tx};
use chrono::{DateTime, Utc};
use domain::{ChannelConfig, ChannelId, ChannelKind};
use sqlx::{FromRow, Postgres, QueryBuilder};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Channel {
    pub id: ChannelId,
    pub name: String,
    /// Something stands for its secret where that is sealed.
    pub config: ChannelConfig,
    pub sealed: Option<Sealed>,
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

#[derive(FromRow)]
struct ChannelRow {
    id: Uuid,
    kind: String,
    name: String,
    config: serde_json::Value,
    key_name: Option<String>,
    sealed_secret: Option<Vec<u8>>,
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
        // Who knows nothing of sealing leaves the old one beside a new secret.
        let sealed = Sealed::of(row.key_name, row.sealed_secret).filter(|_| config.is_without_secret());
        Ok(Channel {
            id: row.id.into(),
            name: row.name,
            config,
            sealed,
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
    sealed: Option<&Sealed>,
    is_active: bool,
) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into notification_channels (id, organization_id, kind, name, config, is_active, created_at, updated_at, key_name, sealed_secret)
         values ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9)",
        id.0,
        organization.0,
        config.kind().as_str(),
        name,
        config.to_value(),
        is_active,
        now,
        sealed.map(|sealed| sealed.key_name.as_str()),
        sealed.map(|sealed| sealed.bytes.as_slice()),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: ChannelId) -> Result<Channel> {
    sqlx::query_as!(
        ChannelRow,
        "select id, kind, name, config, key_name, sealed_secret, is_active, version, created_at, updated_at
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
            set name = $3, config = $4, is_active = $5, version = version + 1, updated_at = $6, key_name = $7, sealed_secret = $8
          where id = $1 and version = $2",
        channel.id.0,
        channel.version,
        channel.name,
        channel.config.to_value(),
        channel.is_active,
        now,
        channel.sealed.as_ref().map(|sealed| sealed.key_name.as_str()),
        channel.sealed.as_ref().map(|sealed| sealed.bytes.as_slice()),
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Stale) }
}

/// The same secret, sealed anew; no change of the channel. Nothing happens when somebody has changed it since it was read.
pub async fn reseal(tx: &mut Tx, before: &Channel, config: &ChannelConfig, sealed: &Sealed) -> Result<()> {
    sqlx::query!(
        "update notification_channels set config = $3, key_name = $4, sealed_secret = $5
          where id = $1 and version = $2 and ($6::bytea is null or sealed_secret is not distinct from $6)",
        before.id.0,
        before.version,
        config.to_value(),
        sealed.key_name,
        sealed.bytes,
        before.sealed.as_ref().map(|sealed| sealed.bytes.as_slice()),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Those of the organization with a secret that is not sealed with that key, and whether it is sealed at all.
pub async fn not_sealed_with(tx: &mut Tx, key_name: &str) -> Result<Vec<(ChannelId, bool)>> {
    let organization = tx.organization();
    let stand_ins = domain::STAND_INS.map(str::to_owned);
    let rows = sqlx::query!(
        r#"select id, key_name is not null and secret = any($3) as "is_sealed!"
             from (select id, key_name, coalesce(config->>'bot_token', config->>'webhook_url') as secret
                     from notification_channels where organization_id = $1) as c
            where secret is not null and not (key_name is not distinct from $2 and secret = any($3))
            order by id"#,
        organization.0,
        key_name,
        &stand_ins[..],
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), row.is_sealed)).collect())
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

/// What channels can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "c.id"),
    field("kind", Kind::Words(ChannelKind::WORDS), "c.kind"),
    field("name", Kind::LowerText, "lower(c.name)").by("lower(c.name)", "text"),
    field("is_active", Kind::Flag, "c.is_active"),
    field("created_at", Kind::Time, "c.created_at").by("c.created_at", "timestamptz"),
    field("updated_at", Kind::Time, "c.updated_at").by("c.updated_at", "timestamptz"),
];

/// `q` is a part of the name.
pub const LIST: List =
    List { from: "notification_channels c", fields: FIELDS, usual: "-created_at", id: Key::uuid("c.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<Channel>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "c.name");
    };
    let columns = "select c.id, c.kind, c.name, c.config, c.key_name, c.sealed_secret, c.is_active, c.version, c.created_at, c.updated_at";
    LIST.rows::<ChannelRow, _>(tx, wanted, columns, more).await
}

/// The name of the transaction's organization, for messages.
pub async fn organization_name(tx: &mut Tx) -> Result<String> {
    let organization = tx.organization();
    Ok(sqlx::query_scalar!("select name from organizations where id = $1", organization.0)
        .fetch_one(&mut **tx)
        .await?)
}
