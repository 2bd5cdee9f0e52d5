//! Configuration items with the identifiers by which they are recognised.

use crate::lock::lock;
use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::cmdb::CiStatus;
use domain::{CiCategoryId, CiId, DiscoverySourceId};
use serde_json::{Map, Value};
use sqlx::QueryBuilder;
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

const SELECT: &str = "select c.id, c.name, c.class, c.category_id, c.status, c.description, c.attributes, \
     coalesce((select jsonb_object_agg(i.key, i.value) from ci_identifiers i where i.ci_id = c.id), '{}') as identifiers, \
     c.discovery_source_id, c.last_seen_at, c.missing_since, c.version, c.created_at, c.updated_at \
     from configuration_items c where true";

#[derive(Clone, Debug, Default)]
pub struct CiFilter {
    pub class: Option<String>,
    pub category: Option<CiCategoryId>,
    pub status: Option<CiStatus>,
    pub discovery_source: Option<DiscoverySourceId>,
    pub missing: Option<bool>,
    pub name: Option<String>,
    /// The value of any identifier.
    pub identifier: Option<String>,
    /// Words as a person types them into a search field.
    pub q: Option<String>,
}

pub async fn get(tx: &mut Tx, id: CiId) -> Result<ConfigurationItem> {
    let mut sql = QueryBuilder::new(SELECT);
    sql.push(" and c.id = ").push_bind(id.0);
    let row: Option<Row> = sql.build_query_as().fetch_optional(&mut **tx).await?;
    row.ok_or(Error::NotFound)?.try_into()
}

lock!(CiId => ConfigurationItem, "select id from configuration_items where id = $1 for no key update");

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CiOrderBy {
    /// Ids grow with time.
    #[default]
    CreatedAt,
    Name,
}

/// At most `limit`, after the name and id of the last one of the page before.
pub async fn list(
    tx: &mut Tx,
    filter: &CiFilter,
    (order, descending): (CiOrderBy, bool),
    after: Option<(String, CiId)>,
    limit: i64,
) -> Result<Vec<ConfigurationItem>> {
    let mut sql = QueryBuilder::new(SELECT);
    sql.push(" and c.organization_id = ").push_bind(tx.organization().0);
    if let Some(class) = &filter.class {
        sql.push(" and c.class = ").push_bind(class.clone());
    }
    if let Some(category) = filter.category {
        sql.push(" and c.category_id = ").push_bind(category.0);
    }
    if let Some(status) = filter.status {
        sql.push(" and c.status = ").push_bind(status.as_str());
    }
    if let Some(source) = filter.discovery_source {
        sql.push(" and c.discovery_source_id = ").push_bind(source.0);
    }
    match filter.missing {
        Some(true) => drop(sql.push(" and c.missing_since is not null")),
        Some(false) => drop(sql.push(" and c.missing_since is null")),
        None => {}
    }
    if let Some(name) = &filter.name {
        sql.push(" and lower(c.name) = lower(").push_bind(name.clone()).push(")");
    }
    if let Some(value) = &filter.identifier {
        sql.push(" and c.id in (select i.ci_id from ci_identifiers i where i.value = ")
            .push_bind(value.clone())
            .push(")");
    }
    if let Some(q) = filter.q.as_deref().map(str::trim).filter(|q| !q.is_empty()) {
        sql.push(" and c.search @@ websearch_to_tsquery('simple', ")
            .push_bind(q.replace('\0', " "))
            .push(")");
    }
    let (compare, direction) = if descending { ("<", "desc") } else { (">", "asc") };
    match (order, after) {
        (_, None) => {}
        (CiOrderBy::CreatedAt, Some((_, id))) => {
            sql.push(format_args!(" and c.id {compare} ")).push_bind(id.0);
        }
        (CiOrderBy::Name, Some((name, id))) => {
            sql.push(format_args!(" and (c.name, c.id) {compare} (")).push_bind(name);
            sql.push(", ").push_bind(id.0).push(")");
        }
    }
    let by_name = if order == CiOrderBy::Name { format!("c.name {direction}, ") } else { String::new() };
    sql.push(format_args!(" order by {by_name}c.id {direction} limit ")).push_bind(limit);
    let rows: Vec<Row> = sql.build_query_as().fetch_all(&mut **tx).await?;
    rows.into_iter().map(TryInto::try_into).collect()
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
