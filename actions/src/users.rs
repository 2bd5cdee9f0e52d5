//! People: invited, changed, deactivated. What becomes of them when they are deleted stands in [`crate::removals`].

use crate::{Error, Result, check, events, passwords, roles};
use domain::{Absence, Actor, DepartmentId, EmailAddress, Permission, Role, UserId, permission};
use serde_json::json;
use store::Tx;
use store::users::User;

#[derive(Clone, Debug)]
pub struct NewPerson {
    pub email: String,
    pub name: String,
    pub role: Role,
    /// PHC string from [`passwords::first`]; hashing takes long, so it happens before the transaction. Whoever chose it knows it, so the first
    /// login changes it.
    pub password_hash: Option<String>,
    pub department: Option<DepartmentId>,
    pub manager: Option<UserId>,
    pub time_zone: Option<String>,
    pub locale: Option<String>,
    pub phone: Option<String>,
}

const NO_ONES_OWN: &str = "nobody is their own manager";

pub(crate) const WORDS: [(&str, &str, &str); 3] = [
    ("users_email_key", check::CONFLICT, "there is a user with this e-mail address already"),
    ("users_department_fkey", "/department", "there is no such department"),
    ("users_manager_fkey", "/manager", "there is no such user"),
];

/// Somebody new whose every field is what it may be, made by who may.
#[derive(Clone)]
pub(crate) struct Checked {
    pub email: EmailAddress,
    name: String,
    role: Role,
    password_hash: Option<String>,
    department: Option<DepartmentId>,
    manager: Option<UserId>,
    time_zone: Option<String>,
    locale: Option<String>,
    phone: Option<String>,
    /// As another system calls them.
    pub external_id: Option<String>,
}

impl Checked {
    fn row(&self) -> store::users::NewUser<'_> {
        store::users::NewUser {
            email: &self.email,
            name: &self.name,
            role: self.role,
            password_hash: self.password_hash.as_deref(),
            department: self.department,
            manager: self.manager,
            time_zone: self.time_zone.as_deref(),
            locale: self.locale.as_deref(),
            phone: self.phone.as_deref(),
            external_id: self.external_id.as_deref(),
            owner: None,
        }
    }
}

/// All that can be told without the database: whether those are there who are named is left to be looked up.
pub(crate) fn checked(actor: &Actor, new: NewPerson) -> Result<Checked> {
    permission::check(actor, Permission::PeopleManage)?;
    permission::covers(actor, &new.role.permissions())?;
    Ok(Checked {
        email: check::email("/email", &new.email)?,
        name: check::name(&new.name)?,
        role: new.role,
        time_zone: new.time_zone.as_deref().map(|zone| check::time_zone("/time_zone", zone)).transpose()?,
        locale: check::locale("/locale", new.locale.as_deref())?,
        phone: check::optional_text("/phone", new.phone.as_deref(), 50)?,
        password_hash: new.password_hash,
        department: new.department,
        manager: new.manager,
        external_id: None,
    })
}

/// What is said of somebody whose address is another one's.
pub(crate) fn address_is_taken() -> Error {
    Error::conflict("there is a user with this e-mail address already")
}

/// Many at once, who name only departments and managers that are held. `None`: the address is taken.
pub(crate) async fn add(tx: &mut Tx, actor: &Actor, people: &[Checked]) -> Result<Vec<Option<UserId>>> {
    let rows: Vec<_> = people.iter().map(Checked::row).collect();
    let made = check::constraints(store::users::insert_all(tx, &rows).await, &WORDS)?;
    let created = made.iter().zip(people).filter_map(|(id, new)| {
        Some(events::Fact::new("user.created", json!({"user": (*id)?, "role": new.role})))
    });
    events::record_all(tx, actor, created.collect()).await?;
    Ok(made)
}

pub async fn create(tx: &mut Tx, actor: &Actor, new: NewPerson) -> Result<User> {
    let new = checked(actor, new)?;
    check::living_department(tx, "/department", new.department).await?;
    check::living_user(tx, "/manager", new.manager).await?;
    let has_password = new.password_hash.is_some();
    let id = add(tx, actor, &[new]).await?.pop().flatten().ok_or_else(address_is_taken)?;
    if has_password {
        store::users::set_must_change_password(tx, id, true).await?;
    }
    Ok(store::users::get(tx, id).await?)
}

