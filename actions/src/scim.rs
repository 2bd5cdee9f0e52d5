//! People and teams, kept by an identity provider (SCIM, docs/scim.md).
//!
//! `scim.provision` is the one permission that its token needs: what is done here is measured by all that the token's account may, as if it used
//! the people's and teams' verbs with its whole rights. So a token that is for this alone opens nothing else, and the account still gives,
//! takes and governs nothing that it does not have itself. Nobody becomes an admin by way of it, and no admin becomes something else.

use crate::teams::TeamFields;
use crate::users::{NewPerson, PersonChanges};
use crate::{Error, Result, check, removals, teams, users};
use domain::scim::{GroupDraft, Kind, MOST_CHANGES, PersonDraft, Term, Wrong};
use domain::{Actor, Permission, Role, TeamId, UserId, Who, permission};
use std::collections::BTreeSet;
use store::Tx;
use store::scim::{Group, GroupFilter, Members, PersonFilter, Window};
use store::users::User;

/// Why it is not done.
#[derive(Debug)]
pub enum Refused {
    /// In SCIM's own words.
    Wrong(Wrong),
    Error(Error),
}

impl From<Wrong> for Refused {
    fn from(wrong: Wrong) -> Self {
        Refused::Wrong(wrong)
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Error(error)
    }
}

impl From<store::Error> for Refused {
    fn from(error: store::Error) -> Self {
        Refused::Error(error.into())
    }
}

impl From<permission::Denied> for Refused {
    fn from(denied: permission::Denied) -> Self {
        Refused::Error(denied.into())
    }
}

type Done<T> = std::result::Result<T, Refused>;

fn taken(detail: &str) -> Refused {
    Wrong::new(Kind::Uniqueness, detail).into()
}

fn missing(name: &str) -> Refused {
    Wrong::new(Kind::InvalidValue, format!("{name} is required")).into()
}

/// Who acts, with all that their account may.
fn provisioner(actor: &Actor) -> Result<Actor> {
    permission::check(actor, Permission::ScimProvision)?;
    Ok(match &actor.who {
        Who::System { .. } => actor.clone(),
        Who::User { id, name, rights } => {
            Actor::user(actor.organization, *id, name.clone(), rights.as_ref().clone().limited(None))
        }
    })
}

fn external_id(given: Option<&str>) -> Result<Option<String>> {
    check::optional_text("/externalId", given, 200)
}

/// What is given to who is made or changed.
fn role(given: Option<Role>) -> Result<Role> {
    match given.unwrap_or(Role::EndUser) {
        Role::Admin => Err(Error::forbidden("nobody becomes an admin by SCIM: an admin makes them one")),
        role => Ok(role),
    }
}

pub async fn create_person(tx: &mut Tx, actor: &Actor, draft: PersonDraft) -> Done<User> {
    let actor = &provisioner(actor)?;
    let address = draft.user_name.clone().ok_or_else(|| missing("userName"))?;
    let email = check::email("/userName", &address)?;
    if store::users::find_by_email(tx, &email).await?.is_some() {
        return Err(taken("there is a User with this userName already"));
    }
    let wanted_id = external_id(draft.external_id.as_ref().and_then(Option::as_deref))?;
    person_is_free(tx, wanted_id.as_deref(), None).await?;
    let new = NewPerson {
        name: draft.first_name().unwrap_or_else(|| email.local_part().to_owned()),
        role: role(draft.role.flatten())?,
        email: address,
        password_hash: None,
        department: None,
        manager: None,
        time_zone: draft.time_zone.clone().flatten(),
        locale: draft.locale.clone().flatten(),
        phone: draft.phone.clone().flatten(),
    };
    let made = users::create(tx, actor, new).await?;
    if wanted_id.is_some() {
        unique(store::scim::set_person_external_id(tx, made.id, wanted_id.as_deref()).await)?;
    }
    if draft.active == Some(false) {
        let before = removals::lock(tx, made.id).await?;
        let changes = PersonChanges { is_active: Some(false), ..PersonChanges::default() };
        users::update(tx, actor, before, changes).await?;
    }
    Ok(store::users::get(tx, made.id).await?)
}

/// Somebody else has taken it since it was looked for.
fn unique(done: store::Result<()>) -> Done<()> {
    done.map_err(|error| match error.constraint() {
        Some("users_external_id_key" | "teams_external_id_key") => taken("another one has this externalId"),
        _ => error.into(),
    })
}

async fn person_is_free(tx: &mut Tx, external_id: Option<&str>, except: Option<UserId>) -> Done<()> {
    let Some(external_id) = external_id else { return Ok(()) };
    match store::user_imports::find_by_external_id(tx, external_id).await? {
        Some(other) if Some(other) != except => Err(taken("another User has this externalId")),
        _ => Ok(()),
    }
}

