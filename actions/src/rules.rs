//! Notification rules: create, change, delete.

use crate::channels::under;
use crate::check::name;
use crate::{Error, Result, check, events};
use domain::permission::{self, Permission};
use domain::{Actor, ChannelId, Conditions, RuleId, TeamId, UserId, check_event};
use serde_json::{Value, json};
use store::Tx;
use store::rules::Rule;
use store::teams::Team;
use store::users::User;

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
    can_match(tx, &new.event, &conditions).await?;
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
    let (new_event, new_conditions) = (change.event.is_some(), change.conditions.is_some());
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
    // Not when something else changes: a rule whose team was renamed can still be switched off.
    if new_event || new_conditions {
        can_match(tx, &rule.event, &rule.conditions).await?;
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

/// Refuses conditions that no ticket can meet: a field that the event does not have, a team or an assignee that nobody
/// knows. Requesters and tags may come later: by mail, or from whoever works on a ticket.
async fn can_match(tx: &mut Tx, event: &str, conditions: &Conditions) -> Result<()> {
    conditions.fits(event).map_err(|errors| under("/conditions", errors))?;
    for team in conditions.of("team") {
        if !is_team(tx, team).await? {
            return Err(Error::invalid("/conditions/team", format!("there is no team {team:?}")));
        }
    }
    for person in conditions.of("assignee") {
        if !is_user(tx, person).await? {
            return Err(Error::invalid("/conditions/assignee", format!("there is no user {person:?}")));
        }
    }
    Ok(())
}

const PAGE: i64 = 200;

fn equal(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

/// By id or name, as rules compare them.
async fn is_team(tx: &mut Tx, wanted: &str) -> Result<bool> {
    let mut page = store::teams::LIST.all(PAGE);
    loop {
        let teams = store::teams::list(tx, &page).await?;
        let is_meant = |team: &Team| equal(&team.name, wanted) || equal(&team.id.to_string(), wanted);
        if teams.iter().any(|team| is_meant(&team.item)) {
            return Ok(true);
        }
        match teams.last() {
            Some(last) if teams.len() as i64 == PAGE => page.go_on(last),
            _ => return Ok(false),
        }
    }
}

/// By id, name or address.
async fn is_user(tx: &mut Tx, wanted: &str) -> Result<bool> {
    if let Ok(id) = wanted.parse()
        && store::users::find(tx, id).await?.is_some_and(|user| equal(&user.id.to_string(), wanted))
    {
        return Ok(true);
    }
    let mut page = store::users::LIST.all(PAGE);
    page.q = Some(wanted.to_owned());
    loop {
        let users = store::users::list(tx, &page).await?;
        let is_meant = |user: &User| equal(&user.name, wanted) || equal(&user.email, wanted);
        if users.iter().any(|user| is_meant(&user.item)) {
            return Ok(true);
        }
        match users.last() {
            Some(last) if users.len() as i64 == PAGE => page.go_on(last),
            _ => return Ok(false),
        }
    }
}

/// The channel's name; a channel that is not there is the caller's mistake.
async fn channel(tx: &mut Tx, id: ChannelId) -> Result<String> {
    match store::channels::get(tx, id).await {
        Ok(channel) => Ok(channel.name),
        Err(store::Error::NotFound) => Err(Error::invalid("/channel", "there is no such channel")),
        Err(error) => Err(error.into()),
    }
}
