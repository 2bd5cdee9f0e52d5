//! SLA policies with their targets.

use crate::listing::{self, Field, Key, Kind, List, Placed, Wanted, field};
use crate::lock::lock;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::sla_policy::Conditions;
use domain::ticket::Priority;
use domain::{CalendarId, ChainId, SlaPolicyId};
use serde::Deserialize;
use sqlx::{FromRow, Postgres, QueryBuilder};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub id: SlaPolicyId,
    pub name: String,
    pub description: String,
    /// Lower is asked earlier; the default last of all.
    pub position: i32,
    pub is_default: bool,
    pub is_active: bool,
    pub conditions: Conditions,
    /// `None`: round the clock.
    pub calendar: Option<CalendarId>,
    pub warn_percent: Option<u8>,
    pub warning_chain: Option<ChainId>,
    pub breach_chain: Option<ChainId>,
    pub targets: Vec<Target>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Working time allowed at one priority. `None`: nothing is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Target {
    pub priority: Priority,
    pub first_response_seconds: Option<i32>,
    pub resolution_seconds: Option<i32>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    name: String,
    description: String,
    position: i32,
    is_default: bool,
    is_active: bool,
    conditions: serde_json::Value,
    calendar_id: Option<Uuid>,
    warn_percent: Option<i16>,
    warning_chain_id: Option<Uuid>,
    breach_chain_id: Option<Uuid>,
    targets: serde_json::Value,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Policy {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self> {
        let corrupt = |error: serde_json::Error| Error::Corrupt(format!("SLA policy {}: {error}", row.id));
        Ok(Policy {
            id: row.id.into(),
            name: row.name,
            description: row.description,
            position: row.position,
            is_default: row.is_default,
            is_active: row.is_active,
            conditions: serde_json::from_value(row.conditions).map_err(corrupt)?,
            calendar: row.calendar_id.map(Into::into),
            warn_percent: row.warn_percent.and_then(|percent| percent.try_into().ok()),
            warning_chain: row.warning_chain_id.map(Into::into),
            breach_chain: row.breach_chain_id.map(Into::into),
            targets: serde_json::from_value(row.targets).map_err(corrupt)?,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

macro_rules! select {
    ($tail:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            Row,
            r#"select id, name, description, position, is_default, is_active, conditions, calendar_id, warn_percent,
                      warning_chain_id, breach_chain_id, version, created_at, updated_at,
                      coalesce((select json_agg(json_build_object('priority', t.priority,
                                    'first_response_seconds', t.first_response_seconds,
                                    'resolution_seconds', t.resolution_seconds)
                                    order by array_position(array['critical', 'high', 'medium', 'low'], t.priority))
                                  from sla_targets t where t.policy_id = p.id), '[]') as "targets!"
                 from sla_policies p "# + $tail,
            $($argument),*
        )
    };
}

pub async fn get(tx: &mut Tx, id: SlaPolicyId) -> Result<Policy> {
    select!("where id = $1", id.0).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound)?.try_into()
}

/// The active policies in the order in which they are asked.
pub async fn in_force(tx: &mut Tx) -> Result<Vec<Policy>> {
    select!("where is_active order by is_default, position, created_at, id",)
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(TryInto::try_into)
        .collect()
}

lock!(SlaPolicyId => Policy, "select id from sla_policies where id = $1 for no key update");

/// What policies can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "p.id"),
    field("name", Kind::LowerText, "lower(p.name)").by("lower(p.name)", "text"),
    field("position", Kind::Number, "p.position").by("p.position", "integer"),
    field("is_default", Kind::Flag, "p.is_default").by("p.is_default::integer", "integer"),
    field("is_active", Kind::Flag, "p.is_active"),
    field("calendar", Kind::Id, "p.calendar_id").or_null(),
    field("warn_percent", Kind::Number, "p.warn_percent").or_null(),
    field("warning_chain", Kind::Id, "p.warning_chain_id").or_null(),
    field("breach_chain", Kind::Id, "p.breach_chain_id").or_null(),
    field("created_at", Kind::Time, "p.created_at").by("p.created_at", "timestamptz"),
    field("updated_at", Kind::Time, "p.updated_at").by("p.updated_at", "timestamptz"),
];

/// In the order in which they are asked, unless another one is wanted. `q` is a part of the name or of the description.
pub const LIST: List = List {
    from: "sla_policies p",
    fields: FIELDS,
    usual: "is_default,position,created_at",
    id: Key::uuid("p.id"),
};

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<Policy>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "p.name || ' ' || p.description");
    };
    let columns = "select p.id, p.name, p.description, p.position, p.is_default, p.is_active, p.conditions, p.calendar_id, p.warn_percent, \
                   p.warning_chain_id, p.breach_chain_id, p.version, p.created_at, p.updated_at, \
                   coalesce((select json_agg(json_build_object('priority', t.priority, \
                                 'first_response_seconds', t.first_response_seconds, \
                                 'resolution_seconds', t.resolution_seconds) \
                                 order by array_position(array['critical', 'high', 'medium', 'low'], t.priority)) \
                               from sla_targets t where t.policy_id = p.id), '[]') as targets";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}

