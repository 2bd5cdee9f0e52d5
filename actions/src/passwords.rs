//! Passwords: what makes one acceptable, changing one's own, setting somebody's, and setting a forgotten one anew by mail.
//!
//! No transaction is held open while a password is being hashed.

use crate::breached::BreachedPasswords;
use crate::jobs::OfferPasswordReset;
use crate::{Error, Result, auth, credentials, events, throttle, users};
use chrono::TimeDelta;
use domain::{Actor, EmailAddress, OrganizationId, Permission, UserId, permission};
use queue::NewJob;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::sync::Arc;
use store::users::User;
use store::{Db, Tx};
use uuid::Uuid;

/// What the token of a link for a new password begins with.
pub const RESET_PREFIX: &str = "rdp_";
/// How long such a link is good for.
pub const RESET_LIFETIME: TimeDelta = TimeDelta::minutes(30);

/// What of the installation decides about passwords. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Passwords that everybody knows.
    pub breached: Option<Arc<BreachedPasswords>>,
}

/// What a password is for.
#[derive(Debug, Default)]
struct About {
    names: Vec<String>,
    /// The present and former ones, as they are stored.
    known: Vec<String>,
}

impl About {
    async fn organization(tx: &mut Tx) -> Result<About> {
        let organization = store::organizations::current(tx).await?;
        Ok(About { names: vec![organization.slug, organization.name], known: Vec::new() })
    }

    fn person(&mut self, email: &str, name: &str) {
        let local = email.rsplit_once('@').map_or(email, |(local, _)| local);
        self.names.extend([local.to_owned(), name.to_owned()]);
    }

    async fn of(tx: &mut Tx, user: &User) -> Result<About> {
        let mut about = About::organization(tx).await?;
        about.person(&user.email, &user.name);
        about.known.extend(store::users::password_hash(tx, user.id).await?);
        about.known.extend(store::users::former_passwords(tx, user.id).await?);
        Ok(about)
    }
}

impl Policy {
    /// The hash of a password that is acceptable. The cheap questions come first.
    async fn hash(&self, password: &SecretString, pointer: &str, about: About) -> Result<String> {
        let (typed, names) = (password.clone(), about.names);
        let looked = tokio::task::spawn_blocking(move || {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            domain::password::check(typed.expose_secret(), &names)
        });
        let looked = looked.await.map_err(|_| unchecked())?;
        looked.map_err(|weak| Error::invalid(pointer, weak.to_string()))?;
        if self.is_breached(password).await? {
            let detail = "is known from a breach of some other service: take another one";
            return Err(Error::invalid(pointer, detail));
        }
        for known in about.known {
            if credentials::verify_password(Some(known), password).await? {
                let detail = format!("is one of the last {}: take a new one", domain::password::REMEMBERED);
                return Err(Error::invalid(pointer, detail));
            }
        }
        credentials::hash_password(password, pointer).await
    }

    async fn is_breached(&self, password: &SecretString) -> Result<bool> {
        let (Some(list), password) = (self.breached.clone(), password.clone()) else { return Ok(false) };
        let looked = tokio::task::spawn_blocking(move || list.contains(password.expose_secret())).await;
        // What cannot be asked has not said no (ASVS 5.0, 16.5.3).
        looked.map_err(std::io::Error::other).and_then(|found| found).map_err(|error| {
            tracing::error!(%error, "the list of breached passwords (RELAYDESK_BREACHED_PASSWORDS) cannot be read");
            unchecked()
        })
    }
}

fn unchecked() -> Error {
    Error::Busy("passwords cannot be checked for now, so none is taken: the operator of this installation must look into the log".into())
}

/// The first password of somebody who is about to be made.
pub async fn first(
    db: &Db,
    policy: &Policy,
    organization: OrganizationId,
    email: &str,
    name: &str,
    password: &SecretString,
) -> Result<String> {
    let mut tx = db.begin(organization).await?;
    let mut about = About::organization(&mut tx).await?;
    tx.rollback().await?;
    about.person(email, name);
    policy.hash(password, "/password", about).await
}

