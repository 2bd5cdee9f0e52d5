//! Links between tickets.

use super::change::{self, Note};
use super::see;
use crate::{Error, Result};
use domain::permission::{self, Permission, Reach};
use domain::ticket::LinkKind;
use domain::{Actor, LinkId, TicketId};
use serde_json::{Value, json};
use store::Tx;

/// `None` when they are linked like this already.
pub async fn link(
    tx: &mut Tx,
    actor: &Actor,
    from: TicketId,
    kind: LinkKind,
    to: TicketId,
) -> Result<Option<LinkId>> {
    permission::check(actor, Permission::TicketsUpdate)?;
    if from == to {
        return Err(Error::invalid("/ticket", "a ticket cannot be linked to itself"));
    }
    lock_both(tx, from, to).await?;
    let ticket = see::see(tx, actor, from).await?;
    see::require(tx, actor, Permission::TicketsUpdate, &ticket).await?;
    see::see(tx, actor, to).await?;
    let contrary = store::ticket_links::list(tx, &Reach::Everything, from)
        .await?
        .into_iter()
        .find(|link| link.other == to && link.kind == kind && !link.outgoing);
    match contrary {
        Some(_) if kind == LinkKind::RelatesTo => return Ok(None),
        Some(link) => {
            return Err(Error::conflict(format!(
                "{} has this link to the ticket already",
                link.other_number
            )));
        }
        None => {}
    }
    let id = store::ticket_links::insert(tx, from, kind, to, actor.user_id()).await?;
    if id.is_some() {
        remember(tx, actor, (from, kind, to), true).await?;
    }
    Ok(id)
}

pub async fn unlink(tx: &mut Tx, actor: &Actor, ticket: TicketId, link: LinkId) -> Result<()> {
    permission::check(actor, Permission::TicketsUpdate)?;
    let ticket = see::see(tx, actor, ticket).await?;
    see::require(tx, actor, Permission::TicketsUpdate, &ticket).await?;
    let removed = store::ticket_links::remove(tx, ticket.id, link).await?;
    // A link to what one does not see is not there.
    see::see(tx, actor, if removed.0 == ticket.id { removed.2 } else { removed.0 }).await?;
    remember(tx, actor, removed, false).await
}

/// In the order of their ids, so that two people who link the same tickets do not wait for each other forever.
async fn lock_both(tx: &mut Tx, a: TicketId, b: TicketId) -> Result<()> {
    store::tickets::lock(tx, a.min(b)).await?;
    store::tickets::lock(tx, a.max(b)).await?;
    Ok(())
}

async fn remember(
    tx: &mut Tx,
    actor: &Actor,
    (from, kind, to): (TicketId, LinkKind, TicketId),
    is_new: bool,
) -> Result<()> {
    let pair = store::tickets::get_all(tx, &[from, to]).await?;
    for ticket in &pair {
        let Some(other) = pair.iter().find(|other| other.id != ticket.id) else {
            continue;
        };
        let link = json!({"kind": kind, "outgoing": ticket.id == from, "ticket": other.number});
        let (before, after) = if is_new { (Value::Null, link) } else { (link, Value::Null) };
        let action = if is_new { "linked" } else { "unlinked" };
        // The other ticket may be somebody else's; who may see it finds it among the links.
        let note = Note::one(action, "links", &before, &after).internal();
        change::remember(tx, actor, ticket, &note).await?;
    }
    Ok(())
}
