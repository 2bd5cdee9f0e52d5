//! How requests name people and things.

use crate::{ApiResult, Problem};
use actions::people::requester_for_email;
use domain::permission::{self, Permission};
use domain::{Actor, CiId, EmailAddress, TicketId, UserId};
use store::Tx;

/// By id or e-mail address; an address that is new becomes an end user, if the actor may open tickets for others.
pub async fn requester(tx: &mut Tx, actor: &Actor, text: Option<&str>) -> ApiResult<Option<UserId>> {
    let Some(text) = text else { return Ok(None) };
    if let Ok(id) = text.parse() {
        return Ok(Some(id));
    }
    // Before the address is looked up, so that nobody learns who has an account here.
    let email = address("/requester", text)?;
    if own(tx, actor, &email).await?.is_none() {
        permission::check(actor, Permission::TicketsCreateForOthers)?;
    }
    Ok(Some(requester_for_email(tx, actor, email.as_ref(), None).await?))
}

/// By id or e-mail address; must be there. `needed` is what the actor must be permitted to name somebody else, and is asked
/// before the look-up: else the answer would tell who has an account here.
pub async fn person(
    tx: &mut Tx,
    actor: &Actor,
    needed: Permission,
    pointer: &str,
    text: Option<&str>,
) -> ApiResult<Option<UserId>> {
    let Some(text) = text else { return Ok(None) };
    if let Ok(id) = text.parse() {
        if actor.user_id() != Some(id) {
            permission::check(actor, needed)?;
        }
        return Ok(Some(id));
    }
    let email = address(pointer, text)?;
    if let Some(own) = own(tx, actor, &email).await? {
        return Ok(Some(own));
    }
    permission::check(actor, needed)?;
    let user = store::users::find_by_email(tx, &email).await?;
    Ok(Some(user.ok_or_else(|| Problem::invalid(pointer, "there is no user with this address"))?.id))
}

/// The actor, if the address is theirs.
async fn own(tx: &mut Tx, actor: &Actor, email: &EmailAddress) -> ApiResult<Option<UserId>> {
    let Some(user) = actor.user_id() else { return Ok(None) };
    let known = store::users::get(tx, user).await?.email;
    Ok((known == email.as_ref()).then_some(user))
}

fn address(pointer: &str, text: &str) -> ApiResult<EmailAddress> {
    EmailAddress::parse(text)
        .map_err(|_| Problem::invalid(pointer, "must be a user's id or an e-mail address"))
}

/// Exactly these from now on.
pub async fn set_configuration_items(
    tx: &mut Tx,
    actor: &Actor,
    ticket: TicketId,
    items: &[CiId],
) -> ApiResult<()> {
    Ok(actions::tickets::set_configuration_items(tx, actor, ticket, items).await?)
}
