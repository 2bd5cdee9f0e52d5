//! How requests name people and things.

use crate::{ApiResult, Problem};
use actions::people::requester_for_email;
use domain::permission::{self, Permission};
use domain::{Actor, CiId, EmailAddress, TicketId, UserId};
use serde::{Deserialize, Deserializer};
use store::Tx;

/// Tells a field that is null from one that is left out.
pub fn nullable<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// By id or e-mail address; an address that is new becomes an end user, if the actor may open tickets for others.
pub async fn requester(tx: &mut Tx, actor: &Actor, text: Option<&str>) -> ApiResult<Option<UserId>> {
    let Some(text) = text else { return Ok(None) };
    if let Ok(id) = text.parse() {
        return Ok(Some(id));
    }
    // Before the address is looked up, so that nobody learns who has an account here.
    let email = address("/requester", text)?;
    let own = match actor.user_id() {
        Some(user) => store::users::get(tx, user).await?.email == email.as_ref(),
        None => false,
    };
    if !own {
        permission::check(actor, Permission::TicketsCreateForOthers)?;
    }
    Ok(Some(requester_for_email(tx, actor, email.as_ref(), None).await?))
}

/// By id or e-mail address; must be there.
pub async fn person(tx: &mut Tx, pointer: &str, text: Option<&str>) -> ApiResult<Option<UserId>> {
    let Some(text) = text else { return Ok(None) };
    if let Ok(id) = text.parse() {
        return Ok(Some(id));
    }
    let email = address(pointer, text)?;
    let user = store::users::find_by_email(tx, &email).await?;
    Ok(Some(user.ok_or_else(|| Problem::invalid(pointer, "there is no user with this address"))?.id))
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
