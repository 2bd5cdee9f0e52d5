//! Logging in and staying in: password (and second factor) → access and refresh token; refresh tokens are used once.
//!
//! These verbs take the database instead of a transaction: none is held open while a password is being hashed.

use crate::access::{Keys, LIFETIME};
use crate::{Error, Result, credentials, events, mfa, organizations, passwords, sign_in, throttle};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{Actor, EmailAddress, OrganizationId, Rights, SessionId, UserId};
use queue::KeyRing;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use store::sessions::{Bounds, NewSession};
use store::users::{LoginCandidate, User};
use store::{Db, Tx};
use uuid::Uuid;

/// What every refresh token begins with.
const REFRESH_PREFIX: &str = "rdr_";
#[derive(Clone, Debug)]
pub struct Login {
    pub email: String,
    pub password: SecretString,
    /// The slug, needed only by people who have the same address and password in more than one organization.
    pub organization: Option<String>,
}

/// Where a login came from, kept with the session.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    pub user_agent: Option<String>,
    pub ip: Option<String>,
}

#[derive(Debug)]
pub struct Tokens {
    pub access: String,
    pub refresh: SecretString,
    /// Seconds until the access token expires.
    pub expires_in: i64,
    pub organization: OrganizationId,
    pub user: UserId,
}

/// What a right password is worth.
#[derive(Debug)]
pub enum LoggedIn {
    In(Tokens),
    /// A code is asked for, or a second factor must be made: to be finished with this token.
    Halfway(mfa::Challenge),
}

/// The same words for an unknown address, a wrong password, a deactivated user and a foreign organization.
fn refused() -> Error {
    Error::Unauthenticated("the e-mail address or the password is wrong".into())
}

pub async fn login(db: &Db, keys: &Keys, login: &Login, origin: &Origin) -> Result<LoggedIn> {
    let counted = throttle::login(db, &login.email, origin.ip.as_deref()).await?;
    let candidates = candidates(db, login).await?;
    let mut matching = Vec::new();
    if candidates.is_empty() {
        credentials::verify_password(None, &login.password).await?;
    }
    for candidate in &candidates {
        if credentials::verify_password(candidate.password_hash.clone(), &login.password).await? {
            matching.push(candidate);
        }
    }
    let found = match matching.as_slice() {
        [found] => *found,
        [] => {
            tell_failed(db, &candidates, origin);
            return Err(refused());
        }
        _ => {
            return Err(Error::invalid(
                "/organization",
                "you are in more than one organization: name the one you mean",
            ));
        }
    };
    let renewed = credentials::renewed(found.password_hash.as_deref(), &login.password).await;
    let mut tx = db.begin(found.organization).await?;
    // Deactivated, or given another password, while the password was being compared?
    let user = store::users::lock(&mut tx, found.user).await?;
    let known = &found.password_hash;
    if !user.may_enter() || !passwords::is_still(&mut tx, user.id, known, &login.password).await? {
        return Err(refused());
    }
    organizations::must_go_on(&mut tx).await?;
    if let Some(hash) = renewed {
        store::users::renew_password_hash(&mut tx, user.id, &hash).await?;
    }
    let logged_in = match mfa::needed(&mut tx, &user, None).await? {
        Some(challenge) => LoggedIn::Halfway(challenge),
        None => LoggedIn::In(begin(&mut tx, keys, &user, origin, Way::here("password")).await?),
    };
    tx.commit().await?;
    counted.succeeded(db).await?;
    Ok(logged_in)
}

/// Afterwards and by itself: that it takes a moment must not tell who is known.
fn tell_failed(db: &Db, candidates: &[LoginCandidate], origin: &Origin) {
    let (db, address) = (db.clone(), origin.ip.clone());
    let known: Vec<_> = candidates.iter().map(|found| (found.organization, found.user)).collect();
    tracing::info!(known = known.len(), address, "a login failed");
    tokio::spawn(store::context::carry(async move {
        for (organization, user) in known {
            let told: Result<()> = async {
                let mut tx = db.begin(organization).await?;
                let actor = Actor::system(organization, "login");
                let payload = json!({"user": user, "address": address});
                events::record(&mut tx, &actor, "auth.login_failed", None, payload).await?;
                Ok(tx.commit().await?)
            }
            .await;
            if let Err(error) = told {
                tracing::warn!(%error, "a failed login could not be recorded");
            }
        }
    }));
}

/// How somebody logs in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// What they have shown.
    pub by: &'static str,
    pub bounds: Bounds,
}

