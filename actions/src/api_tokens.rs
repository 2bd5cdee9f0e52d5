//! API tokens: made (and shown once), revoked.

use crate::{Error, Result, check, credentials, events};
use chrono::{DateTime, Utc};
use domain::{Actor, ApiTokenId, Permission, UserId, permission};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use store::Tx;
use store::api_tokens::{ApiToken, NewApiToken};

/// What every API token begins with.
pub const PREFIX: &str = "rd_";

/// For `user`: oneself, or (for administration, as the system) anybody. The token itself is in the answer and nowhere else.
///
/// `made_with` is the API token with which it is asked for, if it was one: what is made with a token that expires does not
/// outlive it, else whoever got hold of one for an hour would have one for ever.
pub async fn create(
    tx: &mut Tx,
    actor: &Actor,
    user: UserId,
    name: &str,
    expires_at: Option<DateTime<Utc>>,
    made_with: Option<ApiTokenId>,
) -> Result<(ApiToken, SecretString)> {
    permission::check(actor, Permission::TokensOwn)?;
    if actor.user_id().is_some_and(|id| id != user) {
        return Err(Error::forbidden("a token can be made for oneself only"));
    }
    let name = check::name(name)?;
    if expires_at.is_some_and(|at| at <= tx.now()) {
        return Err(Error::invalid("/expires_at", "must be in the future"));
    }
    let latest = match made_with {
        Some(maker) => store::api_tokens::get(tx, maker).await?.expires_at,
        None => None,
    };
    if let (Some(latest), Some(wanted)) = (latest, expires_at)
        && wanted > latest
    {
        let detail =
            format!("must not be after {}, when the token expires that asks for it", latest.to_rfc3339());
        return Err(Error::invalid("/expires_at", detail));
    }
    let expires_at = expires_at.or(latest);
    store::users::get(tx, user).await?;
    let token = credentials::new_token(PREFIX);
    let clear = token.expose_secret();
    let new = NewApiToken {
        user,
        name: &name,
        hash: &credentials::hash_token(clear),
        prefix: &clear[..PREFIX.len() + 6],
        expires_at,
    };
    let id = store::api_tokens::insert(tx, &new).await?;
    events::record(tx, actor, "api_token.created", None, json!({"api_token": id, "user": user})).await?;
    Ok((store::api_tokens::get(tx, id).await?, token))
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
