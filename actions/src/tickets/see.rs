//! Who sees which ticket. What one may not see is not there.

use crate::{Error, Result};
use domain::permission::{self, Permission};
use domain::{Actor, TicketId, UserId};
use store::Tx;
use store::tickets::Ticket;

/// The condition for lists: `Some` person when the actor sees only what that person requested or watches.
pub fn scope(actor: &Actor) -> Option<UserId> {
    if permission::sees_all_tickets(actor) { None } else { actor.user_id() }
}

/// Whether the actor reads internal comments and what hangs on them.
pub fn sees_internal(actor: &Actor) -> bool {
    permission::check(actor, Permission::TicketsCommentInternal).is_ok()
}

/// The ticket that a path names, by id or number.
pub async fn find(tx: &mut Tx, actor: &Actor, id_or_number: &str) -> Result<Ticket> {
    let ticket = store::tickets::find(tx, id_or_number).await?;
    visible(tx, actor, ticket).await
}

pub async fn see(tx: &mut Tx, actor: &Actor, id: TicketId) -> Result<Ticket> {
    let ticket = store::tickets::get(tx, id).await?;
    visible(tx, actor, ticket).await
}

/// Keeps everybody else from changing the ticket, and refuses when it is not at this version any more.
pub async fn expect_version(tx: &mut Tx, id: TicketId, version: i64) -> Result<()> {
    let ticket = store::tickets::lock(tx, id).await?;
    if ticket.version == version { Ok(()) } else { Err(Error::Stale) }
}

/// Locks a ticket that the actor may see.
pub(super) async fn lock(tx: &mut Tx, actor: &Actor, id: TicketId) -> Result<Ticket> {
    let ticket = store::tickets::lock(tx, id).await?;
    visible(tx, actor, ticket).await
}

async fn visible(tx: &mut Tx, actor: &Actor, ticket: Ticket) -> Result<Ticket> {
    match scope(actor) {
        None => Ok(ticket),
        Some(user) if ticket.requester == Some(user) => Ok(ticket),
        Some(user) if store::tickets::is_participant(tx, ticket.id, user).await? => Ok(ticket),
        Some(_) => Err(Error::NotFound),
    }
}
