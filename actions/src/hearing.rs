//! Who hears of which event, and how much: the one decision behind live streams and webhooks.
//!
//! Who sees all tickets hears of every event of the organization with its payload, but for those of confidential tickets that they do not see.
//! Everybody else hears of the tickets that they see: staff with the payload, others without (it may hold what is meant for staff) and not at
//! all of internal notes. Events of somebody's logins are for them and for admins.

use crate::{Result, tickets};
use domain::permission::{self, Permission, Scope};
use domain::{Actor, TicketId};
use serde_json::Value;
use store::Tx;
use store::events::Event;

/// How events of logins begin, which are not for all of the staff.
const OF_LOGINS: &str = "auth.";
/// What end users hear about.
const PUBLIC: [&str; 7] =
    ["opened", "assigned", "commented", "resolved", "closed", "reopened", "status_changed"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// With payload and actor.
    Whole,
    /// That it happened, and to which ticket.
    Outline,
    Nothing,
}

/// As far as it can be told without the database, which is so for most events and most of the staff.
pub fn without_looking(actor: &Actor, event: &Event) -> Option<Heard> {
    let Some(rights) = actor.rights() else { return Some(Heard::Whole) };
    if event.kind.starts_with(OF_LOGINS)
        && event.payload["user"] != rights.user.to_string()
        && permission::check(actor, Permission::PeopleManage).is_err()
    {
        return Some(Heard::Nothing);
    }
    let is_wide = permission::reach(actor).is_organization_wide();
    if !event.is_confidential
        && is_wide
        && rights.scope(Permission::TicketsCommentInternal) == Some(Scope::Organization)
    {
        return Some(Heard::Whole);
    }
    match event.ticket {
        Some(_) => None,
        None if is_wide => Some(Heard::Whole),
        None => Some(Heard::Nothing),
    }
}

pub async fn of(tx: &mut Tx, actor: &Actor, event: &Event) -> Result<Heard> {
    match (without_looking(actor, event), event.ticket) {
        (Some(heard), _) => Ok(heard),
        (None, Some(ticket)) => of_ticket(tx, actor, event, ticket).await,
        (None, None) => Ok(Heard::Nothing),
    }
}

async fn of_ticket(tx: &mut Tx, actor: &Actor, event: &Event, ticket: TicketId) -> Result<Heard> {
    let ticket = match tickets::see(tx, actor, ticket).await {
        Ok(ticket) => ticket,
        Err(crate::Error::NotFound) => return Ok(Heard::Nothing),
        Err(error) => return Err(error),
    };
    Ok(if tickets::sees_internal(tx, actor, &ticket).await? {
        Heard::Whole
    } else if is_public(event) {
        Heard::Outline
    } else {
        Heard::Nothing
    })
}

fn is_public(event: &Event) -> bool {
    let verb = event.kind.split_once('.').map_or("", |(_, verb)| verb);
    let comment = event.payload.get("comment");
    PUBLIC.contains(&verb)
        && comment.is_none_or(|comment| comment.get("visibility").and_then(Value::as_str) == Some("public"))
        && (verb != "commented" || comment.is_some())
}
