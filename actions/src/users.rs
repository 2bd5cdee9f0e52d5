//! People: invited, changed, deactivated. Nobody is deleted: tickets and history name them.

use crate::{Error, Result, check, credentials, events};
use domain::{Actor, DepartmentId, Permission, Role, UserId, permission};
use secrecy::SecretString;
use serde_json::json;
use store::Tx;
use store::users::User;

#[derive(Clone, Debug)]
pub struct NewPerson {
    pub email: String,
    pub name: String,
    pub role: Role,
    /// PHC string from [`credentials::hash_password`]; hashing takes long, so it happens before the transaction.
    pub password_hash: Option<String>,
    pub department: Option<DepartmentId>,
    pub manager: Option<UserId>,
    pub time_zone: Option<String>,
    pub locale: Option<String>,
    pub phone: Option<String>,
}

const WORDS: [(&str, &str, &str); 2] = [
    ("users_department_fkey", "/department", "there is no such department"),
    ("users_manager_fkey", "/manager", "there is no such user"),
];

pub async fn create(tx: &mut Tx, actor: &Actor, new: NewPerson) -> Result<User> {
    permission::check(actor, Permission::PeopleManage)?;
    let email = check::email("/email", &new.email)?;
    let name = check::name(&new.name)?;
    let time_zone = new.time_zone.as_deref().map(|zone| check::time_zone("/time_zone", zone)).transpose()?;
    let locale = check::optional_text("/locale", new.locale.as_deref(), 35)?;
    let phone = check::optional_text("/phone", new.phone.as_deref(), 50)?;
    let row = store::users::NewUser {
        email: &email,
        name: &name,
        role: new.role,
        password_hash: new.password_hash.as_deref(),
        department: new.department,
        manager: new.manager,
        time_zone: time_zone.as_deref(),
        locale: locale.as_deref(),
        phone: phone.as_deref(),
    };
    let id = check::constraints(store::users::insert(tx, &row).await, &WORDS)?
        .ok_or_else(|| Error::conflict("there is a user with this e-mail address already"))?;
    events::record(tx, actor, "user.created", None, json!({"user": id, "role": new.role})).await?;
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
}

impl PersonChanges {
    /// What people may change about themselves.
    fn is_personal(&self) -> bool {
        !self.concerns_admins() && self.department.is_none() && self.manager.is_none()
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
    if !(themselves && changes.is_personal()) {
        permission::check(actor, Permission::PeopleManage)?;
    }
    let id = before.id;
    let was_admin = before.role == Role::Admin && before.is_active;
    let mut user = before;
    if let Some(name) = changes.name {
        user.name = check::name(&name)?;
    }
    user.role = changes.role.unwrap_or(user.role);
    user.is_active = changes.is_active.unwrap_or(user.is_active);
    user.department = changes.department.unwrap_or(user.department);
    user.manager = changes.manager.unwrap_or(user.manager);
    if let Some(zone) = changes.time_zone {
        user.time_zone = zone.map(|zone| check::time_zone("/time_zone", &zone)).transpose()?;
    }
    if let Some(locale) = changes.locale {
        user.locale = check::optional_text("/locale", locale.as_deref(), 35)?;
    }
    if let Some(phone) = changes.phone {
        user.phone = check::optional_text("/phone", phone.as_deref(), 50)?;
    }
    if user.manager == Some(id) {
        return Err(Error::invalid("/manager", "nobody is their own manager"));
    }
    let stays_admin = user.role == Role::Admin && user.is_active;
    if was_admin && !stays_admin && !store::users::has_other_active_admin(tx, id).await? {
        return Err(Error::conflict("this is the last active admin: make somebody else admin first"));
    }
    check::constraints(store::users::update(tx, &user).await, &WORDS)?;
    if !user.is_active {
        store::sessions::revoke_user(tx, id, None).await?;
        store::api_tokens::revoke_user(tx, id).await?;
    }
    let payload = json!({"user": id, "role": user.role, "is_active": user.is_active});
    events::record(tx, actor, "user.updated", None, payload).await?;
    Ok(store::users::get(tx, id).await?)
}

/// Sets somebody else's password (administration); ends all their logins.
pub async fn set_password(tx: &mut Tx, actor: &Actor, user: UserId, hash: &str) -> Result<()> {
    permission::check(actor, Permission::PeopleManage)?;
    store::users::lock(tx, user).await?;
    store::users::set_password_hash(tx, user, hash).await?;
    store::sessions::revoke_user(tx, user, None).await?;
    events::record(tx, actor, "user.password_set", None, json!({"user": user})).await?;
    Ok(())
}

/// For callers that have a clear-text password: hashes it (before any transaction is open).
pub async fn hashed(password: Option<&SecretString>) -> Result<Option<String>> {
    match password {
        Some(password) => Ok(Some(credentials::hash_password(password, "/password").await?)),
        None => Ok(None),
    }
}
