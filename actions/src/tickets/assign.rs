//! Who works on a ticket: a person, a team, or both.

use super::change::{self, Note};
use super::{people, see};
use crate::{Error, Result};
use domain::permission::{self, Permission};
use domain::ticket::Status;
use domain::{Actor, TeamId, TicketId, UserId};
use store::Tx;
use store::tickets::Ticket;

/// Outer `None`: leave as it is; `Some(None)`: nobody.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assignment {
    pub assignee: Option<Option<UserId>>,
    pub team: Option<Option<TeamId>>,
    /// Why, for history.
    pub reason: Option<String>,
}

/// A new ticket that gets an assignee is `assigned`; one that loses its assignee before work began is `new` again.
pub async fn assign(tx: &mut Tx, actor: &Actor, id: TicketId, assignment: Assignment) -> Result<Ticket> {
    permission::check(actor, Permission::TicketsAssign)?;
    if assignment.assignee.is_none() && assignment.team.is_none() {
        return Err(Error::invalid("", "name an assignee, a team, or both"));
    }
    let before = see::lock(tx, actor, Permission::TicketsAssign, id).await?;
    let mut after = before.clone();
    let away = set(tx, &mut after, &assignment, actor.user_id()).await?;
    let note = Note::default().because(assignment.reason.as_deref()).instead_of(away);
    change::apply(tx, actor, before, after, note).await
}

/// Takes a ticket from somebody who cannot work on it any more; its team keeps it. Not asked for by who sees the ticket, but a consequence:
/// no permission on the ticket is needed.
pub(crate) async fn release(tx: &mut Tx, actor: &Actor, id: TicketId, from: UserId, why: &str) -> Result<()> {
    let before = store::tickets::lock(tx, id).await?;
    if before.assignee != Some(from) || matches!(before.status, Status::Closed | Status::Cancelled) {
        return Ok(());
    }
    let mut after = before.clone();
    set(tx, &mut after, &Assignment { assignee: Some(None), ..Assignment::default() }, None).await?;
    change::apply(tx, actor, before, after, Note::default().because(Some(why))).await?;
    Ok(())
}

/// Sets the fields after checking them. Also for `update` and `escalate`. Who is away is stood in for, and told to the caller: not when they
/// take the ticket themselves (`by`), and not with a confidential ticket, which the substitute may not see.
pub(super) async fn set(
    tx: &mut Tx,
    ticket: &mut Ticket,
    assignment: &Assignment,
    by: Option<UserId>,
) -> Result<Option<UserId>> {
    let mut away = None;
    let (assignee, team) = (ticket.assignee, ticket.team);
    if let Some(team) = assignment.team {
        if let Some(team) = team {
            people::must_be_team(tx, team, "/team").await?;
        }
        ticket.team = team;
    }
    match assignment.assignee {
        Some(assignee) => {
            if let Some(user) = assignee {
                people::must_be_staff(tx, user, "/assignee").await?;
            }
            if let Some(user) = assignee
                && ticket.assignee != Some(user)
                && by != Some(user)
                && !ticket.is_confidential
                && let Some(substitute) = people::stand_in(tx, user).await?
            {
                away = Some(user);
                ticket.assignee = Some(substitute);
            } else {
                ticket.assignee = assignee;
            }
        }
        // Handed to another team, the ticket leaves a person who is not in it.
        None if ticket.team != team => {
            if let (Some(team), Some(user)) = (ticket.team, assignee)
                && !store::ticket_people::is_member(tx, team, user).await?
            {
                ticket.assignee = None;
            }
        }
        None => {}
    }
    if (ticket.assignee, ticket.team) == (assignee, team) {
        return Ok(None);
    }
    let moved = match (ticket.status, ticket.assignee) {
        (Status::Closed | Status::Cancelled, _) => Err(Error::conflict(format!(
            "a ticket that is {} cannot be assigned: reopen it, or open a new one",
            ticket.status
        ))),
        (Status::New, Some(_)) => change::move_to(ticket, Status::Assigned, tx.now()),
        (Status::Assigned | Status::InProgress, None) => change::move_to(ticket, Status::New, tx.now()),
        _ => Ok(()),
    };
    moved.map(|()| away)
}
