//! Notification rules: which event goes to which channel.

use crate::lock::lock;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{ChannelId, Conditions, RuleId};
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

/// Newest first, at most `limit`, after the position `(created_at, id)`.
pub async fn list(
    tx: &mut Tx,
    event: Option<&str>,
    channel: Option<ChannelId>,
    q: Option<&str>,
    after: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<Rule>> {
    let (after_at, after_id) = after.unzip();
    select!(
        "where ($1::text is null or event = $1)
           and ($2::uuid is null or channel_id = $2)
           and ($3::timestamptz is null or (created_at, id) < ($3, $4::uuid))
           and ($6::text is null or position(lower($6) in lower(name || ' ' || event)) > 0)
         order by created_at desc, id desc limit $5",
        event,
        channel.map(|c| c.0),
        after_at,
        after_id,
        limit,
        q
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
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
