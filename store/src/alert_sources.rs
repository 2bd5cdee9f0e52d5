//! Where alerts come from. A hook's token is stored as its SHA-256 and found by presenting that.

use crate::listing::{self, Field, Key, Kind, List, Placed, Wanted, field};
use crate::lock::lock;
use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::alert::{AlertSourceKind, Grouping, SeverityMap};
use domain::{AlertSourceId, OrganizationId, TeamId};
use serde_json::Value;
use sqlx::{FromRow, Postgres, QueryBuilder};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
pub struct AlertSource {
    pub id: AlertSourceId,
    pub organization: OrganizationId,
    pub kind: AlertSourceKind,
    pub name: String,
    /// The beginning of the token, to tell tokens apart.
    pub token_prefix: String,
    /// Takes the incidents of this source.
    pub team: Option<TeamId>,
    pub severity_map: SeverityMap,
    pub grouping: Grouping,
    /// Whether the end of the last alert resolves the incident.
    pub auto_resolve: bool,
    /// How long after its resolution an incident is taken up again instead of opening a new one.
    pub reopen_within_seconds: i32,
    /// `None`: as much as comes.
    pub max_per_minute: Option<i32>,
    pub is_active: bool,
    /// Counts changes; the ETag.
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    organization_id: Uuid,
    kind: String,
    name: String,
    token_prefix: String,
    team_id: Option<Uuid>,
    severity_map: Value,
    grouping: String,
    auto_resolve: bool,
    reopen_within_seconds: i32,
    max_per_minute: Option<i32>,
    is_active: bool,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for AlertSource {
    type Error = Error;
    fn try_from(row: Row) -> Result<AlertSource> {
        Ok(AlertSource {
            id: row.id.into(),
            organization: row.organization_id.into(),
            kind: word(&row.kind)?,
            name: row.name,
            token_prefix: row.token_prefix,
            team: row.team_id.map(Into::into),
            severity_map: serde_json::from_value(row.severity_map).map_err(|error| {
                Error::Corrupt(format!("severity map of alert source {}: {error}", row.id))
            })?,
            grouping: word(&row.grouping)?,
            auto_resolve: row.auto_resolve,
            reopen_within_seconds: row.reopen_within_seconds,
            max_per_minute: row.max_per_minute,
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
            "select id, organization_id, kind, name, token_prefix, team_id, severity_map, grouping, auto_resolve,
                    reopen_within_seconds, max_per_minute, is_active, version, created_at, updated_at
               from alert_sources " + $tail
            $(, $argument)*
        )
    };
}

fn json(map: &SeverityMap) -> Value {
    serde_json::to_value(map).expect("a map of texts is JSON")
}

/// The source whose token has this hash (hex SHA-256), in a transaction that presents it.
pub async fn by_token_hash(tx: &mut Tx, token_hash: &str) -> Result<AlertSource> {
    select!("where token_hash = $1", token_hash)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?
        .try_into()
}

/// Which of these sources are switched on and have these tokens still.
pub async fn entitled(tx: &mut Tx, claims: &[(AlertSourceId, &str)]) -> Result<Vec<(AlertSourceId, String)>> {
    let ids: Vec<Uuid> = claims.iter().map(|(id, _)| id.0).collect();
    let hashes: Vec<String> = claims.iter().map(|(_, hash)| (*hash).to_owned()).collect();
    let entitled = sqlx::query!(
        "select s.id, s.token_hash from alert_sources s join unnest($1::uuid[], $2::text[]) as u(id, token_hash)
                on s.id = u.id and s.token_hash = u.token_hash
          where s.is_active",
        &ids,
        &hashes,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(entitled.into_iter().map(|row| (row.id.into(), row.token_hash)).collect())
}

pub async fn get(tx: &mut Tx, id: AlertSourceId) -> Result<AlertSource> {
    select!("where id = $1", id.0).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound)?.try_into()
}

lock!(AlertSourceId => AlertSource, "select id from alert_sources where id = $1 for no key update");

/// What sources can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "s.id"),
    field("kind", Kind::Words(AlertSourceKind::WORDS), "s.kind"),
    field("name", Kind::LowerText, "lower(s.name)").by("lower(s.name)", "text"),
    field("team", Kind::Id, "s.team_id").or_null(),
    field("grouping", Kind::Words(Grouping::WORDS), "s.grouping"),
    field("auto_resolve", Kind::Flag, "s.auto_resolve"),
    field("reopen_within_seconds", Kind::Number, "s.reopen_within_seconds"),
    field("max_per_minute", Kind::Number, "s.max_per_minute").or_null(),
    field("is_active", Kind::Flag, "s.is_active"),
    field("created_at", Kind::Time, "s.created_at").by_id(),
    field("updated_at", Kind::Time, "s.updated_at").by("s.updated_at", "timestamptz"),
];

/// `q` is a part of the name.
pub const LIST: List =
    List { from: "alert_sources s", fields: FIELDS, usual: "-created_at", id: Key::uuid("s.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<AlertSource>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "s.name");
    };
    let columns = "select s.id, s.organization_id, s.kind, s.name, s.token_prefix, s.team_id, s.severity_map, s.grouping, s.auto_resolve, \
                   s.reopen_within_seconds, s.max_per_minute, s.is_active, s.version, s.created_at, s.updated_at";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}

pub async fn insert(tx: &mut Tx, source: &AlertSource, token_hash: &str) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!(
        "insert into alert_sources (id, organization_id, kind, name, token_hash, token_prefix, team_id, severity_map, grouping,
                                    auto_resolve, reopen_within_seconds, max_per_minute, is_active, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $14)",
        source.id.0,
        organization.0,
        source.kind.as_str(),
        source.name,
        token_hash,
        source.token_prefix,
        source.team.map(|team| team.0),
        json(&source.severity_map),
        source.grouping.as_str(),
        source.auto_resolve,
        source.reopen_within_seconds,
        source.max_per_minute,
        source.is_active,
        source.created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Writes the row if it still has `source.version`; answers the new version.
pub async fn update(tx: &mut Tx, source: &AlertSource) -> Result<i64> {
    let now = tx.now();
    sqlx::query_scalar!(
        "update alert_sources
            set name = $3, team_id = $4, severity_map = $5, grouping = $6, auto_resolve = $7, reopen_within_seconds = $8,
                max_per_minute = $9, is_active = $10, updated_at = $11, version = version + 1
          where id = $1 and version = $2 returning version",
        source.id.0,
        source.version,
        source.name,
        source.team.map(|team| team.0),
        json(&source.severity_map),
        source.grouping.as_str(),
        source.auto_resolve,
        source.reopen_within_seconds,
        source.max_per_minute,
        source.is_active,
        now,
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::Stale)
}

/// The old token stops working at once.
pub async fn set_token(tx: &mut Tx, id: AlertSourceId, token_hash: &str, token_prefix: &str) -> Result<()> {
    let now = tx.now();
    let done = sqlx::query!(
        "update alert_sources set token_hash = $2, token_prefix = $3, updated_at = $4, version = version + 1 where id = $1",
        id.0,
        token_hash,
        token_prefix,
        now,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}

/// Its alerts go with it; their incidents stay.
pub async fn delete(tx: &mut Tx, id: AlertSourceId) -> Result<()> {
    let done = sqlx::query!("delete from alert_sources where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}
