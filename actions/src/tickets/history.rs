//! Reading what happened to a ticket, as far as the reader may know it.

use super::see;
use crate::Result;
use domain::{Actor, HistoryId};
use store::Tx;
use store::ticket_history::{self, Entry};
use store::tickets::Ticket;

/// Oldest first, from the entry after `after`. For a ticket that the actor may see.
///
/// End users get neither internal entries (notes, escalations, links to tickets that may be other people's) nor the reasons
/// that others gave: those are told to colleagues.
pub async fn history(
    tx: &mut Tx,
    actor: &Actor,
    ticket: &Ticket,
    after: Option<HistoryId>,
    limit: i64,
) -> Result<Vec<Entry>> {
    let internal = see::sees_internal(tx, actor, ticket).await?;
    let mut entries = ticket_history::list(tx, ticket.id, internal, after, limit).await?;
    if !internal {
        for entry in
            entries.iter_mut().filter(|entry| entry.actor.is_none() || entry.actor != actor.user_id())
        {
            entry.changes.0.retain(|change| change.field != "reason");
        }
    }
    Ok(entries)
}
