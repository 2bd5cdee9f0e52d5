//! Teams: made, changed, dissolved and brought back; members come and go.

use crate::{Error, Result, check, events, roles};
use domain::{Actor, DepartmentId, Permission, TeamId, UserId, permission};
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use store::Tx;
use store::teams::{Member, Team};

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
        deleted_at: None,
    };
    check::living_user(tx, "/manager", team.manager).await?;
    check::living_department(tx, "/department", team.department).await?;
    check::constraints(store::teams::insert(tx, &team).await, &WORDS)?;
    events::record(tx, actor, "team.created", None, json!({"team": team.id})).await?;
    Ok(team)
}

/// Writes all fields; `before` is the locked row.
pub async fn update(tx: &mut Tx, actor: &Actor, before: Team, fields: TeamFields) -> Result<Team> {
    permission::check(actor, Permission::TeamsManage)?;
    check::not_deleted(before.deleted_at)?;
    if fields.department != before.department {
        roles::may_restructure(actor)?;
        check::living_department(tx, "/department", fields.department).await?;
    }
    if fields.manager != before.manager {
        check::living_user(tx, "/manager", fields.manager).await?;
    }
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

/// Its members lose the roles that it gave them, and what arrives goes to nobody; tickets that are over keep its name. Refused while it has
/// open tickets or an escalation chain would give it some. `before` is the
/// locked row.
pub async fn delete(tx: &mut Tx, actor: &Actor, before: Team) -> Result<()> {
    permission::check(actor, Permission::TeamsManage)?;
    check::not_deleted(before.deleted_at)?;
    if store::teams::has_open_tickets(tx, before.id).await? {
        return Err(Error::conflict(
            "the team has tickets that are not closed: give them to another team first",
        ));
    }
    let chains = store::escalation_chains::naming_team(tx, before.id).await?;
    if !chains.is_empty() {
        return Err(Error::conflict(format!(
            "escalation chains give tickets to the team: {}; name another team there first",
            chains.join(", ")
        )));
    }
    store::teams::let_go(tx, before.id).await?;
    store::teams::delete(tx, before.id).await?;
    events::record(tx, actor, "team.deleted", None, json!({"team": before.id})).await?;
    Ok(())
}

/// With its members and the roles that it gives them, so only by who has what these grant.
pub async fn restore(tx: &mut Tx, actor: &Actor, before: Team) -> Result<Team> {
    permission::check(actor, Permission::TeamsManage)?;
    roles::may_restructure(actor)?;
    if before.deleted_at.is_none() {
        return Err(Error::conflict("it is not deleted"));
    }
    for role in store::roles::of_team(tx, before.id).await? {
        permission::covers(actor, &role.permissions)?;
    }
    if let Some(department) = before.department
        && !store::removals::has_department(tx, department).await?
    {
        return Err(Error::conflict("the department that it belongs to is deleted: restore that one first"));
    }
    check::constraints(store::teams::restore(tx, before.id).await, &WORDS)?;
    events::record(tx, actor, "team.restored", None, json!({"team": before.id})).await?;
    Ok(store::teams::get(tx, before.id).await?)
}

/// Staff; being a member already is fine. On a refusal the caller rolls back.
pub async fn add_member(tx: &mut Tx, actor: &Actor, team: TeamId, user: UserId) -> Result<()> {
    match add_members(tx, actor, team, &[user]).await?.pop() {
        Some((_, answer)) => answer,
        None => Ok(()),
    }
}

/// The same with many, and with each of them what became of it.
pub(crate) async fn add_members(
    tx: &mut Tx,
    actor: &Actor,
    team: TeamId,
    users: &[UserId],
) -> Result<Vec<(UserId, Result<()>)>> {
    permission::check(actor, Permission::TeamsManage)?;
    check::not_deleted(store::teams::lock(tx, team).await?.deleted_at)?;
    let living = store::removals::living_users(tx, users).await?;
    let joining: Vec<UserId> = users.iter().copied().filter(|user| living.contains(user)).collect();
    let new = store::teams::add_members(tx, team, &joining).await?;
    let ids: Vec<UserId> = joining.into_iter().filter(|user| new.contains(user)).collect();
    let mut refused = roles::may_join(tx, actor, team, &ids).await?;
    // Asked as members: the team's roles may be what makes them staff.
    let standings =
        if ids.is_empty() { HashMap::new() } else { store::ticket_people::standings(tx, &ids).await? };
    let mut added = Vec::new();
    let mut answers = Vec::with_capacity(users.len());
    for user in users {
        let is_new = new.contains(user);
        let answer = if !living.contains(user) {
            Err(Error::invalid("/user", "there is no such user"))
        } else if let Some(why) = refused.remove(user) {
            Err(why)
        } else if is_new && !standings.get(user).is_some_and(|person| person.is_staff) {
            Err(Error::invalid("/user", "an end user cannot be a member of a team"))
        } else {
            if is_new {
                added.push(events::Fact::new("team.member_added", json!({"team": team, "user": user})));
            }
            Ok(())
        };
        answers.push((*user, answer));
    }
    events::record_all(tx, actor, added).await?;
    Ok(answers)
}

/// Most skills of one member, and the longest name of one, in characters.
const MOST_SKILLS: usize = 50;
const LONGEST_SKILL: usize = 50;

#[derive(Clone, Debug, Default)]
pub struct MemberChanges {
    pub is_lead: Option<bool>,
    /// All of them: what is not named is gone.
    pub skills: Option<BTreeMap<String, u8>>,
}

/// What somebody is in a team, and what they can do there. It grants nothing. `before` was read under the lock of the team.
pub async fn update_member(
    tx: &mut Tx,
    actor: &Actor,
    team: &Team,
    before: &Member,
    changes: MemberChanges,
) -> Result<()> {
    permission::check(actor, Permission::TeamsManage)?;
    check::not_deleted(team.deleted_at)?;
    let skills = match changes.skills {
        Some(skills) => checked_skills(skills)?,
        None => before.skills.clone(),
    };
    let is_lead = changes.is_lead.unwrap_or(before.is_lead);
    store::teams::update_member(tx, team.id, before.user, is_lead, &skills).await?;
    let payload = json!({"team": team.id, "user": before.user, "is_lead": is_lead, "skills": skills});
    events::record(tx, actor, "team.member_updated", None, payload).await?;
    Ok(())
}

fn checked_skills(given: BTreeMap<String, u8>) -> Result<BTreeMap<String, u8>> {
    if given.len() > MOST_SKILLS {
        return Err(Error::invalid("/skills", format!("at most {MOST_SKILLS}")));
    }
    let mut skills = BTreeMap::new();
    for (name, level) in given {
        let pointer = format!("/skills/{}", name.replace('~', "~0").replace('/', "~1"));
        let skill = check::text(&pointer, &name, LONGEST_SKILL)?.to_lowercase();
        if !(1..=5).contains(&level) {
            return Err(Error::invalid(pointer, "must be a level from 1 to 5"));
        }
        skills.insert(skill, level);
    }
    Ok(skills)
}

pub async fn remove_member(tx: &mut Tx, actor: &Actor, team: TeamId, user: UserId) -> Result<()> {
    permission::check(actor, Permission::TeamsManage)?;
    check::not_deleted(store::teams::lock(tx, team).await?.deleted_at)?;
    if !store::teams::remove_member(tx, team, user).await? {
        return Err(Error::NotFound);
    }
    events::record(tx, actor, "team.member_removed", None, json!({"team": team, "user": user})).await?;
    Ok(())
}
