//! Several fields at once.

use super::assign::{self, Assignment};
use super::change::{self, Note};
use super::{people, see, status};
use crate::{Error, Result};
use domain::permission::{self, Permission};
use domain::ticket::{Level, Priority, Status, text};
use domain::{Actor, TeamId, TicketId, UserId};
use store::Tx;
use store::tickets::Ticket;

/// `None`: leave as it is. Where a field can be empty, `Some(None)` empties it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TicketPatch {
    pub title: Option<String>,
    pub description: Option<String>,
    pub impact: Option<Level>,
    pub urgency: Option<Level>,
    /// With `impact` or `urgency`: the priority that follows from them must not be lower than this.
    pub priority_at_least: Option<Priority>,
    pub status: Option<Status>,
    pub resolution: Option<String>,
    pub requester: Option<Option<UserId>>,
    pub assignee: Option<Option<UserId>>,
    pub team: Option<Option<TeamId>>,
    pub is_confidential: Option<bool>,
}

/// Impact or urgency named anew computes the priority anew.
pub async fn update(tx: &mut Tx, actor: &Actor, id: TicketId, patch: TicketPatch) -> Result<Ticket> {
    permission::check(actor, Permission::TicketsUpdate)?;
    if let Some(to) = patch.status {
        permission::check(actor, status::needed(to))?;
    }
    let before = see::lock(tx, actor, Permission::TicketsUpdate, id).await?;
    if let Some(to) = patch.status {
        see::require(tx, actor, status::needed(to), &before).await?;
    }
    let mut after = before.clone();
    words(&mut after, &patch)?;
    if let Some(requester) = patch.requester {
        if let Some(user) = requester.filter(|_| requester != before.requester) {
            people::must_exist(tx, user, "/requester").await?;
        }
        after.requester = requester;
    }
    if let Some(confidential) = patch.is_confidential.filter(|wanted| *wanted != before.is_confidential) {
        see::require(tx, actor, Permission::TicketsSetConfidential, &before).await?;
        after.is_confidential = confidential;
    }
    if patch.impact.is_some() || patch.urgency.is_some() {
        after.impact = patch.impact.unwrap_or(after.impact);
        after.urgency = patch.urgency.unwrap_or(after.urgency);
        let priority = store::priority_matrix::get(tx).await?.priority(after.impact, after.urgency);
        after.priority = patch.priority_at_least.map_or(priority, |least| least.higher(priority));
    }
    let mut away = None;
    if patch.assignee.is_some() || patch.team.is_some() {
        see::require(tx, actor, Permission::TicketsAssign, &before).await?;
        let assignment = Assignment { assignee: patch.assignee, team: patch.team, reason: None };
        away = assign::set(tx, &mut after, &assignment, actor.user_id()).await?;
    }
    if let Some(to) = patch.status {
        // Judged from the status before: naming an assignee may have moved it already.
        if to != after.status {
            after.status = before.status;
            status::set(&mut after, to, tx.now())?;
        }
    }
    change::apply(tx, actor, before, after, Note::default().instead_of(away)).await
}

fn words(ticket: &mut Ticket, patch: &TicketPatch) -> Result<()> {
    if let Some(raw) = &patch.title {
        let title = text::title(raw);
        if title.is_empty() {
            return Err(Error::invalid("/title", "must not be empty"));
        }
        if raw.chars().count() > text::MAX_TITLE {
            return Err(Error::invalid(
                "/title",
                format!("must have at most {} characters", text::MAX_TITLE),
            ));
        }
        ticket.title = title;
    }
    if let Some(raw) = &patch.description {
        if raw.chars().count() > text::MAX_TEXT {
            let detail =
                format!("must have at most {} characters: attach the rest as a file", text::MAX_TEXT);
            return Err(Error::invalid("/description", detail));
        }
        ticket.description = text::body(raw);
    }
    if let Some(raw) = &patch.resolution {
        let resolution = status::clean_resolution(raw)?;
        if ticket.status.is_open() && patch.status != Some(Status::Resolved) {
            return Err(Error::invalid("/resolution", "an open ticket has no resolution: resolve it"));
        }
        ticket.resolution = Some(resolution);
    }
    Ok(())
}
