//! Inventories that are read on demand or on a schedule.

use crate::listing::{self, Field, Key, Kind, List, Placed, Wanted, field};
use crate::lock::lock;
use crate::{Error, Result, Sealed, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::cmdb::InventoryFormat;
use domain::inventory::InventoryOptions;
use domain::{DiscoverySourceId, MASK};
use serde_json::Value;
use sqlx::{FromRow, Postgres, QueryBuilder};
use std::fmt;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
pub struct DiscoverySource {
    pub id: DiscoverySourceId,
    pub name: String,
    pub format: InventoryFormat,
    /// An http(s) address, or a path below the organization's folder of inventories.
    pub location: String,
    /// The most trusted first.
    pub identification_keys: Vec<String>,
    pub options: InventoryOptions,
    pub auth_header: Option<AuthHeader>,
    /// A cron expression, read in `time_zone`.
    pub schedule: Option<String>,
    pub time_zone: String,
    pub is_active: bool,
    /// Counts changes; the ETag.
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// One more header of the request. Its value is a secret, for which [`MASK`] stands where it is sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthHeader {
    pub name: String,
    pub value: String,
    pub sealed: Option<Sealed>,
}

impl AuthHeader {
    /// As it comes from outside.
    pub fn new(name: String, value: String) -> Self {
        AuthHeader { name, value, sealed: None }
    }
}

impl fmt::Debug for AuthHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: (secret)", self.name)
    }
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    name: String,
    format: String,
    location: String,
    identification_keys: Vec<String>,
    options: Value,
    auth_header_name: Option<String>,
    auth_header_value: Option<String>,
    key_name: Option<String>,
    sealed_secret: Option<Vec<u8>>,
    schedule: Option<String>,
    time_zone: String,
    is_active: bool,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for DiscoverySource {
    type Error = Error;
    fn try_from(row: Row) -> Result<DiscoverySource> {
        Ok(DiscoverySource {
            id: row.id.into(),
            name: row.name,
            format: word(&row.format)?,
            location: row.location,
            identification_keys: row.identification_keys,
            options: serde_json::from_value(row.options).map_err(|error| {
                Error::Corrupt(format!("options of discovery source {}: {error}", row.id))
            })?,
            auth_header: row.auth_header_name.zip(row.auth_header_value).map(|(name, value)| {
                // Who knows nothing of sealing leaves the old one beside a new secret.
                let sealed = Sealed::of(row.key_name, row.sealed_secret).filter(|_| value == MASK);
                AuthHeader { name, value, sealed }
            }),
            schedule: row.schedule,
            time_zone: row.time_zone,
            is_active: row.is_active,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

macro_rules! select {
    ($tail:literal $(, $argument:expr)*) => {
        sqlx::query_as!(
            Row,
            "select id, name, format, location, identification_keys, options, auth_header_name, auth_header_value, key_name,
                    sealed_secret, schedule, time_zone, is_active, version, created_at, updated_at from discovery_sources " + $tail
            $(, $argument)*
        )
    };
}

fn json(options: &InventoryOptions) -> Value {
    serde_json::to_value(options).expect("options are JSON")
}

pub async fn get(tx: &mut Tx, id: DiscoverySourceId) -> Result<DiscoverySource> {
    select!("where id = $1", id.0).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound)?.try_into()
}

lock!(DiscoverySourceId => DiscoverySource, "select id from discovery_sources where id = $1 for no key update");

/// What sources can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "s.id"),
    field("name", Kind::LowerText, "lower(s.name)").by("lower(s.name)", "text"),
    field("format", Kind::Words(InventoryFormat::WORDS), "s.format"),
    field("location", Kind::Text, "s.location"),
    field("schedule", Kind::Text, "s.schedule").or_null(),
    field("time_zone", Kind::Text, "s.time_zone"),
    field("is_active", Kind::Flag, "s.is_active"),
    field("created_at", Kind::Time, "s.created_at").by_id(),
    field("updated_at", Kind::Time, "s.updated_at").by("s.updated_at", "timestamptz"),
];

/// `q` is a part of the name or of the location.
pub const LIST: List =
    List { from: "discovery_sources s", fields: FIELDS, usual: "-created_at", id: Key::uuid("s.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<DiscoverySource>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "s.name || ' ' || s.location");
    };
    let columns = "select s.id, s.name, s.format, s.location, s.identification_keys, s.options, s.auth_header_name, s.auth_header_value, s.key_name, s.sealed_secret, \
                   s.schedule, s.time_zone, s.is_active, s.version, s.created_at, s.updated_at";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}

pub async fn insert(tx: &mut Tx, source: &DiscoverySource) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!(
        "insert into discovery_sources (id, organization_id, name, format, location, identification_keys, options,
                                        auth_header_name, auth_header_value, schedule, time_zone, is_active, created_at, updated_at,
                                        key_name, sealed_secret)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, $14, $15)",
        source.id.0,
        organization.0,
        source.name,
        source.format.as_str(),
        source.location,
        &source.identification_keys,
        json(&source.options),
        source.auth_header.as_ref().map(|header| &header.name),
        source.auth_header.as_ref().map(|header| &header.value),
        source.schedule,
        source.time_zone,
        source.is_active,
        source.created_at,
        sealed(source).map(|sealed| sealed.key_name.as_str()),
        sealed(source).map(|sealed| sealed.bytes.as_slice()),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes the row if it still has `source.version`; answers the new version.
pub async fn update(tx: &mut Tx, source: &DiscoverySource) -> Result<i64> {
    let now = tx.now();
    sqlx::query_scalar!(
        "update discovery_sources
            set name = $3, format = $4, location = $5, identification_keys = $6, options = $7, auth_header_name = $8,
                auth_header_value = $9, schedule = $10, time_zone = $11, is_active = $12, updated_at = $13, version = version + 1,
                key_name = $14, sealed_secret = $15
          where id = $1 and version = $2 returning version",
        source.id.0,
        source.version,
        source.name,
        source.format.as_str(),
        source.location,
        &source.identification_keys,
        json(&source.options),
        source.auth_header.as_ref().map(|header| &header.name),
        source.auth_header.as_ref().map(|header| &header.value),
        source.schedule,
        source.time_zone,
        source.is_active,
        now,
        sealed(source).map(|sealed| sealed.key_name.as_str()),
        sealed(source).map(|sealed| sealed.bytes.as_slice()),
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::Stale)
}

/// The same secret, sealed anew; no change of the source. Nothing happens when somebody has changed it since it was read.
pub async fn reseal(tx: &mut Tx, before: &DiscoverySource, new: &Sealed) -> Result<()> {
    sqlx::query!(
        "update discovery_sources set auth_header_value = $3, key_name = $4, sealed_secret = $5
          where id = $1 and version = $2 and ($6::bytea is null or sealed_secret is not distinct from $6)",
        before.id.0,
        before.version,
        MASK,
        new.key_name,
        new.bytes,
        sealed(before).map(|sealed| sealed.bytes.as_slice()),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Those of the organization with a header that is not sealed with that key, and whether it is sealed at all.
pub async fn not_sealed_with(tx: &mut Tx, key_name: &str) -> Result<Vec<(DiscoverySourceId, bool)>> {
    let organization = tx.organization();
    let rows = sqlx::query!(
        r#"select id, key_name is not null and auth_header_value = $3 as "is_sealed!" from discovery_sources
            where organization_id = $1 and auth_header_value is not null
              and not (key_name is not distinct from $2 and auth_header_value = $3)
            order by id"#,
        organization.0,
        key_name,
        MASK,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), row.is_sealed)).collect())
}

fn sealed(source: &DiscoverySource) -> Option<&Sealed> {
    source.auth_header.as_ref().and_then(|header| header.sealed.as_ref())
}

/// Its runs go with it; its configuration items stay, and are kept by hand from then on.
pub async fn delete(tx: &mut Tx, id: DiscoverySourceId) -> Result<()> {
    let done = sqlx::query!("delete from discovery_sources where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}
