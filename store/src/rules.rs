//! Notification rules: which event goes to which channel.

use crate::listing::{self, Field, Key, Kind, List, Placed, Wanted, field};
use crate::lock::lock;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{ChannelId, Conditions, RuleId};
use sqlx::{FromRow, Postgres, QueryBuilder};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Rule {
    pub id: RuleId,
    pub name: String,
    pub event: String,
    pub channel: ChannelId,
    pub conditions: Conditions,
    pub is_active: bool,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    name: String,
    event: String,
    channel_id: Uuid,
    conditions: serde_json::Value,
    is_active: bool,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Rule {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self> {
        let conditions = Conditions::parse(&row.conditions)
            .map_err(|errors| Error::Corrupt(format!("conditions of rule {}: {errors:?}", row.id)))?;
        Ok(Rule {
            id: row.id.into(),
            name: row.name,
            event: row.event,
            channel: row.channel_id.into(),
            conditions,
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
            "select id, name, event, channel_id, conditions, is_active, version, created_at, updated_at
               from notification_rules " + $tail
            $(, $argument)*
        )
    };
}

/// Times and version of `rule` are ignored: they begin now.
pub async fn insert(tx: &mut Tx, rule: &Rule) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into notification_rules (id, organization_id, name, event, channel_id, conditions, is_active, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        rule.id.0,
        organization.0,
        rule.name,
        rule.event,
        rule.channel.0,
        rule.conditions.to_value(),
        rule.is_active,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: RuleId) -> Result<Rule> {
    select!("where id = $1", id.0).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound)?.try_into()
}

/// Changes the row if it still has the version of `rule`.
pub async fn update(tx: &mut Tx, rule: &Rule) -> Result<()> {
    let now = tx.now();
    let done = sqlx::query!(
        "update notification_rules
            set name = $3, event = $4, channel_id = $5, conditions = $6, is_active = $7, version = version + 1, updated_at = $8
          where id = $1 and version = $2",
        rule.id.0,
        rule.version,
        rule.name,
        rule.event,
        rule.channel.0,
        rule.conditions.to_value(),
        rule.is_active,
        now,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::Stale) }
}

pub async fn delete(tx: &mut Tx, id: RuleId) -> Result<()> {
    let done = sqlx::query!("delete from notification_rules where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}

lock!(RuleId => Rule, "select id from notification_rules where id = $1 for no key update");

/// What rules can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "r.id"),
    field("name", Kind::LowerText, "lower(r.name)").by("lower(r.name)", "text"),
    field("event", Kind::Text, "r.event").by("r.event", "text"),
    field("channel", Kind::Id, "r.channel_id"),
    field("is_active", Kind::Flag, "r.is_active"),
    field("created_at", Kind::Time, "r.created_at").by("r.created_at", "timestamptz"),
    field("updated_at", Kind::Time, "r.updated_at").by("r.updated_at", "timestamptz"),
];

/// `q` is a part of the name or of the event.
pub const LIST: List =
    List { from: "notification_rules r", fields: FIELDS, usual: "-created_at", id: Key::uuid("r.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<Rule>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "r.name || ' ' || r.event");
    };
    let columns = "select r.id, r.name, r.event, r.channel_id, r.conditions, r.is_active, r.version, r.created_at, r.updated_at";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}

/// The rules in force for an event.
pub async fn for_event(tx: &mut Tx, event: &str) -> Result<Vec<Rule>> {
    select!("where event = $1 and is_active order by id", event)
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(TryInto::try_into)
        .collect()
}
