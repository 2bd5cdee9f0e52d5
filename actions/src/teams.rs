//! Teams: made, changed, dissolved; members come and go.

use crate::{Error, Result, check, events};
use domain::{Actor, DepartmentId, Permission, TeamId, UserId, permission};
use serde_json::json;
use store::Tx;
use store::teams::Team;

#[derive(Clone, Debug)]
pub struct TeamFields {
    pub name: String,
    pub email: Option<String>,
    pub manager: Option<UserId>,
    pub department: Option<DepartmentId>,
}

const WORDS: [(&str, &str, &str); 3] = [
    ("teams_name_key", check::CONFLICT, "there is a team of that name already"),
    ("teams_manager_fkey", "/manager", "there is no such user"),
    ("teams_department_fkey", "/department", "there is no such department"),
];

fn checked_email(email: Option<&str>) -> Result<Option<String>> {
    let email = email.filter(|email| !email.trim().is_empty());
    Ok(email.map(|email| check::email("/email", email)).transpose()?.map(String::from))
}

pub async fn create(tx: &mut Tx, actor: &Actor, fields: TeamFields) -> Result<Team> {
    permission::check(actor, Permission::TeamsManage)?;
    let now = tx.now();
    let team = Team {
        id: TeamId::new(),
        name: check::name(&fields.name)?,
        email: checked_email(fields.email.as_deref())?,
        manager: fields.manager,
        department: fields.department,
        created_at: now,
        updated_at: now,
    };
    check::constraints(store::teams::insert(tx, &team).await, &WORDS)?;
    events::record(tx, actor, "team.created", None, json!({"team": team.id})).await?;
    Ok(team)
}

/// Writes all fields; `before` is the locked row.
pub async fn update(tx: &mut Tx, actor: &Actor, before: Team, fields: TeamFields) -> Result<Team> {
    permission::check(actor, Permission::TeamsManage)?;
    let team = Team {
        name: check::name(&fields.name)?,
        email: checked_email(fields.email.as_deref())?,
        manager: fields.manager,
        department: fields.department,
        ..before
    };
    check::constraints(store::teams::update(tx, &team).await, &WORDS)?;
    events::record(tx, actor, "team.updated", None, json!({"team": team.id})).await?;
    Ok(store::teams::get(tx, team.id).await?)
}

pub async fn delete(tx: &mut Tx, actor: &Actor, id: TeamId) -> Result<()> {
    permission::check(actor, Permission::TeamsManage)?;
    store::teams::delete(tx, id).await.map_err(|error| match error.constraint() {
        Some(_) => Error::conflict("tickets, policies or escalation steps name this team: change them first"),
        None => error.into(),
    })?;
    events::record(tx, actor, "team.deleted", None, json!({"team": id})).await?;
    Ok(())
}

/// Agents and above; being a member already is fine.
pub async fn add_member(tx: &mut Tx, actor: &Actor, team: TeamId, user: UserId) -> Result<()> {
    permission::check(actor, Permission::TeamsManage)?;
    store::teams::lock(tx, team).await?;
    let person = store::users::find(tx, user)
        .await?
        .ok_or_else(|| Error::invalid("/user", "there is no such user"))?;
    if !person.role.is_staff() {
        return Err(Error::invalid("/user", "an end user cannot be a member of a team"));
    }
    if store::teams::add_member(tx, team, user).await? {
        events::record(tx, actor, "team.member_added", None, json!({"team": team, "user": user})).await?;
    }
    Ok(())
}

pub async fn remove_member(tx: &mut Tx, actor: &Actor, team: TeamId, user: UserId) -> Result<()> {
    permission::check(actor, Permission::TeamsManage)?;
    store::teams::lock(tx, team).await?;
    if !store::teams::remove_member(tx, team, user).await? {
        return Err(Error::NotFound);
    }
    events::record(tx, actor, "team.member_removed", None, json!({"team": team, "user": user})).await?;
    Ok(())
}
