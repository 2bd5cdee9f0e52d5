//! An incident as the API shows it.

use super::sla::SlaView;
use crate::shape::{Named, Shape};
use crate::{ApiResult, Caller};
use actions::sla::TicketClocks;
use chrono::{DateTime, Utc};
use domain::ticket::text::truncated;
use domain::{TeamId, TicketId, UserId};
use serde::Serialize;
use std::collections::HashMap;
use store::Tx;
use store::ticket_beside::{self, Beside};
use store::ticket_list;
use store::tickets::Ticket;
use utoipa::ToSchema;
use uuid::Uuid;

#[derive(Serialize, ToSchema)]
pub struct IncidentView {
    id: Uuid,
    #[schema(example = "INC0000123")]
    number: String,
    title: String,
    /// Cut to 1,000 characters in lists.
    description: String,
    #[schema(example = "in_progress")]
    status: &'static str,
    /// Where it may go from here.
    allowed_statuses: Vec<&'static str>,
    impact: &'static str,
    urgency: &'static str,
    #[schema(example = "high")]
    priority: &'static str,
    requester: Option<Uuid>,
    requester_name: Option<String>,
    requester_email: Option<String>,
    assignee: Option<Uuid>,
    assignee_name: Option<String>,
    team: Option<Uuid>,
    team_name: Option<String>,
    #[schema(example = "email")]
    source: &'static str,
    tags: Vec<String>,
    /// Only who has a part in it sees it.
    confidential: bool,
    configuration_items: Vec<Uuid>,
    sla: SlaView,
    resolution: Option<String>,
    /// When staff first answered in public.
    first_responded_at: Option<DateTime<Utc>>,
    resolved_at: Option<DateTime<Utc>>,
    closed_at: Option<DateTime<Utc>>,
    reopened_count: i32,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// In lists, with `expand`: what ids above stand for.
    #[serde(skip_serializing_if = "Option::is_none")]
    expanded: Option<Expanded>,
}

pub const EXPANDABLE: [&str; 3] = ["requester", "assignee", "team"];

#[derive(Serialize, ToSchema)]
struct Expanded {
    #[serde(skip_serializing_if = "Option::is_none")]
    requester: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    assignee: Option<Named>,
    #[serde(skip_serializing_if = "Option::is_none")]
    team: Option<ExpandedTeam>,
}

#[derive(Serialize, ToSchema)]
struct ExpandedTeam {
    id: Uuid,
    name: String,
}

impl IncidentView {
    pub async fn of(tx: &mut Tx, ticket: Ticket) -> ApiResult<IncidentView> {
        let mut views = Views::gather(tx, std::slice::from_ref(&ticket), &Shape::default()).await?;
        Ok(views.whole(ticket, None))
    }
}

/// What many tickets at once need besides their rows.
pub struct Views {
    beside: Beside,
    clocks: HashMap<TicketId, TicketClocks>,
    expand: [bool; 3],
}

impl Views {
    /// What is not to be seen is not looked up.
    pub async fn gather(tx: &mut Tx, tickets: &[Ticket], shape: &Shape) -> ApiResult<Views> {
        let ids: Vec<TicketId> = tickets.iter().map(|ticket| ticket.id).collect();
        let of = |field: &str| if shape.wants(field) { ids.as_slice() } else { &[] };
        let (tags, items) = (shape.wants("tags"), shape.wants("configuration_items"));
        Ok(Views {
            beside: ticket_beside::of(tx, tickets, tags, items).await?,
            clocks: actions::sla::view(tx, of("sla")).await?,
            expand: EXPANDABLE.map(|field| shape.expands(field)),
        })
    }

    pub fn listed(&mut self, mut ticket: Ticket, caller: &Caller) -> IncidentView {
        ticket.description = truncated(&ticket.description, ticket_list::DESCRIPTION);
        let expanded = self.expanded(&ticket, caller);
        self.whole(ticket, expanded)
    }

    fn whole(&mut self, ticket: Ticket, expanded: Option<Expanded>) -> IncidentView {
        let person = |id: Option<UserId>| id.and_then(|id| self.beside.people.get(&id)).cloned();
        let requester = person(ticket.requester);
        IncidentView {
            id: ticket.id.0,
            number: ticket.number,
            title: ticket.title,
            description: ticket.description,
            status: ticket.status.as_str(),
            allowed_statuses: ticket.status.moves(ticket.kind).iter().map(|status| status.as_str()).collect(),
            impact: ticket.impact.as_str(),
            urgency: ticket.urgency.as_str(),
            priority: ticket.priority.as_str(),
            requester: ticket.requester.map(|id| id.0),
            requester_name: requester.as_ref().map(|person| person.name.clone()),
            requester_email: requester.map(|person| person.email),
            assignee: ticket.assignee.map(|id| id.0),
            assignee_name: person(ticket.assignee).map(|person| person.name),
            team: ticket.team.map(|id| id.0),
            team_name: ticket.team.and_then(|id| self.beside.teams.get(&id)).cloned(),
            source: ticket.source.as_str(),
            confidential: ticket.is_confidential,
            tags: self.beside.tags.remove(&ticket.id).unwrap_or_default(),
            configuration_items: self
                .beside
                .items
                .remove(&ticket.id)
                .unwrap_or_default()
                .into_iter()
                .map(|id| id.0)
                .collect(),
            sla: self.clocks.remove(&ticket.id).unwrap_or_default().into(),
            resolution: ticket.resolution,
            first_responded_at: ticket.first_responded_at,
            resolved_at: ticket.resolved_at,
            closed_at: ticket.closed_at,
            reopened_count: ticket.reopened_count,
            version: ticket.version,
            created_at: ticket.created_at,
            updated_at: ticket.updated_at,
            expanded,
        }
    }

    fn expanded(&self, ticket: &Ticket, caller: &Caller) -> Option<Expanded> {
        let [requester, assignee, team] = self.expand;
        let person = |wanted: bool, id: Option<UserId>| {
            let id = id.filter(|_| wanted)?;
            let person = self.beside.people.get(&id)?.clone();
            Some(Named::of(id, person, caller))
        };
        let named = |id: TeamId| Some(ExpandedTeam { id: id.0, name: self.beside.teams.get(&id)?.clone() });
        (requester || assignee || team).then(|| Expanded {
            requester: person(requester, ticket.requester),
            assignee: person(assignee, ticket.assignee),
            team: ticket.team.filter(|_| team).and_then(named),
        })
    }
}
