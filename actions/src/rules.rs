//! Notification rules: create, change, delete.

use crate::channels::{name, under};
use crate::{Error, Result, check, events};
use domain::permission::{self, Permission};
use domain::{Actor, ChannelId, Conditions, RuleId, TeamId, UserId, check_event};
use serde_json::{Value, json};
use store::Tx;
use store::rules::Rule;

#[derive(Clone, Debug)]
pub struct NewRule {
    /// Nothing: the event and the channel name it.
    pub name: Option<String>,
    pub event: String,
    pub channel: ChannelId,
    pub conditions: Value,
    pub is_active: bool,
}

/// Only what is there changes.
#[derive(Clone, Debug, Default)]
pub struct RuleChange {
    pub name: Option<String>,
    pub event: Option<String>,
    pub channel: Option<ChannelId>,
    pub conditions: Option<Value>,
    pub is_active: Option<bool>,
}

pub async fn create(tx: &mut Tx, actor: &Actor, new: NewRule) -> Result<Rule> {
    permission::check(actor, Permission::NotificationsManage)?;
    check_event(&new.event).map_err(|detail| Error::invalid("/event", detail))?;
    let conditions = self::conditions(tx, &new.conditions).await?;
    let channel = channel(tx, new.channel).await?;
    let name = match new.name {
        Some(text) => name(&text)?,
        None => format!("{} to {}", new.event, channel).chars().take(200).collect(),
    };
    let now = tx.now();
    let rule = Rule {
        id: RuleId::new(),
        name,
        event: new.event,
        channel: new.channel,
        conditions,
        is_active: new.is_active,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    store::rules::insert(tx, &rule).await?;
    events::record(tx, actor, "rule.created", None, json!({"rule": rule.id, "name": rule.name})).await?;
    Ok(rule)
}

/// `version`: what `If-Match` said, if it was there.
pub async fn update(
    tx: &mut Tx,
    actor: &Actor,
    id: RuleId,
    version: Option<i64>,
    change: RuleChange,
) -> Result<Rule> {
    permission::check(actor, Permission::NotificationsManage)?;
    let mut rule = store::rules::get(tx, id).await?;
    rule.version = version.unwrap_or(rule.version);
    if let Some(new) = change.name {
        rule.name = name(&new)?;
    }
    if let Some(event) = change.event {
        check_event(&event).map_err(|detail| Error::invalid("/event", detail))?;
        rule.event = event;
    }
    if let Some(new) = change.channel {
        channel(tx, new).await?;
        rule.channel = new;
    }
    if let Some(conditions) = change.conditions {
        rule.conditions = self::conditions(tx, &conditions).await?;
    }
    rule.is_active = change.is_active.unwrap_or(rule.is_active);
    store::rules::update(tx, &rule).await?;
    events::record(tx, actor, "rule.updated", None, json!({"rule": id, "name": rule.name})).await?;
    Ok(store::rules::get(tx, id).await?)
}

pub async fn delete(tx: &mut Tx, actor: &Actor, id: RuleId) -> Result<()> {
    permission::check(actor, Permission::NotificationsManage)?;
    store::rules::delete(tx, id).await?;
    events::record(tx, actor, "rule.deleted", None, json!({"rule": id})).await?;
    Ok(())
}

/// People and teams may be named by id or by name; an id must be one of the organization's.
async fn conditions(tx: &mut Tx, value: &Value) -> Result<Conditions> {
    let conditions = Conditions::parse(value).map_err(|errors| under("/conditions", errors))?;
    let mut wrong = Vec::new();
    let teams: Vec<TeamId> = conditions.ids("team").into_iter().map(Into::into).collect();
    check::teams(tx, &teams, |_| "/conditions/team".to_owned(), &mut wrong).await?;
    for field in ["assignee", "requester"] {
        let people: Vec<UserId> = conditions.ids(field).into_iter().map(Into::into).collect();
        check::users(tx, &people, |_| format!("/conditions/{field}"), &mut wrong).await?;
    }
    if wrong.is_empty() { Ok(conditions) } else { Err(Error::Invalid(wrong)) }
}

/// The channel's name; a channel that is not there is the caller's mistake.
async fn channel(tx: &mut Tx, id: ChannelId) -> Result<String> {
    match store::channels::get(tx, id).await {
        Ok(channel) => Ok(channel.name),
        Err(store::Error::NotFound) => Err(Error::invalid("/channel", "there is no such channel")),
        Err(error) => Err(error.into()),
    }
}