/// The same for the first admin of an organization that is not there yet. `organization`: its slug and its name.
pub async fn first_admin(
    policy: &Policy,
    organization: [&str; 2],
    email: &str,
    name: &str,
    password: &SecretString,
) -> Result<String> {
    let mut about = About { names: organization.map(str::to_owned).into(), known: Vec::new() };
    about.person(email, name);
    policy.hash(password, "/admin/password", about).await
}

/// The same on the command line, where nobody waits for the transaction.
pub async fn first_in(
    tx: &mut Tx,
    policy: &Policy,
    email: &str,
    name: &str,
    password: &SecretString,
) -> Result<String> {
    let mut about = About::organization(tx).await?;
    about.person(email, name);
    policy.hash(password, "/password", about).await
}

/// Sets somebody's password (administration); ends all their logins.
pub async fn set(
    db: &Db,
    policy: &Policy,
    actor: &Actor,
    user: UserId,
    password: &SecretString,
) -> Result<()> {
    permission::check(actor, Permission::PeopleManage)?;
    let mut tx = db.begin(actor.organization).await?;
    let person = store::users::get(&mut tx, user).await?;
    let about = About::of(&mut tx, &person).await?;
    tx.rollback().await?;
    let hash = policy.hash(password, "/password", about).await?;
    let mut tx = db.begin(actor.organization).await?;
    users::set_password(&mut tx, actor, user, &hash).await?;
    Ok(tx.commit().await?)
}

/// The same on the command line.
pub async fn set_in(
    tx: &mut Tx,
    policy: &Policy,
    actor: &Actor,
    user: UserId,
    password: &SecretString,
) -> Result<()> {
    let person = store::users::get(tx, user).await?;
    let about = About::of(tx, &person).await?;
    let hash = policy.hash(password, "/password", about).await?;
    users::set_password(tx, actor, user, &hash).await
}

/// Sets one's own password, which ends all other logins. `login` is the one that goes on.
pub async fn change(
    db: &Db,
    policy: &Policy,
    organization: OrganizationId,
    user: UserId,
    login: Option<Uuid>,
    current: &SecretString,
    new: &SecretString,
) -> Result<()> {
    let before = confirm(db, organization, user, current, "/current_password").await?;
    let mut tx = db.begin(organization).await?;
    let person = store::users::get(&mut tx, user).await?;
    let about = About::of(&mut tx, &person).await?;
    tx.rollback().await?;
    let hash = policy.hash(new, "/new_password", about).await?;
    let mut tx = db.begin(organization).await?;
    let person = store::users::lock(&mut tx, user).await?;
    if !is_still(&mut tx, user, &before, current).await? {
        return Err(Error::conflict("the password was changed meanwhile: try again"));
    }
    replace(&mut tx, user, &hash, login).await?;
    let actor = auth::actor_of(&tx, &person);
    events::record(&mut tx, &actor, "user.password_set", None, json!({"user": user})).await?;
    Ok(tx.commit().await?)
}

/// Whether the password that was right a moment ago, by this hash, is right still: a login may have made its hash anew meanwhile.
pub(crate) async fn is_still(
    tx: &mut Tx,
    user: UserId,
    before: &Option<String>,
    password: &SecretString,
) -> Result<bool> {
    let now = store::users::password_hash(tx, user).await?;
    Ok(now == *before || (now.is_some() && credentials::verify_password(now, password).await?))
}