/// `None`: leave as it is. `Some(None)`: clear.
#[derive(Clone, Debug, Default)]
pub struct PersonChanges {
    pub name: Option<String>,
    pub role: Option<Role>,
    pub is_active: Option<bool>,
    pub department: Option<Option<DepartmentId>>,
    pub manager: Option<Option<UserId>>,
    pub time_zone: Option<Option<String>>,
    pub locale: Option<Option<String>>,
    pub phone: Option<Option<String>>,
    /// Out of office.
    pub away: Option<Option<Absence>>,
}

impl PersonChanges {
    pub fn is_empty(&self) -> bool {
        let PersonChanges { name, role, is_active, department, manager, time_zone, locale, phone, away } =
            self;
        let texts = name.is_none() && time_zone.is_none() && locale.is_none() && phone.is_none();
        texts
            && role.is_none()
            && is_active.is_none()
            && department.is_none()
            && manager.is_none()
            && away.is_none()
    }

    /// What people may change about themselves.
    fn is_personal(&self) -> bool {
        !self.concerns_admins() && self.department.is_none() && self.manager.is_none()
    }

    /// What concerns nobody else.
    pub(crate) fn is_plain(&self) -> bool {
        !self.concerns_admins() && self.manager.is_none() && self.away.is_none()
    }

    /// What may leave the organization without an admin.
    fn concerns_admins(&self) -> bool {
        self.role.is_some() || self.is_active.is_some()
    }
}

/// The person as they are, locked for these changes.
pub async fn lock(tx: &mut Tx, id: UserId, changes: &PersonChanges) -> Result<User> {
    Ok(match changes.concerns_admins() {
        true => store::users::lock_with_admins(tx, id).await?,
        false => store::users::lock(tx, id).await?,
    })
}

/// Admins change everybody; others themselves, within limits. `before` comes from [`lock`]. Deactivation ends all logins
/// and API tokens at once and for good, and the last active admin stays one.
pub async fn update(tx: &mut Tx, actor: &Actor, before: User, changes: PersonChanges) -> Result<User> {
    let themselves = actor.user_id() == Some(before.id);
    let is_limited = actor.rights().is_some_and(|rights| rights.limits.is_some());
    if !(themselves && changes.is_personal() && !is_limited) {
        permission::check(actor, Permission::PeopleManage)?;
    }
    let id = before.id;
    check::not_deleted(before.deleted_at)?;
    if changes.concerns_admins() {
        roles::may_govern(tx, actor, id).await?;
    }
    if let Some(role) = changes.role.filter(|role| *role != before.role) {
        permission::covers(actor, &role.permissions())?;
    }
    if let Some(department) = changes.department.filter(|department| *department != before.department) {
        roles::may_move(tx, actor, id, department).await?;
        check::living_department(tx, "/department", department).await?;
    }
    if let Some(manager) = changes.manager.filter(|manager| *manager != before.manager) {
        check::living_user(tx, "/manager", manager).await?;
    }
    let was_admin = before.role == Role::Admin && before.may_enter();
    let mut user = before;
    user.role = changes.role.unwrap_or(user.role);
    user.is_active = changes.is_active.unwrap_or(user.is_active);
    user.manager = changes.manager.unwrap_or(user.manager);
    set_plain(&mut user, &changes)?;
    let absence = changes.away.filter(|away| *away != user.away);
    if let Some(away) = absence.clone() {
        user.away = match away {
            Some(away) => Some(checked_absence(tx, id, away).await?),
            None => None,
        };
    }
    if user.manager == Some(id) {
        return Err(Error::invalid("/manager", NO_ONES_OWN));
    }
    let stays_admin = user.role == Role::Admin && user.may_enter();
    if was_admin && !stays_admin && !store::users::has_other_active_admin(tx, id).await? {
        return Err(Error::conflict("this is the last active admin: make somebody else admin first"));
    }
    check::constraints(store::users::update(tx, &user).await, &WORDS)?;
    if !user.is_active {
        end_logins(tx, id).await?;
    }
    if absence.is_some() {
        let away = user.away.as_ref();
        let payload = json!({"user": id, "from": away.map(|away| away.from), "until": away.map(|away| away.until),
                             "substitute": away.and_then(|away| away.substitute)});
        events::record(tx, actor, "user.out_of_office", None, payload).await?;
    }
    let payload = json!({"user": id, "role": user.role, "is_active": user.is_active});
    events::record(tx, actor, "user.updated", None, payload).await?;
    Ok(store::users::get(tx, id).await?)
}

