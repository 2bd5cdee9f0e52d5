//! Logging in and staying in: password → access and refresh token; refresh tokens are used once.
//!
//! These verbs take the database instead of a transaction: none is held open while a password is being hashed.

use crate::access::{Keys, LIFETIME};
use crate::{Error, Result, credentials, events};
use chrono::TimeDelta;
use domain::{Actor, EmailAddress, OrganizationId, SessionId, UserId, Who};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use store::sessions::NewSession;
use store::users::LoginCandidate;
use store::{Db, Tx};
use uuid::Uuid;

/// What every refresh token begins with.
const REFRESH_PREFIX: &str = "rdr_";
/// How long a refresh token is good for; each use starts anew.
const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(30);

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

/// The same words for an unknown address, a wrong password, a deactivated user and a foreign organization.
fn refused() -> Error {
    Error::Unauthenticated("the e-mail address or the password is wrong".into())
}

pub async fn login(db: &Db, keys: &Keys, login: &Login, origin: &Origin) -> Result<Tokens> {
    let candidates = candidates(db, login).await?;
    let mut matching = Vec::new();
    if candidates.is_empty() {
        credentials::verify_password(None, &login.password).await?;
    }
    for candidate in candidates {
        if credentials::verify_password(candidate.password_hash.clone(), &login.password).await? {
            matching.push(candidate);
        }
    }
    let [found] = matching.as_slice() else {
        return Err(match matching.len() {
            0 => refused(),
            _ => Error::invalid(
                "/organization",
                "you are in more than one organization: name the one you mean",
            ),
        });
    };
    let mut tx = db.begin(found.organization).await?;
    // Deactivated, or given another password, while the password was being compared?
    let user = store::users::lock(&mut tx, found.user).await?;
    if !user.is_active || store::users::password_hash(&mut tx, user.id).await? != found.password_hash {
        return Err(refused());
    }
    let family = SessionId::new();
    let tokens = issue(&mut tx, keys, user.id, family, family.0, origin).await?;
    store::users::note_login(&mut tx, user.id).await?;
    tx.commit().await?;
    tracing::info!(user.id = %user.id, organization.id = %found.organization, "logged in");
    Ok(tokens)
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

async fn issue(
    tx: &mut Tx,
    keys: &Keys,
    user: UserId,
    session: SessionId,
    family: Uuid,
    origin: &Origin,
) -> Result<Tokens> {
    let refresh = credentials::new_token(REFRESH_PREFIX);
    let cut = |text: &String| text.chars().take(300).collect::<String>();
    let user_agent = origin.user_agent.as_ref().map(cut);
    let refresh_hash = credentials::hash_token(refresh.expose_secret());
    let new = NewSession {
        id: session,
        user,
        family,
        refresh_hash: &refresh_hash,
        expires_at: tx.now() + REFRESH_LIFETIME,
        user_agent: user_agent.as_deref(),
        ip: origin.ip.as_deref(),
    };
    store::sessions::insert(tx, &new).await?;
    let organization = tx.organization();
    let access = keys.issue(user, organization, family, tx.now());
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
    let user = store::users::find(&mut tx, session.user).await?;
    if user.is_none_or(|user| !user.is_active) {
        return Err(refused());
    }
    if store::sessions::rotate(&mut tx, session.id).await? {
        let tokens = issue(&mut tx, keys, session.user, SessionId::new(), session.family, origin).await?;
        tx.commit().await?;
        return Ok(tokens);
    }
    let revoked = store::sessions::revoke_family(&mut tx, session.family).await?;
    tx.commit().await?;
    if revoked > 0 {
        tracing::warn!(user.id = %session.user, "a refresh token was used twice: login ended");
    }
    Err(refused())
}

/// Ends the login that a refresh token belongs to. Unknown tokens are fine: they are logged out.
pub async fn logout(db: &Db, token: &str) -> Result<()> {
    let hash = credentials::hash_token(token);
    let mut tx = db.begin_presenting(&hash).await?;
    if let Some(session) = store::sessions::find_presented(&mut tx, &hash).await? {
        tx.enter(session.organization).await?;
        store::sessions::revoke_family(&mut tx, session.family).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Ends a login by its name, as an access token carries it.
pub async fn end_login(db: &Db, organization: OrganizationId, family: Uuid) -> Result<()> {
    let mut tx = db.begin(organization).await?;
    store::sessions::revoke_family(&mut tx, family).await?;
    tx.commit().await?;
    Ok(())
}

/// Sets one's own password, which ends all other logins. `login` is the one that goes on.
pub async fn change_password(
    db: &Db,
    organization: OrganizationId,
    user: UserId,
    login: Option<Uuid>,
    current: &SecretString,
    new: &SecretString,
) -> Result<()> {
    let mut tx = db.begin(organization).await?;
    let before = store::users::password_hash(&mut tx, user).await?;
    tx.rollback().await?;
    if !credentials::verify_password(before.clone(), current).await? {
        return Err(Error::invalid("/current_password", "is wrong"));
    }
    let hash = credentials::hash_password(new, "/new_password").await?;
    let mut tx = db.begin(organization).await?;
    let person = store::users::lock(&mut tx, user).await?;
    if store::users::password_hash(&mut tx, user).await? != before {
        return Err(Error::conflict("the password was changed meanwhile: try again"));
    }
    store::users::set_password_hash(&mut tx, user, &hash).await?;
    store::sessions::revoke_user(&mut tx, user, login).await?;
    let actor = Actor { organization, who: Who::User { id: user, role: person.role, name: person.name } };
    events::record(&mut tx, &actor, "user.password_set", None, json!({"user": user})).await?;
    tx.commit().await?;
    Ok(())
}
