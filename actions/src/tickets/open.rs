//! A new ticket.

use super::change::{self, Note};
use super::people;
use crate::{Error, FieldError, Result};
use domain::permission::{self, Permission};
use domain::ticket::{Changes, Level, Source, Status, TicketKind, text};
use domain::{Actor, TeamId, TicketId, UserId, Who};
use serde_json::Value;
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
        }
    }
}

pub async fn open(tx: &mut Tx, actor: &Actor, new: NewTicket) -> Result<Ticket> {
    permission::check(actor, Permission::TicketsCreate)?;
    let (title, description, tags) = texts(actor, &new)?;
    let requester = requester(tx, actor, &new).await?;
    if new.assignee.is_some() || new.team.is_some() {
        permission::check(actor, Permission::TicketsAssign)?;
    }
    if let Some(assignee) = new.assignee {
        people::must_be_staff(tx, assignee, "/assignee").await?;
    }
    if let Some(team) = new.team {
        people::must_be_team(tx, team, "/team").await?;
    }
    for watcher in &new.watchers {
        people::must_exist(tx, *watcher, "/watchers").await?;
    }
    let priority = store::priority_matrix::get(tx).await?.priority(new.impact, new.urgency);
    let now = tx.now();
    let mut ticket = Ticket {
        id: TicketId::new(),
        kind: new.kind,
        number: String::new(),
        title,
        description,
        status: if new.assignee.is_some() { Status::Assigned } else { Status::New },
        impact: new.impact,
        urgency: new.urgency,
        priority,
        requester,
        assignee: new.assignee,
        team: new.team,
        source: new.source,
        resolution: None,
        first_responded_at: None,
        resolved_at: None,
        closed_at: None,
        reopened_count: 0,
        version: 1,
        created_by: actor.user_id(),
        created_at: now,
        updated_at: now,
    };
    let clocks = crate::sla::Opening::plan(tx, &ticket).await?;
    ticket.number = store::tickets::insert(tx, &ticket).await?;
    for tag in &tags {
        store::ticket_tags::add(tx, ticket.id, tag).await?;
    }
    for watcher in &new.watchers {
        store::ticket_watchers::add(tx, ticket.id, *watcher).await?;
    }
    let mut note = Note::action("opened");
    note.jobs = clocks.start(tx, &ticket).await?;
    note.changes = first_values(&ticket, &tags);
    note.payload.insert("description".into(), text::truncated(&ticket.description, 2000).into());
    note.payload.insert("tags".into(), tags.into());
    change::tell(tx, actor, &ticket, note).await?;
    Ok(ticket)
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
    if !tags.is_empty() {
        changes.add("tags", nothing, tags);
    }
    changes
}
