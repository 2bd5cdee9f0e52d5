//! A new ticket.

use super::change::{self, Note};
use super::{people, see};
use crate::{Error, FieldError, Result};
use domain::permission::{self, Permission};
use domain::ticket::{Changes, Level, Source, Status, TicketKind, text};
use domain::{Actor, TeamId, TicketId, UserId, Who};
use queue::trace::TraceContext;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use store::Tx;
use store::tickets::Ticket;

#[derive(Clone, Debug)]
pub struct NewTicket {
    pub kind: TicketKind,
    pub title: String,
    pub description: String,
    pub impact: Level,
    pub urgency: Level,
    /// Nobody named: the person who opens it, if it is a person.
    pub requester: Option<UserId>,
    pub assignee: Option<UserId>,
    pub team: Option<TeamId>,
    pub source: Source,
    pub tags: Vec<String>,
    pub watchers: Vec<UserId>,
    pub is_confidential: bool,
    /// The trace it belongs to; `None`: that of the running task.
    pub trace: Option<TraceContext>,
}

impl NewTicket {
    /// An incident of medium impact and urgency with nothing but a title.
    pub fn incident(title: impl Into<String>, source: Source) -> Self {
        NewTicket {
            kind: TicketKind::Incident,
            title: title.into(),
            description: String::new(),
            impact: Level::Medium,
            urgency: Level::Medium,
            requester: None,
            assignee: None,
            team: None,
            source,
            tags: Vec::new(),
            watchers: Vec::new(),
            is_confidential: false,
            trace: None,
        }
    }
}

pub async fn open(tx: &mut Tx, actor: &Actor, new: NewTicket) -> Result<Ticket> {
    open_all(tx, actor, vec![new]).await?.pop().ok_or(Error::NotFound)
}

/// Opens all or none, in as many statements as a single one takes.
pub async fn open_all(tx: &mut Tx, actor: &Actor, new: Vec<NewTicket>) -> Result<Vec<Ticket>> {
    permission::check(actor, Permission::TicketsCreate)?;
    let mut drafts = Vec::with_capacity(new.len());
    for new in &new {
        let (title, description, tags) = texts(actor, new)?;
        let requester = requester(tx, actor, new).await?;
        drafts.push((title, description, tags, requester));
    }
    let away = people_fit(tx, actor, &new).await?;
    let matrix = store::priority_matrix::get(tx).await?;
    let now = tx.now();
    let (mut tickets, mut tags) = (Vec::with_capacity(new.len()), Vec::with_capacity(new.len()));
    for (new, (title, description, own_tags, requester)) in new.iter().zip(drafts) {
        tags.push(own_tags);
        tickets.push(Ticket {
            id: TicketId::new(),
            kind: new.kind,
            number: String::new(),
            title,
            description,
            status: if new.assignee.is_some() { Status::Assigned } else { Status::New },
            impact: new.impact,
            urgency: new.urgency,
            priority: matrix.priority(new.impact, new.urgency),
            requester,
            // A substitute may not see what is confidential.
            assignee: match new.is_confidential {
                true => new.assignee,
                false => new.assignee.map(|user| away.get(&user).copied().unwrap_or(user)),
            },
            team: new.team,
            source: new.source,
            resolution: None,
            first_responded_at: None,
            resolved_at: None,
            closed_at: None,
            reopened_count: 0,
            is_confidential: new.is_confidential,
            version: 1,
            created_by: actor.user_id(),
            created_at: now,
            updated_at: now,
        });
    }
    for ticket in &tickets {
        if ticket.assignee.is_some() || ticket.team.is_some() {
            see::require(tx, actor, Permission::TicketsAssign, ticket).await?;
        }
        if ticket.is_confidential {
            see::require(tx, actor, Permission::TicketsSetConfidential, ticket).await?;
        }
    }
    let clocks = crate::sla::Opening::plan(tx, &tickets).await?;
    let numbers = store::tickets::insert(tx, &tickets).await?;
    for (ticket, number) in tickets.iter_mut().zip(numbers) {
        ticket.number = number;
    }
    let timers = clocks.start(tx, &tickets).await?;
    let mut told = Vec::with_capacity(tickets.len());
    for (((ticket, new), tags), jobs) in tickets.iter().zip(&new).zip(tags).zip(timers) {
        for tag in &tags {
            store::ticket_tags::add(tx, ticket.id, tag).await?;
        }
        for watcher in &new.watchers {
            store::ticket_watchers::add(tx, ticket.id, *watcher).await?;
        }
        let mut note = Note { jobs, trace: new.trace, ..Note::action("opened") };
        note.changes = first_values(ticket, &tags);
        note.payload.insert("description".into(), text::truncated(&ticket.description, 2000).into());
        note.payload.insert("tags".into(), tags.into());
        let note = note.instead_of(new.assignee.filter(|user| ticket.assignee != Some(*user)));
        told.push((ticket, note));
    }
    change::tell_all(tx, actor, told).await?;
    Ok(tickets)
}

