//! Moves through the life of a ticket.

use super::change::{self, Note};
use super::see;
use crate::{Error, Result};
use domain::permission::{self, Permission};
use domain::ticket::{Status, text};
use domain::{Actor, TicketId};
use store::Tx;
use store::tickets::Ticket;

/// Any allowed move. To `resolved` only with a resolution: use [`resolve`].
pub async fn set_status(
    tx: &mut Tx,
    actor: &Actor,
    id: TicketId,
    to: Status,
    reason: Option<&str>,
) -> Result<Ticket> {
    permission::check(actor, needed(to))?;
    let before = see::lock(tx, actor, needed(to), id).await?;
    let mut after = before.clone();
    set(&mut after, to, tx.now())?;
    change::apply(tx, actor, before, after, Note::default().because(reason)).await
}

pub async fn resolve(tx: &mut Tx, actor: &Actor, id: TicketId, resolution: &str) -> Result<Ticket> {
    permission::check(actor, Permission::TicketsResolve)?;
    let resolution = clean_resolution(resolution)?;
    let before = see::lock(tx, actor, Permission::TicketsResolve, id).await?;
    if before.status == Status::Resolved {
        return Err(Error::conflict("the ticket is resolved already"));
    }
    let mut after = before.clone();
    after.resolution = Some(resolution);
    change::move_to(&mut after, Status::Resolved, tx.now())?;
    change::apply(tx, actor, before, after, Note::default()).await
}

/// Only a resolved ticket can be closed.
pub async fn close(tx: &mut Tx, actor: &Actor, id: TicketId, reason: Option<&str>) -> Result<Ticket> {
    permission::check(actor, Permission::TicketsClose)?;
    let before = see::lock(tx, actor, Permission::TicketsClose, id).await?;
    if before.status == Status::Closed {
        return Err(Error::conflict("the ticket is closed already"));
    }
    if before.status.is_open() {
        return Err(Error::conflict(format!(
            "a ticket that is {} cannot be closed: resolve it first",
            before.status
        )));
    }
    let mut after = before.clone();
    change::move_to(&mut after, Status::Closed, tx.now())?;
    change::apply(tx, actor, before, after, Note::default().because(reason)).await
}

/// Back to work, with the same assignee if there is one and they can still work on it. Requesters may reopen what they requested.
pub async fn reopen(tx: &mut Tx, actor: &Actor, id: TicketId, reason: Option<&str>) -> Result<Ticket> {
    permission::check(actor, Permission::TicketsReopen)?;
    let before = see::lock(tx, actor, Permission::TicketsReopen, id).await?;
    if before.status.is_open() {
        return Err(Error::conflict(format!("the ticket is open already: it is {}", before.status)));
    }
    let mut after = before.clone();
    let to = change::waiting_status(&after);
    change::move_to(&mut after, to, tx.now())?;
    change::apply(tx, actor, before, after, Note::default().because(reason)).await
}

/// Withdrawn, a mistake, or never a case. Final.
pub async fn cancel(tx: &mut Tx, actor: &Actor, id: TicketId, reason: Option<&str>) -> Result<Ticket> {
    set_status(tx, actor, id, Status::Cancelled, reason).await
}

/// The permission that a move to this status needs.
pub(super) fn needed(to: Status) -> Permission {
    match to {
        Status::Resolved => Permission::TicketsResolve,
        Status::Closed => Permission::TicketsClose,
        _ => Permission::TicketsUpdate,
    }
}

pub(super) fn set(ticket: &mut Ticket, to: Status, now: chrono::DateTime<chrono::Utc>) -> Result<()> {
    if to == Status::Resolved && ticket.resolution.is_none() {
        return Err(Error::invalid("/resolution", "say how it was resolved"));
    }
    if to == Status::Assigned && ticket.assignee.is_none() {
        return Err(Error::invalid("/assignee", "a ticket is assigned by naming an assignee"));
    }
    change::move_to(ticket, to, now)
}

pub(super) fn clean_resolution(resolution: &str) -> Result<String> {
    let resolution = text::body(resolution).trim().to_owned();
    if !text::is_visible(&resolution) {
        return Err(Error::invalid("/resolution", "say how it was resolved"));
    }
    if resolution.chars().count() > text::MAX_TEXT {
        return Err(Error::invalid(
            "/resolution",
            format!("must have at most {} characters", text::MAX_TEXT),
        ));
    }
    Ok(resolution)
}
