//! Configuration items with the identifiers by which they are recognised.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, field, within};
use crate::lock::lock;
use crate::search::{Search, Searched};
use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::cmdb::CiStatus;
use domain::{CiCategoryId, CiId, DiscoverySourceId};
use serde_json::{Map, Value};
use sqlx::{Postgres, QueryBuilder};
use std::collections::BTreeMap;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
pub struct ConfigurationItem {
    pub id: CiId,
    pub name: String,
    pub class: String,
    pub category: Option<CiCategoryId>,
    pub status: CiStatus,
    pub description: String,
    pub attributes: Map<String, Value>,
    pub identifiers: BTreeMap<String, String>,
    /// The source that answers for it; `None`: kept by hand.
    pub discovery_source: Option<DiscoverySourceId>,
    pub last_seen_at: Option<DateTime<Utc>>,
    /// Its source no longer lists it.
    pub missing_since: Option<DateTime<Utc>>,
    /// Counts changes; the ETag.
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    name: String,
    class: String,
    category_id: Option<Uuid>,
    status: String,
    description: String,
    attributes: Value,
    identifiers: Value,
    discovery_source_id: Option<Uuid>,
    last_seen_at: Option<DateTime<Utc>>,
    missing_since: Option<DateTime<Utc>>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for ConfigurationItem {
    type Error = Error;
    fn try_from(row: Row) -> Result<ConfigurationItem> {
        let corrupt =
            |error: serde_json::Error| Error::Corrupt(format!("configuration item {}: {error}", row.id));
        Ok(ConfigurationItem {
            id: row.id.into(),
            name: row.name,
            class: row.class,
            category: row.category_id.map(Into::into),
            status: word(&row.status)?,
            description: row.description,
            attributes: serde_json::from_value(row.attributes).map_err(corrupt)?,
            identifiers: serde_json::from_value(row.identifiers).map_err(corrupt)?,
            discovery_source: row.discovery_source_id.map(Into::into),
            last_seen_at: row.last_seen_at,
            missing_since: row.missing_since,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

const COLUMNS: &str = "select c.id, c.name, c.class, c.category_id, c.status, c.description, c.attributes, \
     coalesce((select jsonb_object_agg(i.key, i.value) from ci_identifiers i where i.ci_id = c.id), '{}') as identifiers, \
     c.discovery_source_id, c.last_seen_at, c.missing_since, c.version, c.created_at, c.updated_at";
const FROM: &str = " from configuration_items c where true";

/// What items can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "c.id"),
    field("name", Kind::LowerText, "lower(c.name)").by("lower(c.name)", "text"),
    field("class", Kind::Text, "c.class"),
    field("category", Kind::Id, "c.category_id").or_null(),
    field("status", Kind::Words(CiStatus::WORDS), "c.status"),
    field("discovery_source", Kind::Id, "c.discovery_source_id").or_null(),
    field("missing", Kind::Flag, "(c.missing_since is not null)"),
    // The value of any identifier.
    within("identifier", Kind::Text, "exists (select from ci_identifiers i where i.ci_id = c.id and i.value"),
    field("last_seen_at", Kind::Time, "c.last_seen_at").or_null(),
    field("missing_since", Kind::Time, "c.missing_since").or_null(),
    field("created_at", Kind::Time, "c.created_at").by_id(),
    field("updated_at", Kind::Time, "c.updated_at"),
];

/// `q` are words as a person types them into a search field.
pub const LIST: List =
    List { from: "configuration_items c", fields: FIELDS, usual: "-created_at", id: Key::uuid("c.id") };

pub async fn get(tx: &mut Tx, id: CiId) -> Result<ConfigurationItem> {
    let mut sql = QueryBuilder::new(COLUMNS);
    sql.push(FROM).push(" and c.id = ").push_bind(id.0);
    let row: Option<Row> = sql.build_query_as().fetch_optional(&mut **tx).await?;
    row.ok_or(Error::NotFound)?.try_into()
}

lock!(CiId => ConfigurationItem, "select id from configuration_items where id = $1 for no key update");

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<ConfigurationItem>>> {
    let search = Search::of(wanted.q.as_deref());
    let candidates = match &search {
        Some(search) => search.candidates(tx, Searched::Items).await?,
        None => None,
    };
    if candidates.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let more = |sql: &mut QueryBuilder<Postgres>| {
        if let Some(candidates) = candidates {
            sql.push(" and c.id = any(").push_bind(candidates).push(")");
        }
        if let Some(search) = &search {
            search.condition(sql, Searched::Items);
        }
    };
    LIST.rows::<Row, _>(tx, wanted, COLUMNS, more).await
}

pub async fn insert(tx: &mut Tx, ci: &ConfigurationItem) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!(
        "insert into configuration_items (id, organization_id, name, class, category_id, status, description, attributes,
                                          created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
        ci.id.0,
        organization.0,
        ci.name,
        ci.class,
        ci.category.map(|id| id.0),
        ci.status.as_str(),
        ci.description,
        Value::Object(ci.attributes.clone()),
        ci.created_at,
    )
    .execute(&mut **tx)
    .await?;
    set_identifiers(tx, ci.id, &ci.identifiers).await
}

/// Writes the row and its identifiers if it still has `ci.version`; answers the new version.
pub async fn update(tx: &mut Tx, ci: &ConfigurationItem) -> Result<i64> {
    let now = tx.now();
    let version = sqlx::query_scalar!(
        "update configuration_items
            set name = $3, class = $4, category_id = $5, status = $6, description = $7, attributes = $8, updated_at = $9,
                version = version + 1
          where id = $1 and version = $2 returning version",
        ci.id.0,
        ci.version,
        ci.name,
        ci.class,
        ci.category.map(|id| id.0),
        ci.status.as_str(),
        ci.description,
        Value::Object(ci.attributes.clone()),
        now,
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::Stale)?;
    set_identifiers(tx, ci.id, &ci.identifiers).await?;
    Ok(version)
}

/// Exactly these from now on. An identifier that another item has violates `ci_identifiers_value_key`.
async fn set_identifiers(tx: &mut Tx, id: CiId, identifiers: &BTreeMap<String, String>) -> Result<()> {
    let organization = tx.organization();
    let (keys, values): (Vec<String>, Vec<String>) = identifiers.clone().into_iter().unzip();
    sqlx::query!("delete from ci_identifiers where ci_id = $1 and not (key = any($2))", id.0, &keys)
        .execute(&mut **tx)
        .await?;
    sqlx::query!(
        "insert into ci_identifiers (organization_id, ci_id, key, value)
         select $1, $2, u.key, u.value from unnest($3::text[], $4::text[]) as u(key, value)
         on conflict on constraint ci_identifiers_item_key do update set value = excluded.value",
        organization.0,
        id.0,
        &keys,
        &values
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Its identifiers and relationships go with it; tickets that name it stay.
pub async fn delete(tx: &mut Tx, id: CiId) -> Result<()> {
    let done = sqlx::query!("delete from configuration_items where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}
