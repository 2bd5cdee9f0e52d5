//! Custom roles: made, changed, granted, taken. Nobody grants, takes or governs what they do not have themselves.

use crate::{Error, FieldError, Result, check, events};
use domain::permission::{Exceeds, Permissions, Rights, Scope, covers, covers_user};
use domain::{Actor, DepartmentId, Permission, RoleGrantId, RoleId, TeamId, UserId, permission};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use store::Tx;
use store::roles::{CustomRole, Holder};

/// More than anybody keeps in mind.
const MOST: i64 = 200;
const LONGEST_DESCRIPTION: usize = 2000;

const WORDS: [(&str, &str, &str); 4] = [
    ("roles_name_key", check::CONFLICT, "there is a role of that name already"),
    ("roles_name_check", "/name", "is the name of a shipped role: choose another"),
    ("role_grants_user_fkey", "/user", "there is no such user"),
    ("role_grants_team_fkey", "/team", "there is no such team"),
];

impl From<Exceeds> for Error {
    fn from(exceeds: Exceeds) -> Self {
        Error::Forbidden(exceeds.to_string())
    }
}

#[derive(Clone, Debug)]
pub struct RoleFields {
    pub name: String,
    pub description: String,
    /// Each permission with its scope, as words.
    pub permissions: BTreeMap<String, String>,
}

/// The words as what they mean, or all that is wrong with them.
fn understood(words: &BTreeMap<String, String>) -> Result<Permissions> {
    let (mut permissions, mut wrong) = (Permissions::new(), Vec::new());
    for (name, scope) in words {
        let pointer = format!("/permissions/{}", name.replace('~', "~0").replace('/', "~1"));
        let understood =
            name.parse::<Permission>().map_err(|error| error.to_string()).and_then(|permission| {
                let scope: Scope = scope.parse().map_err(|error: domain::UnknownWord| error.to_string())?;
                match permission.fixed_scope() {
                    Some(only) if only != scope => {
                        Err(format!("can be granted in the scope {} only", only.as_str()))
                    }
                    _ => Ok((permission, scope)),
                }
            });
        match understood {
            Ok((permission, scope)) => drop(permissions.insert(permission, scope)),
            Err(detail) => wrong.push(FieldError { pointer, detail }),
        }
    }
    if wrong.is_empty() { Ok(permissions) } else { Err(Error::Invalid(wrong)) }
}

fn shown(permissions: &Permissions) -> Value {
    permissions.iter().map(|(permission, scope)| (permission.as_str(), scope.as_str())).collect()
}

pub async fn create(tx: &mut Tx, actor: &Actor, fields: RoleFields) -> Result<CustomRole> {
    permission::check(actor, Permission::RolesManage)?;
    let now = tx.now();
    let role = CustomRole {
        id: RoleId::new(),
        name: check::name(&fields.name)?,
        description: description(&fields.description)?,
        permissions: understood(&fields.permissions)?,
        created_at: now,
        updated_at: now,
    };
    covers(actor, &role.permissions)?;
    if store::roles::count(tx).await? >= MOST {
        return Err(Error::conflict(format!("an organization has at most {MOST} roles of its own")));
    }
    check::constraints(store::roles::insert(tx, &role).await, &WORDS)?;
    let payload = json!({"role": role.id, "name": role.name, "permissions": shown(&role.permissions)});
    events::record(tx, actor, "role.created", None, payload).await?;
    Ok(role)
}

/// Writes all fields; `before` is the locked row.
pub async fn update(
    tx: &mut Tx,
    actor: &Actor,
    before: CustomRole,
    fields: RoleFields,
) -> Result<CustomRole> {
    permission::check(actor, Permission::RolesManage)?;
    let role = CustomRole {
        name: check::name(&fields.name)?,
        description: description(&fields.description)?,
        permissions: understood(&fields.permissions)?,
        ..before.clone()
    };
    covers(actor, &before.permissions)?;
    covers(actor, &role.permissions)?;
    check::constraints(store::roles::update(tx, &role).await, &WORDS)?;
    let payload = json!({"role": role.id, "name": role.name, "permissions": shown(&role.permissions),
                         "permissions_before": shown(&before.permissions)});
    events::record(tx, actor, "role.updated", None, payload).await?;
    Ok(store::roles::get(tx, role.id).await?)
}

/// Whoever had it has it no longer.
pub async fn delete(tx: &mut Tx, actor: &Actor, id: RoleId) -> Result<()> {
    permission::check(actor, Permission::RolesManage)?;
    let role = store::roles::lock(tx, id).await?;
    covers(actor, &role.permissions)?;
    store::roles::delete(tx, id).await?;
    events::record(tx, actor, "role.deleted", None, json!({"role": id, "name": role.name})).await?;
    Ok(())
}