pub async fn insert(tx: &mut Tx, policy: &Policy) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!(
        "insert into sla_policies (id, organization_id, name, description, position, is_default, is_active, conditions,
                                   calendar_id, warn_percent, warning_chain_id, breach_chain_id, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
        policy.id.0,
        organization.0,
        policy.name,
        policy.description,
        policy.position,
        policy.is_default,
        policy.is_active,
        conditions(policy)?,
        policy.calendar.map(|id| id.0),
        policy.warn_percent.map(i16::from),
        policy.warning_chain.map(|id| id.0),
        policy.breach_chain.map(|id| id.0),
        policy.created_at,
        policy.updated_at,
    )
    .execute(&mut **tx)
    .await?;
    insert_targets(tx, policy).await
}

/// Writes everything anew, provided that the row still has the given version.
pub async fn update(tx: &mut Tx, policy: &Policy) -> Result<()> {
    let done = sqlx::query!(
        "update sla_policies
            set name = $3, description = $4, position = $5, is_default = $6, is_active = $7, conditions = $8,
                calendar_id = $9, warn_percent = $10, warning_chain_id = $11, breach_chain_id = $12, updated_at = $13,
                version = version + 1
          where id = $1 and version = $2",
        policy.id.0,
        policy.version,
        policy.name,
        policy.description,
        policy.position,
        policy.is_default,
        policy.is_active,
        conditions(policy)?,
        policy.calendar.map(|id| id.0),
        policy.warn_percent.map(i16::from),
        policy.warning_chain.map(|id| id.0),
        policy.breach_chain.map(|id| id.0),
        policy.updated_at,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() != 1 {
        return Err(Error::Stale);
    }
    sqlx::query!("delete from sla_targets where policy_id = $1", policy.id.0).execute(&mut **tx).await?;
    insert_targets(tx, policy).await
}

fn conditions(policy: &Policy) -> Result<serde_json::Value> {
    serde_json::to_value(&policy.conditions).map_err(|error| Error::Corrupt(error.to_string()))
}

async fn insert_targets(tx: &mut Tx, policy: &Policy) -> Result<()> {
    let organization = tx.organization();
    let priorities: Vec<String> = policy.targets.iter().map(|t| t.priority.as_str().to_owned()).collect();
    let first: Vec<Option<i32>> = policy.targets.iter().map(|t| t.first_response_seconds).collect();
    let resolution: Vec<Option<i32>> = policy.targets.iter().map(|t| t.resolution_seconds).collect();
    sqlx::query!(
        "insert into sla_targets (organization_id, policy_id, priority, first_response_seconds, resolution_seconds)
         select $1, $2, * from unnest($3::text[], $4::int4[], $5::int4[])",
        organization.0,
        policy.id.0,
        &priorities,
        &first as &[Option<i32>],
        &resolution as &[Option<i32>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn delete(tx: &mut Tx, id: SlaPolicyId) -> Result<()> {
    let done = sqlx::query!("delete from sla_policies where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}