/// What concerns nobody but the person: to be called once they may be put into the department.
fn set_plain(user: &mut User, changes: &PersonChanges) -> Result<()> {
    if let Some(name) = &changes.name {
        user.name = check::name(name)?;
    }
    user.department = changes.department.unwrap_or(user.department);
    if let Some(zone) = &changes.time_zone {
        user.time_zone = zone.as_deref().map(|zone| check::time_zone("/time_zone", zone)).transpose()?;
    }
    if let Some(locale) = &changes.locale {
        user.locale = check::locale("/locale", locale.as_deref())?;
    }
    if let Some(phone) = &changes.phone {
        user.phone = check::optional_text("/phone", phone.as_deref(), 50)?;
    }
    Ok(())
}

/// Changes many people as [`update`] does one, where that concerns nobody else ([`PersonChanges::is_plain`]) and departments are held; with what
/// became of each.
pub(crate) async fn update_plainly(
    tx: &mut Tx,
    actor: &Actor,
    wanted: &[(UserId, PersonChanges)],
) -> Result<Vec<Result<()>>> {
    permission::check(actor, Permission::PeopleManage)?;
    let ids: Vec<UserId> = wanted.iter().map(|(id, _)| *id).collect();
    let mut people = store::users::lock_all(tx, &ids).await?;
    let (mut answers, mut after, mut updated) = (Vec::with_capacity(wanted.len()), Vec::new(), Vec::new());
    for (id, changes) in wanted {
        let Some(mut user) = people.remove(id) else {
            answers.push(Err(Error::NotFound));
            continue;
        };
        let answer = may_change_plainly(tx, actor, &user, changes).await;
        let answer = answer.and_then(|()| set_plain(&mut user, changes));
        if answer.is_ok() {
            let payload = json!({"user": id, "role": user.role, "is_active": user.is_active});
            updated.push(events::Fact::new("user.updated", payload));
            after.push(user);
        }
        answers.push(answer);
    }
    check::constraints(store::users::update_plainly(tx, &after).await, &WORDS)?;
    events::record_all(tx, actor, updated).await?;
    Ok(answers)
}

async fn may_change_plainly(tx: &mut Tx, actor: &Actor, user: &User, changes: &PersonChanges) -> Result<()> {
    check::not_deleted(user.deleted_at)?;
    match changes.department.filter(|department| *department != user.department) {
        Some(department) => roles::may_move(tx, actor, user.id, department).await,
        None => Ok(()),
    }
}

/// Says who many people's managers are, as [`update`] does with one; with each of them what became of it, and whether it changed anything.
pub(crate) async fn set_managers(
    tx: &mut Tx,
    actor: &Actor,
    wanted: &[(UserId, UserId)],
) -> Result<Vec<(UserId, Result<bool>)>> {
    permission::check(actor, Permission::PeopleManage)?;
    let people: Vec<UserId> = wanted.iter().map(|(user, _)| *user).collect();
    let managers: Vec<UserId> = wanted.iter().map(|(_, manager)| *manager).collect();
    let before = store::users::lock_all(tx, &people).await?;
    let living = store::removals::living_users(tx, &managers).await?;
    let mut answers = Vec::with_capacity(wanted.len());
    let (mut changes, mut updated) = (Vec::new(), Vec::new());
    for (user, manager) in wanted {
        let answer = match before.get(user) {
            None => Err(Error::NotFound),
            Some(now) if now.manager == Some(*manager) => Ok(false),
            Some(now) if now.deleted_at.is_some() => Err(check::deleted()),
            Some(_) if !living.contains(manager) => Err(Error::invalid("/manager", "there is no such user")),
            Some(_) if user == manager => Err(Error::invalid("/manager", NO_ONES_OWN)),
            Some(now) => {
                changes.push((*user, *manager));
                let payload = json!({"user": user, "role": now.role, "is_active": now.is_active});
                updated.push(events::Fact::new("user.updated", payload));
                Ok(true)
            }
        };
        answers.push((*user, answer));
    }
    check::constraints(store::user_imports::set_managers(tx, &changes).await, &WORDS)?;
    events::record_all(tx, actor, updated).await?;
    Ok(answers)
}