impl Way {
    /// By what we know ourselves.
    pub fn here(by: &'static str) -> Way {
        Way { by, bounds: Bounds::default() }
    }
}

/// The first tokens of a login.
pub(crate) async fn begin(
    tx: &mut Tx,
    keys: &Keys,
    user: &User,
    origin: &Origin,
    way: Way,
) -> Result<Tokens> {
    let (family, by) = (SessionId::new(), way.by);
    let login = Family { id: family.0, began: tx.now(), bounds: way.bounds };
    let until = login.until(tx).await?;
    let tokens = issue(tx, keys, user.id, family, login, until, origin).await?;
    store::users::note_login(tx, user.id).await?;
    let payload = json!({"user": user.id, "login": family, "by": by, "provider": way.bounds.provider,
                         "address": origin.ip, "device": origin.user_agent});
    let actor = actor_of(tx, user);
    events::record(tx, &actor, "auth.login", None, payload).await?;
    tracing::info!(user.id = %user.id, organization.id = %tx.organization(), by, "logged in");
    Ok(tokens)
}

/// A person who acts for themselves.
pub(crate) fn actor_of(tx: &Tx, user: &User) -> Actor {
    Actor::user(tx.organization(), user.id, user.name.clone(), Rights::of_role(user.id, user.role))
}

async fn candidates(db: &Db, login: &Login) -> Result<Vec<LoginCandidate>> {
    // What is no address is nobody's, and takes as long.
    let Ok(email) = EmailAddress::parse(&login.email) else {
        return Ok(Vec::new());
    };
    let mut tx = db.begin_presenting(email.as_str()).await?;
    let mut found = store::users::login_candidates(&mut tx, &email).await?;
    if let Some(slug) = &login.organization {
        let mut system = db.begin_system().await?;
        let wanted = store::organizations::find_by_slug(&mut system, slug).await?;
        found.retain(|candidate| Some(candidate.organization) == wanted);
    }
    Ok(found)
}

/// A login: all sessions that come out of it.
#[derive(Clone, Copy)]
struct Family {
    id: Uuid,
    began: DateTime<Utc>,
    bounds: Bounds,
}

impl Family {
    /// Until when a refresh token of it is good that is made now: rest and age end a login, as the organization has it by now, and the provider
    /// that it came from. A moment that is over: it has ended.
    async fn until(&self, tx: &mut Tx) -> Result<DateTime<Utc>> {
        let organization = store::organizations::current(tx).await?;
        let rest = tx.now() + TimeDelta::hours(organization.login_idle_hours.into());
        let age = self.began + TimeDelta::hours(organization.login_hours.into());
        let end = rest.min(age);
        Ok(self.bounds.ends_at.map_or(end, |bound| bound.min(end)))
    }
}

async fn issue(
    tx: &mut Tx,
    keys: &Keys,
    user: UserId,
    session: SessionId,
    family: Family,
    until: DateTime<Utc>,
    origin: &Origin,
) -> Result<Tokens> {
    let refresh = credentials::new_token(REFRESH_PREFIX);
    let cut = |text: &String| text.chars().take(300).collect::<String>();
    let user_agent = origin.user_agent.as_ref().map(cut);
    let refresh_hash = credentials::hash_token(refresh.expose_secret());
    let new = NewSession {
        id: session,
        user,
        family: family.id,
        login_at: family.began,
        refresh_hash: &refresh_hash,
        expires_at: until,
        user_agent: user_agent.as_deref(),
        ip: origin.ip.as_deref(),
        bounds: family.bounds,
    };
    store::sessions::insert(tx, &new).await?;
    let organization = tx.organization();
    let access = keys.issue(user, organization, family.id, tx.now());
    Ok(Tokens { access, refresh, expires_in: LIFETIME.num_seconds(), organization, user })
}

