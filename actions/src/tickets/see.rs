//! Who sees which ticket, and may do what with it. What one may not see is not there. The rule itself is `domain::permission`'s.

use crate::{Error, Result};
use domain::permission::{self, Decision, Permission, Standing, Why};
use domain::{Actor, TicketId, UserId};
use store::Tx;
use store::tickets::Ticket;

/// Whether the actor may do it to this ticket, and why. Asks the database only for what the ticket's own fields do not tell.
pub async fn decision(
    tx: &mut Tx,
    actor: &Actor,
    permission: Permission,
    ticket: &Ticket,
) -> Result<Decision> {
    let Some(rights) = actor.rights() else {
        return Ok(Decision { allowed: true, why: Why::System });
    };
    let Ticket { requester, assignee, team, is_confidential, .. } = *ticket;
    let known = Standing::by_fields(rights, requester, assignee, team, is_confidential);
    let decision = permission::decide(rights, permission, known);
    // A closer standing never allows less, and changes nothing for who does not have the permission at all.
    if decision.allowed || !matches!(decision.why, Why::OutOfScope(..) | Why::Confidential) {
        return Ok(decision);
    }
    let standing = store::reach::standing(tx, rights, ticket.id).await?;
    // The ticket as the caller has it: it may be a draft of what it becomes.
    Ok(permission::decide(rights, permission, Standing { is_confidential, ..standing }))
}

/// Refuses what the actor may not do to a ticket that they see.
pub async fn require(tx: &mut Tx, actor: &Actor, permission: Permission, ticket: &Ticket) -> Result<()> {
    Ok(decision(tx, actor, permission, ticket).await?.or_denied(permission)?)
}

/// Whether somebody who is not the actor would see it, by their rights as they are now.
pub async fn is_seen_by(tx: &mut Tx, user: UserId, ticket: &Ticket) -> Result<bool> {
    let Some(person) = store::rights::of(tx, user).await?.filter(|person| person.may_enter) else {
        return Ok(false);
    };
    let actor = Actor::user(tx.organization(), person.id, person.name, person.rights);
    Ok(decision(tx, &actor, Permission::TicketsView, ticket).await?.allowed)
}

/// Whether the actor reads the ticket's internal comments and what hangs on them.
pub async fn sees_internal(tx: &mut Tx, actor: &Actor, ticket: &Ticket) -> Result<bool> {
    Ok(decision(tx, actor, Permission::TicketsCommentInternal, ticket).await?.allowed)
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

/// Locks a ticket that the actor sees and may do this to.
pub(super) async fn lock(tx: &mut Tx, actor: &Actor, permission: Permission, id: TicketId) -> Result<Ticket> {
    let ticket = store::tickets::lock(tx, id).await?;
    let ticket = visible(tx, actor, ticket).await?;
    require(tx, actor, permission, &ticket).await?;
    Ok(ticket)
}

async fn visible(tx: &mut Tx, actor: &Actor, ticket: Ticket) -> Result<Ticket> {
    if decision(tx, actor, Permission::TicketsView, &ticket).await?.allowed {
        Ok(ticket)
    } else {
        Err(Error::NotFound)
    }
}