/// A person who is there, locked for their change.
pub async fn lock_person(tx: &mut Tx, actor: &Actor, id: UserId) -> Result<User> {
    permission::check(actor, Permission::ScimProvision)?;
    let user = removals::lock(tx, id).await?;
    is_person(&user).then_some(user).ok_or(Error::NotFound)
}

/// Service accounts are none of the provider's business.
pub fn is_person(user: &User) -> bool {
    user.owner.is_none() && user.deleted_at.is_none()
}

/// What is said already changes nothing. `before` comes from [`lock_person`].
pub async fn update_person(tx: &mut Tx, actor: &Actor, before: User, draft: PersonDraft) -> Done<User> {
    let actor = &provisioner(actor)?;
    let id = before.id;
    if draft.user_name.as_ref().is_some_and(|name| !name.trim().eq_ignore_ascii_case(&before.email)) {
        let detail = "userName is the address of an account and stays: make another User";
        return Err(Wrong::new(Kind::Mutability, detail).into());
    }
    let changes = PersonChanges {
        name: draft.name().filter(|name| *name != before.name),
        role: draft.role.map(|role| role.unwrap_or(Role::EndUser)).filter(|role| *role != before.role),
        is_active: draft.active.filter(|active| *active != before.is_active),
        time_zone: draft.time_zone.filter(|zone| *zone != before.time_zone),
        locale: draft.locale.filter(|locale| *locale != before.locale),
        phone: draft.phone.filter(|phone| *phone != before.phone),
        ..PersonChanges::default()
    };
    if let Some(wanted) = changes.role {
        role(Some(wanted))?;
        if before.role == Role::Admin {
            return Err(Error::forbidden("an admin stays one: an admin changes that").into());
        }
    }
    if let Some(given) = draft.external_id {
        let wanted = external_id(given.as_deref())?;
        if wanted != before.external_id {
            // Who is called what decides whom the provider governs from now on.
            permission::check(actor, Permission::PeopleManage)?;
            crate::roles::may_govern(tx, actor, id).await?;
            person_is_free(tx, wanted.as_deref(), Some(id)).await?;
            unique(store::scim::set_person_external_id(tx, id, wanted.as_deref()).await)?;
        }
    }
    if !changes.is_empty() {
        users::update(tx, actor, before, changes).await?;
    }
    Ok(store::users::get(tx, id).await?)
}

/// As [`removals::delete`]. `before` comes from [`lock_person`].
pub async fn delete_person(tx: &mut Tx, actor: &Actor, before: User) -> Result<()> {
    let actor = &provisioner(actor)?;
    removals::delete(tx, actor, before).await
}

pub async fn create_group(tx: &mut Tx, actor: &Actor, draft: GroupDraft) -> Done<Group> {
    let actor = &provisioner(actor)?;
    let name = draft.display_name.clone().ok_or_else(|| missing("displayName"))?;
    let wanted = external_id(draft.external_id.as_ref().and_then(Option::as_deref))?;
    group_is_free(tx, Some(&name), wanted.as_deref(), None).await?;
    let team =
        teams::create(tx, actor, TeamFields { name, email: None, manager: None, department: None }).await?;
    if wanted.is_some() {
        unique(store::scim::set_team_external_id(tx, team.id, wanted.as_deref()).await)?;
    }
    move_members(tx, actor, team.id, &BTreeSet::new(), &draft).await?;
    Ok(group(tx, team.id).await?)
}

async fn group_is_free(
    tx: &mut Tx,
    name: Option<&str>,
    external_id: Option<&str>,
    except: Option<TeamId>,
) -> Done<()> {
    let none = GroupFilter::default;
    let by_name = name.map(|name| GroupFilter { name: Some(name.to_owned()), ..none() });
    let by_id = external_id.map(|id| GroupFilter { external_id: Some(id.to_owned()), ..none() });
    for (filter, what) in [(by_name, "displayName"), (by_id, "externalId")] {
        let Some(filter) = filter else { continue };
        let two = Window { offset: 0, limit: 2 };
        let (found, _) = store::scim::groups(tx, &filter, two, Members::LeftOut).await?;
        if found.iter().any(|group| Some(group.id) != except) {
            return Err(taken(&format!("another Group has this {what}")));
        }
    }
    Ok(())
}

async fn group(tx: &mut Tx, id: TeamId) -> Result<Group> {
    store::scim::group(tx, id, Members::Read).await?.ok_or(Error::NotFound)
}

/// A team that is there, locked for its change.
pub async fn lock_group(tx: &mut Tx, actor: &Actor, id: TeamId) -> Result<Group> {
    permission::check(actor, Permission::ScimProvision)?;
    store::teams::lock(tx, id).await?;
    group(tx, id).await
}