/// A new pair for a refresh token. A token that was used before means that somebody copied it: the whole login ends
/// (RFC 9700, 4.14.2).
pub async fn refresh(db: &Db, keys: &Keys, token: &str, origin: &Origin) -> Result<Tokens> {
    let refused =
        || Error::Unauthenticated("the refresh token is not valid, expired or revoked: log in again".into());
    let hash = credentials::hash_token(token);
    let mut tx = db.begin_presenting(&hash).await?;
    let session = store::sessions::find_presented(&mut tx, &hash).await?.ok_or_else(refused)?;
    tx.enter(session.organization).await?;
    // Whoever ends logins locks the person as well: none of them slips through to a session that is being made.
    let user = match store::users::lock(&mut tx, session.user).await {
        Ok(user) if user.may_enter() => user,
        Ok(_) | Err(store::Error::NotFound) => return Err(refused()),
        Err(error) => return Err(error.into()),
    };
    // Who has to have a second factor since then makes one at the next login.
    if mfa::is_missing(&mut tx, &user).await? && !sign_in::vouches(&mut tx, session.bounds.provider).await? {
        return Err(refused());
    }
    organizations::must_go_on(&mut tx).await?;
    let family = Family { id: session.family, began: session.login_at, bounds: session.bounds };
    let until = family.until(&mut tx).await?;
    // Nobody has copied what is merely too old.
    if session.expires_at.min(until) <= tx.now() && !session.rotated {
        return Err(refused());
    }
    if store::sessions::rotate(&mut tx, session.id).await? {
        let tokens = issue(&mut tx, keys, session.user, SessionId::new(), family, until, origin).await?;
        tx.commit().await?;
        return Ok(tokens);
    }
    if store::sessions::revoke_family(&mut tx, session.family).await? > 0 {
        tracing::warn!(user.id = %session.user, "a refresh token was used twice: login ended");
        let payload = json!({"user": session.user, "login": session.family, "address": origin.ip});
        let actor = Actor::system(session.organization, "refresh");
        events::record(&mut tx, &actor, "auth.refresh_reused", None, payload).await?;
    }
    tx.commit().await?;
    Err(refused())
}

/// What somebody who is logged in shows once more.
#[derive(Clone, Debug)]
pub struct Again {
    pub organization: OrganizationId,
    pub user: UserId,
    /// The login that shows it.
    pub login: Uuid,
    pub password: SecretString,
    /// Of who has a second factor: a code of it, or a recovery code.
    pub code: Option<String>,
}

/// Who is logged in shows again who they are: a new login takes the place of the one that they have (ASVS 5.0, 7.2.4), whose tokens are good
/// for nothing from then on, whoever has a copy.
pub async fn again(db: &Db, keys: &Keys, ring: &KeyRing, again: &Again, origin: &Origin) -> Result<Tokens> {
    let Again { organization, user, login, ref password, ref code } = *again;
    let known = passwords::confirm(db, organization, user, password, "/password").await?;
    let mut tx = db.begin(organization).await?;
    let has_factor = mfa::is_enabled(&mut tx, user).await?;
    tx.rollback().await?;
    if has_factor {
        let missing =
            || Error::invalid("/code", "is required: a code of your second factor, or a recovery code");
        mfa::confirm_again(db, ring, organization, user, code.as_deref().ok_or_else(missing)?, origin)
            .await?;
    }
    let mut tx = db.begin(organization).await?;
    let person = store::users::lock(&mut tx, user).await?;
    let unchanged = passwords::is_still(&mut tx, user, &known, password).await?;
    if !unchanged || !person.may_enter() || mfa::is_missing(&mut tx, &person).await? {
        return Err(Error::Unauthenticated("your account was changed meanwhile: log in again".into()));
    }
    organizations::must_go_on(&mut tx).await?;
    // The new one ends when the old one would have, and with the provider that it came from.
    let ended = || Error::Unauthenticated("this login has ended: log in again".into());
    let bounds = store::sessions::bounds_of(&mut tx, login).await?.ok_or_else(ended)?;
    store::sessions::revoke_family(&mut tx, login).await?;
    let way = Way { by: "reauthentication", bounds };
    let tokens = begin(&mut tx, keys, &person, origin, way).await?;
    tx.commit().await?;
    Ok(tokens)
}

/// Ends the login that a refresh token belongs to. Unknown tokens are fine: they are logged out.
pub async fn logout(db: &Db, token: &str) -> Result<()> {
    let hash = credentials::hash_token(token);
    let mut tx = db.begin_presenting(&hash).await?;
    if let Some(session) = store::sessions::find_presented(&mut tx, &hash).await? {
        tx.enter(session.organization).await?;
        end(&mut tx, session.user, session.family).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Ends a login by its name, as an access token carries it.
pub async fn end_login(db: &Db, organization: OrganizationId, user: UserId, family: Uuid) -> Result<()> {
    let mut tx = db.begin(organization).await?;
    end(&mut tx, user, family).await?;
    Ok(tx.commit().await?)
}

async fn end(tx: &mut Tx, user: UserId, family: Uuid) -> Result<()> {
    let person = store::users::lock(tx, user).await?;
    if store::sessions::revoke_family(tx, family).await? > 0 {
        let actor = actor_of(tx, &person);
        let payload: Value = json!({"user": user, "login": family});
        events::record(tx, &actor, "auth.logout", None, payload).await?;
    }
    Ok(())
}
