//! Reading what happened to a ticket, as far as the reader may know it.

use super::see;
use crate::Result;
use domain::Actor;
use store::Tx;
use store::listing::{Placed, Wanted};
use store::ticket_history::{self, Entry};
use store::tickets::Ticket;

/// That of a ticket which the actor may see.
///
/// End users get neither internal entries (notes, escalations, links to tickets that may be other people's) nor the reasons
/// that others gave: those are told to colleagues.
pub async fn history(
    tx: &mut Tx,
    actor: &Actor,
    ticket: &Ticket,
    wanted: &Wanted,
) -> Result<Vec<Placed<Entry>>> {
    let internal = see::sees_internal(tx, actor, ticket).await?;
    let mut entries = ticket_history::list(tx, ticket.id, internal, wanted).await?;
    if !internal {
        let of_others = |entry: &&mut Entry| entry.actor.is_none() || entry.actor != actor.user_id();
        for entry in entries.iter_mut().map(|row| &mut row.item).filter(of_others) {
            entry.changes.0.retain(|change| change.field != "reason");
        }
    }
    Ok(entries)
}
