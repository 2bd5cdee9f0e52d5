//! An incident as the API shows it.

use super::sla::SlaView;
use crate::ApiResult;
use actions::sla::TicketClocks;
use chrono::{DateTime, Utc};
use domain::ticket::text::truncated;
use domain::{CiId, TeamId, TicketId, UserId};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use store::Tx;
use store::ticket_people::PersonName;
use store::tickets::Ticket;
use utoipa::ToSchema;
use uuid::Uuid;

/// Descriptions in lists are cut to this many characters.
const LISTED_DESCRIPTION: usize = 1000;

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
}

impl IncidentView {
    pub async fn of(tx: &mut Tx, ticket: Ticket) -> ApiResult<IncidentView> {
        let mut views = Views::gather(tx, std::slice::from_ref(&ticket)).await?;
        Ok(views.whole(ticket))
    }
}

/// What many tickets at once need besides their rows.
pub struct Views {
    people: HashMap<UserId, PersonName>,
    teams: HashMap<TeamId, String>,
    tags: HashMap<TicketId, Vec<String>>,
    items: HashMap<TicketId, Vec<CiId>>,
    clocks: HashMap<TicketId, TicketClocks>,
}

impl Views {
    pub async fn gather(tx: &mut Tx, tickets: &[Ticket]) -> ApiResult<Views> {
        let ids: Vec<TicketId> = tickets.iter().map(|ticket| ticket.id).collect();
        let people: HashSet<UserId> =
            tickets.iter().flat_map(|t| [t.requester, t.assignee]).flatten().collect();
        let teams: HashSet<TeamId> = tickets.iter().filter_map(|ticket| ticket.team).collect();
        Ok(Views {
            people: store::ticket_people::names(tx, &Vec::from_iter(people)).await?,
            teams: store::ticket_people::team_names(tx, &Vec::from_iter(teams)).await?,
            tags: store::ticket_tags::of_all(tx, &ids).await?,
            items: store::ticket_configuration_items::of_all(tx, &ids).await?,
            clocks: actions::sla::view(tx, &ids).await?,
        })
    }

    pub fn listed(&mut self, mut ticket: Ticket) -> IncidentView {
        ticket.description = truncated(&ticket.description, LISTED_DESCRIPTION);
        self.whole(ticket)
    }

    fn whole(&mut self, ticket: Ticket) -> IncidentView {
        let person = |id: Option<UserId>| id.and_then(|id| self.people.get(&id)).cloned();
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
            team_name: ticket.team.and_then(|id| self.teams.get(&id)).cloned(),
            source: ticket.source.as_str(),
            tags: self.tags.remove(&ticket.id).unwrap_or_default(),
            configuration_items: self
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
        }
    }
}
