//! Escalation: more pressing, or to people who can do more.

use super::assign::{self, Assignment};
use super::change::{self, Note};
use super::see;
use crate::{Error, Result};
use domain::permission::{self, Permission};
use domain::ticket::Priority;
use domain::{Actor, TeamId, TicketId, UserId};
use store::Tx;
use store::tickets::Ticket;

/// With nothing named but the reason, the priority is raised by one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Escalation {
    pub reason: String,
    pub priority: Option<Priority>,
    pub team: Option<TeamId>,
    pub assignee: Option<UserId>,
}

pub async fn escalate(tx: &mut Tx, actor: &Actor, id: TicketId, escalation: Escalation) -> Result<Ticket> {
    permission::check(actor, Permission::TicketsEscalate)?;
    if escalation.reason.trim().is_empty() {
        return Err(Error::invalid("/reason", "say why it is escalated"));
    }
    let before = see::lock(tx, actor, Permission::TicketsEscalate, id).await?;
    if !before.status.is_open() {
        return Err(Error::conflict(format!(
            "a ticket that is {} cannot be escalated: reopen it first",
            before.status
        )));
    }
    let mut after = before.clone();
    if let Some(priority) = raised(&before, &escalation)? {
        after.priority = priority;
    }
    let assignment =
        Assignment { assignee: escalation.assignee.map(Some), team: escalation.team.map(Some), reason: None };
    let away = assign::set(tx, &mut after, &assignment, actor.user_id()).await?;
    if after == before {
        return Err(Error::conflict(
            "the ticket is there already: name a higher priority, another team or assignee",
        ));
    }
    // Whom it calls and why is nothing for the requester.
    let note = Note::action("escalated").because(Some(&escalation.reason)).instead_of(away).internal();
    change::apply(tx, actor, before, after, note).await
}

fn raised(ticket: &Ticket, escalation: &Escalation) -> Result<Option<Priority>> {
    match escalation.priority {
        Some(wanted) if wanted.rank() > ticket.priority.rank() => Err(Error::invalid(
            "/priority",
            format!("an escalation cannot lower the priority: it is {}", ticket.priority),
        )),
        Some(wanted) => Ok(Some(wanted)),
        None if escalation.team.is_none() && escalation.assignee.is_none() => {
            if ticket.priority == Priority::Critical {
                return Err(Error::conflict(
                    "the priority is critical already: name a team or assignee to escalate to",
                ));
            }
            Ok(Some(ticket.priority.raised()))
        }
        None => Ok(None),
    }
}
