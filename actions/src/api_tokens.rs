//! API tokens: made (and shown once), revoked.

use crate::{Error, FieldError, Result, check, credentials, events, roles};
use chrono::{DateTime, Utc};
use domain::permission::Limits;
use domain::{Actor, ApiTokenId, Permission, UserId, permission};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::collections::BTreeSet;
use store::Tx;
use store::api_tokens::{ApiToken, NewApiToken};

/// What every API token begins with.
pub const PREFIX: &str = "rd_";

/// What a token is to be.
#[derive(Clone, Debug, Default)]
pub struct NewToken {
    pub name: String,
    pub expires_at: Option<DateTime<Utc>>,
    /// The permissions that it is for; `None`: all of its user. It never allows more than its user may at the moment.
    pub scopes: Option<Vec<String>>,
    /// The API token with which it is asked for, if it was one.
    pub made_with: Option<ApiTokenId>,
}

/// For `user`: oneself, a service account that one may govern, or (for administration, as the system) anybody. The token itself is in the answer
/// and nowhere else.
///
/// What is made with a token that expires does not outlive it, and what is made with one that has scopes has no others, else whoever got hold
/// of one for an hour and for little would have one for ever and for everything.
pub async fn create(
    tx: &mut Tx,
    actor: &Actor,
    user: UserId,
    new: &NewToken,
) -> Result<(ApiToken, SecretString)> {
    permission::check(actor, Permission::TokensOwn)?;
    let person = store::users::get(tx, user).await?;
    check::not_deleted(person.deleted_at)?;
    if actor.user_id().is_some_and(|id| id != user) {
        if person.owner.is_none() {
            return Err(Error::forbidden("a token can be made for oneself and for service accounts only"));
        }
        permission::check(actor, Permission::PeopleManage)?;
        roles::may_govern(tx, actor, user).await?;
    }
    if new.made_with.is_some() && person.owner.is_none() {
        return Err(Error::forbidden(
            "API tokens of people are made by who is logged in, not with an API token",
        ));
    }
    let name = check::name(&new.name)?;
    let scopes = scopes(actor, new.scopes.as_deref())?;
    if new.expires_at.is_some_and(|at| at <= tx.now()) {
        return Err(Error::invalid("/expires_at", "must be in the future"));
    }
    let latest = match new.made_with {
        Some(maker) => store::api_tokens::get(tx, maker).await?.expires_at,
        None => None,
    };
    if let (Some(latest), Some(wanted)) = (latest, new.expires_at)
        && wanted > latest
    {
        let detail =
            format!("must not be after {}, when the token expires that asks for it", latest.to_rfc3339());
        return Err(Error::invalid("/expires_at", detail));
    }
    let token = credentials::new_token(PREFIX);
    let clear = token.expose_secret();
    let row = NewApiToken {
        user,
        name: &name,
        hash: &credentials::hash_token(clear),
        prefix: &clear[..PREFIX.len() + 6],
        scopes: scopes.as_deref(),
        expires_at: new.expires_at.or(latest),
    };
    let id = store::api_tokens::insert(tx, &row).await?;
    let payload = json!({"api_token": id, "user": user, "scopes": scopes});
    events::record(tx, actor, "api_token.created", None, payload).await?;
    Ok((store::api_tokens::get(tx, id).await?, token))
}

/// The scopes of a new token as words, each once: those asked for, or those of the token that asks.
fn scopes(actor: &Actor, asked: Option<&[String]>) -> Result<Option<Vec<String>>> {
    let own =
        |permission: &Permission| actor.rights().is_none_or(|rights| !rights.is_beyond_limits(*permission));
    let Some(asked) = asked else {
        let is_limited = actor.rights().is_some_and(|rights| rights.limits.is_some());
        let all = Permission::ALL.iter().filter(|permission| own(permission));
        return Ok(is_limited.then(|| all.map(|permission| permission.as_str().to_owned()).collect()));
    };
    let (mut known, mut wrong) = (BTreeSet::new(), Vec::new());
    for (n, word) in asked.iter().enumerate() {
        match word.parse::<Permission>() {
            Ok(permission) if own(&permission) => drop(known.insert(permission.as_str().to_owned())),
            Ok(_) => wrong.push((n, "is beyond what the token allows that asks".to_owned())),
            Err(error) => wrong.push((n, error.to_string())),
        }
    }
    if asked.is_empty() {
        return Err(Error::invalid("/scopes", "must not be empty: leave it out for all that its user may"));
    }
    if wrong.is_empty() {
        return Ok(Some(known.into_iter().collect()));
    }
    let field = |(n, detail)| FieldError { pointer: format!("/scopes/{n}"), detail };
    Err(Error::Invalid(wrong.into_iter().map(field).collect()))
}

/// What a token is limited to. Words that this program does not know allow nothing.
pub fn limits(scopes: Option<&[String]>) -> Option<Limits> {
    scopes.map(|scopes| Limits::to(scopes.iter().filter_map(|word| word.parse().ok())))
}

/// One's own, or as admin anybody's. Others' tokens are "not found" to those who may not manage them.
pub async fn revoke(tx: &mut Tx, actor: &Actor, id: ApiTokenId) -> Result<()> {
    permission::check(actor, Permission::TokensOwn)?;
    let token = store::api_tokens::get(tx, id).await?;
    let own = actor.user_id() == Some(token.user);
    if !own && permission::check(actor, Permission::TokensManage).is_err() {
        return Err(Error::NotFound);
    }
    store::api_tokens::revoke(tx, id).await?;
    events::record(tx, actor, "api_token.revoked", None, json!({"api_token": id, "user": token.user}))
        .await?;
    Ok(())
}