/// To a person, or to all who are in a team; `None` when they have it already.
pub async fn grant(tx: &mut Tx, actor: &Actor, id: RoleId, to: Holder) -> Result<Option<RoleGrantId>> {
    permission::check(actor, Permission::RolesManage)?;
    let role = store::roles::lock(tx, id).await?;
    covers(actor, &role.permissions)?;
    match to {
        Holder::User(user) => check::living_user(tx, "/user", Some(user)).await?,
        Holder::Team(team) => check::living_team(tx, "/team", Some(team)).await?,
    }
    let granted = store::roles::grant(tx, id, to, actor.user_id()).await;
    let granted = check::constraints(granted, &WORDS)?;
    if granted.is_some() {
        events::record(tx, actor, "role.granted", None, told(&role, to)).await?;
    }
    Ok(granted)
}

pub async fn revoke(tx: &mut Tx, actor: &Actor, id: RoleId, grant: RoleGrantId) -> Result<()> {
    permission::check(actor, Permission::RolesManage)?;
    let role = store::roles::lock(tx, id).await?;
    covers(actor, &role.permissions)?;
    let from = store::roles::revoke(tx, id, grant).await?;
    events::record(tx, actor, "role.revoked", None, told(&role, from)).await?;
    Ok(())
}

fn told(role: &CustomRole, holder: Holder) -> Value {
    match holder {
        Holder::User(user) => json!({"role": role.id, "name": role.name, "user": user}),
        Holder::Team(team) => json!({"role": role.id, "name": role.name, "team": team}),
    }
}

fn description(text: &str) -> Result<String> {
    if text.chars().count() > LONGEST_DESCRIPTION {
        let detail = format!("must be at most {LONGEST_DESCRIPTION} characters long");
        return Err(Error::invalid("/description", detail));
    }
    Ok(text.trim().to_owned())
}

/// Whether the actor may change what somebody may or their account (password, role, activity): not that of somebody who may more.
pub async fn may_govern(tx: &mut Tx, actor: &Actor, user: UserId) -> Result<()> {
    if actor.rights().is_none() || actor.user_id() == Some(user) {
        return Ok(());
    }
    // Whoever has the account sees its tickets.
    may_restructure(actor)?;
    Ok(covers_user(actor, &rights_of(tx, user).await?)?)
}

/// Whether the actor may put somebody into another department: the person may reach other tickets there, and others reach theirs.
pub async fn may_move(tx: &mut Tx, actor: &Actor, user: UserId, to: Option<DepartmentId>) -> Result<()> {
    match (actor.rights(), to) {
        (Some(_), Some(_)) => {
            may_restructure(actor)?;
            match has_all_relative(actor) {
                true => Ok(()),
                false => Ok(covers(actor, &relative(&rights_of(tx, user).await?))?),
            }
        }
        _ => Ok(()),
    }
}

/// Whether the actor may change which tickets a team or department stands for: only who sees them all.
pub fn may_restructure(actor: &Actor) -> Result<()> {
    Ok(covers(actor, &Permissions::from([(Permission::TicketsView, Scope::Organization)]))?)
}

/// Who of these people the actor may not put into a team, and why not: with it come its roles, its tickets to those whose rights reach those of
/// their teams, and its confidential tickets.
pub async fn may_join(
    tx: &mut Tx,
    actor: &Actor,
    team: TeamId,
    users: &[UserId],
) -> Result<HashMap<UserId, Error>> {
    let mut refused = HashMap::new();
    let Some(own) = actor.rights().filter(|_| !users.is_empty()) else { return Ok(refused) };
    let roles = store::roles::of_team(tx, team).await?;
    let gives_more = roles.iter().find_map(|role| covers(actor, &role.permissions).err());
    let sees_confidential = own.teams.contains(&team)
        || own.scope(Permission::TicketsViewConfidential) == Some(Scope::Organization);
    let hides = !sees_confidential && store::roles::has_confidential_tickets(tx, team).await?;
    let has_all = has_all_relative(actor);
    for user in users {
        let exceeds = match gives_more {
            None if has_all => None,
            None => covers(actor, &relative(&rights_of(tx, *user).await?)).err(),
            more => more,
        };
        if let Some(exceeds) = exceeds {
            refused.insert(*user, exceeds.into());
        } else if hides {
            let detail = "the team has confidential tickets: only its members add others, and who may see such tickets";
            refused.insert(*user, Error::forbidden(detail));
        }
    }
    Ok(refused)
}

/// Whether the actor has whatever [`relative`] may answer of anybody: then their rights need not be looked up.
fn has_all_relative(actor: &Actor) -> bool {
    let all = Permission::ALL.iter().filter(|permission| permission.has_scopes());
    covers(actor, &all.map(|permission| (*permission, Scope::Team)).collect()).is_ok()
}

/// What reaches other tickets with another team or department.
fn relative(rights: &Rights) -> Permissions {
    Permission::ALL
        .iter()
        .filter_map(|permission| Some((*permission, rights.granted(*permission)?)))
        .filter(|(_, scope)| matches!(scope, Scope::Team | Scope::Department))
        .collect()
}

async fn rights_of(tx: &mut Tx, user: UserId) -> Result<Rights> {
    Ok(store::rights::of(tx, user).await?.ok_or(Error::NotFound)?.rights)
}