/// Times in order, and a substitute who can do their work. Whether that one is away too is looked at when there is something to do.
async fn checked_absence(tx: &mut Tx, id: UserId, away: Absence) -> Result<Absence> {
    let at = |field: &str| format!("/out_of_office/{field}");
    if let Some((field, detail)) = away.wrong_times(tx.now()) {
        return Err(Error::invalid(at(field), detail));
    }
    if let Some(substitute) = away.substitute {
        let wrong = match store::ticket_people::standing(tx, substitute).await? {
            None => Some("there is no such user"),
            Some(_) if substitute == id => Some("nobody is their own substitute"),
            Some(person) if !person.is_active => Some("this user is not active"),
            Some(person) if !person.is_staff => {
                Some("an end user cannot stand in: name an agent, manager or admin")
            }
            Some(_) => None,
        };
        if let Some(detail) = wrong {
            return Err(Error::invalid(at("substitute"), detail));
        }
    }
    let note = check::optional_text(&at("note"), away.note.as_deref(), 500)?;
    Ok(Absence { note, ..away })
}

/// Logins, half logins, links to a new password and API tokens, for good.
pub(crate) async fn end_logins(tx: &mut Tx, id: UserId) -> Result<()> {
    store::sessions::revoke_user(tx, id, None).await?;
    store::login_challenges::withdraw(tx, id).await?;
    store::password_resets::withdraw(tx, id).await?;
    store::api_tokens::revoke_user(tx, id).await?;
    Ok(())
}

/// Sets somebody's password (administration); ends all their logins. They change it when they log in with it: two know it now.
pub(crate) async fn set_password(tx: &mut Tx, actor: &Actor, user: UserId, hash: &str) -> Result<()> {
    permission::check(actor, Permission::PeopleManage)?;
    if actor.user_id() == Some(user) {
        return Err(Error::conflict(
            "your own password goes with auth/change-password, which asks for the current one",
        ));
    }
    let person = store::users::lock(tx, user).await?;
    check::not_deleted(person.deleted_at)?;
    if person.owner.is_some() {
        return Err(Error::conflict("a service account has no password: make it an API token"));
    }
    roles::may_govern(tx, actor, user).await?;
    passwords::replace(tx, user, hash, None).await?;
    store::users::set_must_change_password(tx, user, true).await?;
    events::record(tx, actor, "user.password_set", None, json!({"user": user})).await?;
    Ok(())
}

/// Locks somebody out, or lets them in again. A lock ends all logins and rests API tokens; nothing of it is lost, unlike with a deactivation.
pub async fn set_locked(tx: &mut Tx, actor: &Actor, id: UserId, locked: bool) -> Result<User> {
    permission::check(actor, Permission::PeopleManage)?;
    let user = store::users::lock_with_admins(tx, id).await?;
    check::not_deleted(user.deleted_at)?;
    roles::may_govern(tx, actor, id).await?;
    if locked && user.role == Role::Admin && !store::users::has_other_active_admin(tx, id).await? {
        return Err(Error::conflict("this is the last active admin: make somebody else admin first"));
    }
    if store::users::set_locked(tx, id, locked).await? {
        if locked {
            store::sessions::revoke_user(tx, id, None).await?;
            store::login_challenges::withdraw(tx, id).await?;
            store::password_resets::withdraw(tx, id).await?;
        }
        let kind = if locked { "user.locked" } else { "user.unlocked" };
        events::record(tx, actor, kind, None, json!({"user": id})).await?;
    }
    Ok(store::users::get(tx, id).await?)
}