/// The people and teams named exist and fit; each is looked up once. Answers who stands in for whom.
async fn people_fit(tx: &mut Tx, actor: &Actor, new: &[NewTicket]) -> Result<BTreeMap<UserId, UserId>> {
    let mut away = BTreeMap::new();
    if new.iter().any(|new| new.assignee.is_some() || new.team.is_some()) {
        permission::check(actor, Permission::TicketsAssign)?;
    }
    let assignees: BTreeSet<_> = new.iter().filter_map(|new| new.assignee).collect();
    for assignee in assignees {
        people::must_be_staff(tx, assignee, "/assignee").await?;
        if actor.user_id() != Some(assignee)
            && let Some(substitute) = people::stand_in(tx, assignee).await?
        {
            away.insert(assignee, substitute);
        }
    }
    let teams: BTreeSet<_> = new.iter().filter_map(|new| new.team).collect();
    for team in teams {
        people::must_be_team(tx, team, "/team").await?;
    }
    let watchers: BTreeSet<_> = new.iter().flat_map(|new| &new.watchers).collect();
    for watcher in watchers {
        people::must_exist(tx, *watcher, "/watchers").await?;
    }
    Ok(away)
}

/// A person is told what does not fit; what Relaydesk itself brings in (mail, alerts) is cut, for its raw form is kept.
fn texts(actor: &Actor, new: &NewTicket) -> Result<(String, String, Vec<String>)> {
    let is_person = matches!(actor.who, Who::User { .. });
    let mut wrong = Vec::new();
    let mut field =
        |pointer: &str, detail: String| wrong.push(FieldError { pointer: pointer.into(), detail });
    if !text::is_visible(&new.title) {
        field("/title", "must not be empty".into());
    } else if is_person && new.title.chars().count() > text::MAX_TITLE {
        field("/title", format!("must have at most {} characters", text::MAX_TITLE));
    }
    if is_person && new.description.chars().count() > text::MAX_TEXT {
        field(
            "/description",
            format!("must have at most {} characters: attach the rest as a file", text::MAX_TEXT),
        );
    }
    let mut tags = Vec::new();
    if is_person && new.tags.len() > text::MAX_TAGS {
        field("/tags", super::tags::TOO_MANY.into());
    }
    for (index, raw) in new.tags.iter().take(text::MAX_TAGS).enumerate() {
        match text::tag(raw) {
            Some(tag) if tags.contains(&tag) => {}
            Some(tag) => tags.push(tag),
            None => field(&format!("/tags/{index}"), super::tags::RULE.into()),
        }
    }
    if wrong.is_empty() {
        Ok((text::title(&new.title), text::truncated(&text::body(&new.description), text::MAX_TEXT), tags))
    } else {
        Err(Error::Invalid(wrong))
    }
}

/// End users open tickets for themselves; staff and Relaydesk for anybody.
async fn requester(tx: &mut Tx, actor: &Actor, new: &NewTicket) -> Result<Option<UserId>> {
    let own = match &actor.who {
        Who::User { id, .. } => Some(*id),
        Who::System { .. } => None,
    };
    let Some(requester) = new.requester else {
        return Ok(own);
    };
    if Some(requester) != own {
        permission::check(actor, Permission::TicketsCreateForOthers)?;
        people::must_exist(tx, requester, "/requester").await?;
    }
    Ok(Some(requester))
}

/// History begins with what the ticket was opened with.
fn first_values(ticket: &Ticket, tags: &[String]) -> Changes {
    let mut changes = Changes::default();
    let nothing = &Value::Null;
    changes.add("title", nothing, &ticket.title);
    changes.add("status", nothing, &ticket.status);
    changes.add("impact", nothing, &ticket.impact);
    changes.add("urgency", nothing, &ticket.urgency);
    changes.add("priority", nothing, &ticket.priority);
    changes.note("requester", &None, &ticket.requester);
    changes.note("assignee", &None, &ticket.assignee);
    changes.note("team", &None, &ticket.team);
    changes.note("confidential", &false, &ticket.is_confidential);
    if !tags.is_empty() {
        changes.add("tags", nothing, tags);
    }
    changes
}