/// Whether somebody who is logged in knows their password; answers how it is stored. `pointer` names the field it came from.
pub(crate) async fn confirm(
    db: &Db,
    organization: OrganizationId,
    user: UserId,
    password: &SecretString,
    pointer: &str,
) -> Result<Option<String>> {
    throttle::confirmation(db, user).await?;
    let mut tx = db.begin(organization).await?;
    let stored = store::users::password_hash(&mut tx, user).await?;
    tx.rollback().await?;
    if !credentials::verify_password(stored.clone(), password).await? {
        // As often as the throttle lets somebody try, so that nobody fills the log.
        let mut tx = db.begin(organization).await?;
        let actor = Actor::system(organization, "login");
        events::record(&mut tx, &actor, "auth.confirmation_failed", None, json!({"user": user})).await?;
        tx.commit().await?;
        return Err(Error::invalid(pointer, "is wrong"));
    }
    throttle::confirmed(db, user).await?;
    Ok(stored)
}

/// The new password, and an end to what the old one opened: logins (but `login`), half logins, links of mails.
pub(crate) async fn replace(tx: &mut Tx, user: UserId, hash: &str, login: Option<Uuid>) -> Result<()> {
    store::users::set_password_hash(tx, user, hash).await?;
    store::sessions::revoke_user(tx, user, login).await?;
    store::login_challenges::withdraw(tx, user).await?;
    store::password_resets::withdraw(tx, user).await?;
    Ok(())
}

/// Somebody says that they forgot their password. What is done here is the same for every address, so that neither answer nor time tells who
/// is known: the looking up is a job's.
pub async fn ask_for_reset(
    db: &Db,
    email: &str,
    organization: Option<&str>,
    address: Option<&str>,
) -> Result<()> {
    let Ok(email) = EmailAddress::parse(email) else { return Ok(()) };
    let mut tx = db.begin_system().await?;
    throttle::reset(&mut tx, address).await?;
    let job = NewJob::of(&OfferPasswordReset {
        email: email.to_string(),
        organization: organization.map(str::to_owned),
        address: address.map(str::to_owned),
    });
    crate::enqueue(&mut tx, &[job]).await?;
    Ok(tx.commit().await?)
}

/// A new token for a link, stored as its hash. It is made as the mail is written, and stands nowhere else.
pub async fn offer_reset(tx: &mut Tx, user: UserId) -> Result<SecretString> {
    let token = credentials::new_token(RESET_PREFIX);
    let hash = credentials::hash_token(token.expose_secret());
    let expires_at = tx.now() + RESET_LIFETIME;
    store::password_resets::insert(tx, user, &hash, expires_at).await?;
    Ok(token)
}

/// Sets the password with the token of a mail: once. Logs nobody in, so a second factor is still asked for, and ends all logins.
pub async fn reset(
    db: &Db,
    policy: &Policy,
    token: &str,
    new: &SecretString,
    address: Option<&str>,
) -> Result<()> {
    let used = || Error::invalid("/token", "is not valid, was used, or has expired: ask for a new mail");
    let token_hash = credentials::hash_token(token);
    let mut tx = db.begin_presenting(&token_hash).await?;
    let found = store::password_resets::find_presented(&mut tx, &token_hash).await?;
    let (organization, user) = found.ok_or_else(used)?;
    tx.enter(organization).await?;
    let person = store::users::get(&mut tx, user).await?;
    let about = About::of(&mut tx, &person).await?;
    tx.rollback().await?;
    if !person.may_enter() || person.owner.is_some() {
        return Err(used());
    }
    let hash = policy.hash(new, "/new_password", about).await?;
    let mut tx = db.begin(organization).await?;
    let person = store::users::lock(&mut tx, user).await?;
    if !person.may_enter() || !store::password_resets::use_up(&mut tx, &token_hash).await? {
        return Err(used());
    }
    replace(&mut tx, user, &hash, None).await?;
    let actor = auth::actor_of(&tx, &person);
    let payload = json!({"user": user, "address": address});
    events::record(&mut tx, &actor, "auth.password_reset_used", None, payload).await?;
    tx.commit().await?;
    tracing::info!(user.id = %user, "a forgotten password was set anew");
    Ok(())
}
