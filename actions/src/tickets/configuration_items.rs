//! What a ticket is about.

use super::change::{self, Note};
use super::see;
use crate::{Error, Result};
use domain::permission::{self, Permission};
use domain::{Actor, CiId, TicketId};
use store::Tx;
use store::tickets::Ticket;

/// Exactly these from now on. Staff only, also while opening.
pub async fn set_configuration_items(tx: &mut Tx, actor: &Actor, id: TicketId, items: &[CiId]) -> Result<()> {
    permission::check(actor, Permission::TicketsUpdate)?;
    let ticket = see::lock(tx, actor, Permission::TicketsUpdate, id).await?;
    let had = store::ticket_configuration_items::of_all(tx, &[id]).await?.remove(&id).unwrap_or_default();
    let gone: Vec<CiId> = had.iter().copied().filter(|item| !items.contains(item)).collect();
    let new: Vec<CiId> = items.iter().copied().filter(|item| !had.contains(item)).collect();
    if gone.is_empty() && new.is_empty() {
        return Ok(());
    }
    store::ticket_configuration_items::remove(tx, id, &gone).await?;
    add(tx, id, &new).await?;
    store::tickets::touch(tx, id, true).await?;
    tell(tx, actor, &ticket, Note::one("updated", "configuration_items", &had, items)).await
}

async fn add(tx: &mut Tx, id: TicketId, items: &[CiId]) -> Result<()> {
    store::ticket_configuration_items::add(tx, id, items).await.map_err(|error| match error.constraint() {
        Some("ticket_configuration_items_ci_fkey") => {
            Error::invalid("/configuration_items", "there is no such configuration item")
        }
        _ => error.into(),
    })
}

/// Told with the opening, when it happens in the same transaction.
async fn tell(tx: &mut Tx, actor: &Actor, ticket: &Ticket, note: Note) -> Result<()> {
    if ticket.created_at == tx.now() {
        change::remember(tx, actor, ticket, &note).await
    } else {
        change::tell(tx, actor, ticket, note).await
    }
}