/// `before` comes from [`lock_group`].
pub async fn update_group(tx: &mut Tx, actor: &Actor, before: Group, draft: GroupDraft) -> Done<Group> {
    let actor = &provisioner(actor)?;
    let id = before.id;
    if let Some(name) = draft.display_name.clone().filter(|name| *name != before.name) {
        group_is_free(tx, Some(&name), None, Some(id)).await?;
        let team = store::teams::get(tx, id).await?;
        let fields = TeamFields {
            name,
            email: team.email.clone(),
            manager: team.manager,
            department: team.department,
        };
        teams::update(tx, actor, team, fields).await?;
    }
    if let Some(given) = draft.external_id.clone() {
        let wanted = external_id(given.as_deref())?;
        if wanted != before.external_id {
            permission::check(actor, Permission::TeamsManage)?;
            group_is_free(tx, None, wanted.as_deref(), Some(id)).await?;
            unique(store::scim::set_team_external_id(tx, id, wanted.as_deref()).await)?;
        }
    }
    let members = before.members.iter().map(|(id, _)| *id).collect();
    move_members(tx, actor, id, &members, &draft).await?;
    Ok(group(tx, id).await?)
}

async fn move_members(
    tx: &mut Tx,
    actor: &Actor,
    team: TeamId,
    before: &BTreeSet<UserId>,
    draft: &GroupDraft,
) -> Done<()> {
    let after = draft.members(before);
    if before.symmetric_difference(&after).count() > MOST_CHANGES {
        let detail = format!("at most {MOST_CHANGES} members come and go with one request: send several");
        return Err(Wrong::new(Kind::InvalidValue, detail).into());
    }
    for gone in before.difference(&after) {
        teams::remove_member(tx, actor, team, *gone).await?;
    }
    for new in after.difference(before) {
        if store::users::find(tx, *new).await?.is_some_and(|user| !is_person(&user)) {
            return Err(Wrong::new(Kind::InvalidValue, "members are Users").into());
        }
        teams::add_member(tx, actor, team, *new).await?;
    }
    Ok(())
}

/// As [`teams::delete`]. `before` comes from [`lock_group`].
pub async fn delete_group(tx: &mut Tx, actor: &Actor, before: Group) -> Result<()> {
    let actor = &provisioner(actor)?;
    let team = store::teams::get(tx, before.id).await?;
    teams::delete(tx, actor, team).await
}

/// What a list of people looks for. `None`: nobody can be meant.
pub fn people_filter(terms: &[Term]) -> std::result::Result<Option<PersonFilter>, Wrong> {
    let mut filter = PersonFilter::default();
    each_once(terms)?;
    for term in terms {
        match term.attribute.as_str() {
            "id" => match text(term)?.parse() {
                Ok(id) => filter.id = Some(UserId(id)),
                Err(_) => return Ok(None),
            },
            "username" | "emails" | "emails.value" => filter.email = Some(text(term)?.to_lowercase()),
            "externalid" => filter.external_id = Some(text(term)?),
            "displayname" | "name.formatted" => filter.name = Some(text(term)?),
            "active" => match term.value.as_bool() {
                Some(active) => filter.is_active = Some(active),
                None => return Err(compares("active", "true or false")),
            },
            other => return Err(unknown(other)),
        }
    }
    Ok(Some(filter))
}

/// The same of groups.
pub fn group_filter(terms: &[Term]) -> std::result::Result<Option<GroupFilter>, Wrong> {
    let mut filter = GroupFilter::default();
    each_once(terms)?;
    for term in terms {
        match term.attribute.as_str() {
            "id" => match text(term)?.parse() {
                Ok(id) => filter.id = Some(TeamId(id)),
                Err(_) => return Ok(None),
            },
            "displayname" => filter.name = Some(text(term)?),
            "externalid" => filter.external_id = Some(text(term)?),
            "members" | "members.value" => match text(term)?.parse() {
                Ok(id) => filter.member = Some(UserId(id)),
                Err(_) => return Ok(None),
            },
            other => return Err(unknown(other)),
        }
    }
    Ok(Some(filter))
}

fn text(term: &Term) -> std::result::Result<String, Wrong> {
    term.value.as_str().map(str::to_owned).ok_or_else(|| compares(&term.attribute, "a text"))
}

fn compares(attribute: &str, with: &str) -> Wrong {
    Wrong::new(Kind::InvalidFilter, format!("{attribute} is compared with {with}"))
}

fn unknown(attribute: &str) -> Wrong {
    Wrong::new(Kind::InvalidFilter, format!("nothing is found by {attribute} here"))
}

fn each_once(terms: &[Term]) -> std::result::Result<(), Wrong> {
    let mut seen = BTreeSet::new();
    match terms.iter().find(|term| !seen.insert(&term.attribute)) {
        Some(twice) => Err(Wrong::new(Kind::InvalidFilter, format!("{} is compared twice", twice.attribute))),
        None => Ok(()),
    }
}
