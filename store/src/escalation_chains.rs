//! Escalation chains as they are edited. A running one keeps its own copy: see `escalations`.

use crate::listing::{self, Field, Key, Kind, List, Placed, Wanted, field, within};
use crate::lock::lock;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::escalation::Step;
use domain::{ChainId, TeamId};
use sqlx::{FromRow, Postgres, QueryBuilder};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    pub id: ChainId,
    pub name: String,
    pub steps: Vec<Step>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    name: String,
    steps: serde_json::Value,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Chain {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self> {
        Ok(Chain {
            id: row.id.into(),
            name: row.name,
            steps: read_steps(row.steps)?,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

pub(crate) fn read_steps(steps: serde_json::Value) -> Result<Vec<Step>> {
    serde_json::from_value(steps).map_err(|error| Error::Corrupt(format!("escalation steps: {error}")))
}

pub(crate) fn write_steps(steps: &[Step]) -> Result<serde_json::Value> {
    serde_json::to_value(steps).map_err(|error| Error::Corrupt(format!("escalation steps: {error}")))
}

pub async fn get(tx: &mut Tx, id: ChainId) -> Result<Chain> {
    sqlx::query_as!(
        Row,
        "select id, name, steps, version, created_at, updated_at from escalation_chains where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}

lock!(ChainId => Chain, "select id from escalation_chains where id = $1 for no key update");

/// What chains can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "c.id"),
    field("name", Kind::LowerText, "lower(c.name)").by("lower(c.name)", "text"),
    within("team", Kind::Id, "exists (select from jsonb_array_elements(c.steps) s where (s->>'team')::uuid")
        .says("A team that gets tickets."),
    within(
        "channel",
        Kind::Id,
        "exists (select from jsonb_array_elements(c.steps) s where (s->>'channel')::uuid",
    )
    .says("A channel that is told."),
    field("created_at", Kind::Time, "c.created_at").by("c.created_at", "timestamptz"),
    field("updated_at", Kind::Time, "c.updated_at").by("c.updated_at", "timestamptz"),
];

/// `q` is a part of the name.
pub const LIST: List =
    List { from: "escalation_chains c", fields: FIELDS, usual: "-created_at", id: Key::uuid("c.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<Chain>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "c.name");
    };
    let columns = "select c.id, c.name, c.steps, c.version, c.created_at, c.updated_at";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}

/// The names of those that give tickets to a team, in their order. A chain names a team under a lock on it, so ask under
/// [`crate::teams::lock`].
pub async fn naming_team(tx: &mut Tx, team: TeamId) -> Result<Vec<String>> {
    let step = serde_json::json!([{"action": "assign_team", "team": team}]);
    let names =
        sqlx::query_scalar!("select name from escalation_chains where steps @> $1 order by name, id", step)
            .fetch_all(&mut **tx)
            .await?;
    Ok(names)
}

pub async fn insert(tx: &mut Tx, chain: &Chain) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!(
        "insert into escalation_chains (id, organization_id, name, steps, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6)",
        chain.id.0,
        organization.0,
        chain.name,
        write_steps(&chain.steps)?,
        chain.created_at,
        chain.updated_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Provided that the row still has the given version.
pub async fn update(tx: &mut Tx, chain: &Chain) -> Result<()> {
    let done = sqlx::query!(
        "update escalation_chains set name = $3, steps = $4, updated_at = $5, version = version + 1
          where id = $1 and version = $2",
        chain.id.0,
        chain.version,
        chain.name,
        write_steps(&chain.steps)?,
        chain.updated_at,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Stale) }
}

pub async fn delete(tx: &mut Tx, id: ChainId) -> Result<()> {
    let done = sqlx::query!("delete from escalation_chains where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}
