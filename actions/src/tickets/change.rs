//! The common second half of every verb that changes a ticket: row, history, event, clocks.

use super::people;
use crate::{Result, events};
use domain::ticket::text::truncated;
use domain::ticket::{Changes, Status};
use domain::{Actor, UserId};
use queue::trace::TraceContext;
use serde::Serialize;
use serde_json::{Map, Value, json};
use store::Tx;
use store::ticket_history::NewEntry;
use store::tickets::Ticket;

/// What a verb wants said beside the changed fields.
#[derive(Debug, Default)]
pub(super) struct Note {
    /// The verb, when the changed fields alone do not tell it: `escalated`.
    pub action: Option<&'static str>,
    /// Changes that are not columns of the ticket: `reason`, `tags`.
    pub changes: Changes,
    /// More for the event's payload.
    pub payload: Map<String, Value>,
    /// In history for staff only: internal comments, escalations, links.
    pub is_internal: bool,
    /// Further jobs that follow from it.
    pub jobs: Vec<queue::NewJob>,
    /// The trace it belongs to; `None`: that of the running task.
    pub trace: Option<TraceContext>,
}

impl Note {
    pub fn action(action: &'static str) -> Self {
        Note { action: Some(action), ..Note::default() }
    }

    /// One change of something that is not a column of the ticket.
    pub fn one<A: Serialize + ?Sized, B: Serialize + ?Sized>(
        action: &'static str,
        field: &str,
        from: &A,
        to: &B,
    ) -> Self {
        let mut note = Note::action(action);
        note.changes.add(field, from, to);
        note
    }

    pub fn internal(self) -> Self {
        Note { is_internal: true, ..self }
    }

    /// Says who is away and for whom the assignee stands in.
    pub fn instead_of(mut self, user: Option<UserId>) -> Self {
        if let Some(user) = user {
            self.changes.add("instead_of", &Value::Null, &user);
            self.payload.insert("instead_of".into(), json!({"user": user, "why": "out_of_office"}));
        }
        self
    }

    fn verb(&self) -> &'static str {
        self.action.unwrap_or("updated")
    }

    /// Says why in history and event, if a reason was given.
    pub fn because(mut self, reason: Option<&str>) -> Self {
        if let Some(reason) = reason.map(str::trim).filter(|reason| !reason.is_empty()) {
            self.changes.add("reason", &Value::Null, reason);
            self.payload.insert("reason".into(), reason.into());
        }
        self
    }
}

/// Writes the difference between `before` and `after`. When there is none and the note names no verb, nothing happens.
pub(super) async fn apply(
    tx: &mut Tx,
    actor: &Actor,
    mut before: Ticket,
    mut after: Ticket,
    note: Note,
) -> Result<Ticket> {
    if before.status.is_reopening(after.status) {
        before = take_from_the_gone(tx, before, &mut after).await?;
    }
    write(tx, actor, before, after, note).await
}

/// A ticket that comes back to work while its assignee or team has gone comes back to who is left: the team, or everybody's queue. That is a change
/// of its own, before the reopening, so that nobody who is gone is asked to act. Both rows hold until the transaction is over.
async fn take_from_the_gone(tx: &mut Tx, before: Ticket, after: &mut Ticket) -> Result<Ticket> {
    let (mut freed, mut why) = (before.clone(), Vec::new());
    if let Some(user) = before.assignee
        && let Some(reason) = people::gone(tx, user).await?
    {
        freed.assignee = None;
        why.push(reason);
        if after.assignee == Some(user) {
            after.assignee = None;
        }
    }
    if let Some(team) = before.team
        && !store::removals::has_team(tx, team).await?
    {
        freed.team = None;
        why.push("the team was deleted");
        if after.team == Some(team) {
            after.team = None;
        }
    }
    if why.is_empty() {
        return Ok(before);
    }
    if after.assignee.is_none() && matches!(after.status, Status::Assigned | Status::InProgress) {
        after.status = Status::New;
    }
    let by = Actor::system(tx.organization(), "reopen");
    let freed = write(tx, &by, before, freed, Note::default().because(Some(&why.join("; ")))).await?;
    after.version = freed.version;
    Ok(freed)
}

async fn write(tx: &mut Tx, actor: &Actor, before: Ticket, mut after: Ticket, note: Note) -> Result<Ticket> {
    let mut changes = difference(&before, &after);
    if changes.is_empty() && note.action.is_none() {
        return Ok(before);
    }
    after.updated_at = tx.now().max(before.updated_at);
    after.version = store::tickets::update(tx, &before, &after).await?;
    let action = note.action.unwrap_or_else(|| verb(&before, &after, &changes));
    changes.0.extend(note.changes.0);
    crate::sla::on_changed(tx, &before, &after).await?;
    tell(tx, actor, &after, Note { action: Some(action), changes, ..note }).await?;
    Ok(after)
}

/// History and event of something that happened to a ticket.
pub(super) async fn tell(tx: &mut Tx, actor: &Actor, ticket: &Ticket, note: Note) -> Result<()> {
    tell_all(tx, actor, vec![(ticket, note)]).await
}

/// History and events of several tickets, in a statement each.
pub(super) async fn tell_all(tx: &mut Tx, actor: &Actor, told: Vec<(&Ticket, Note)>) -> Result<()> {
    remember_all(tx, actor, told.iter().map(|(ticket, note)| (*ticket, note))).await?;
    let fact = |(ticket, note): (&Ticket, Note)| events::Fact {
        kind: format!("{}.{}", ticket.kind, note.verb()),
        ticket: Some(ticket.id),
        payload: payload(ticket, &note.changes, note.payload),
        jobs: note.jobs,
        trace: note.trace,
    };
    events::record_all(tx, actor, told.into_iter().map(fact).collect()).await?;
    Ok(())
}

/// History alone, for what nobody has to react to.
pub(super) async fn remember(tx: &mut Tx, actor: &Actor, ticket: &Ticket, note: &Note) -> Result<()> {
    remember_all(tx, actor, [(ticket, note)]).await
}

async fn remember_all(
    tx: &mut Tx,
    actor: &Actor,
    told: impl IntoIterator<Item = (&Ticket, &Note)>,
) -> Result<()> {
    let mut entries = Vec::new();
    for (ticket, note) in told {
        let trace = note.trace.or_else(queue::trace::current).map(|context| context.trace_id_hex());
        let action = note.verb();
        tracing::info!(
            ticket.id = %ticket.id, ticket.number = %ticket.number, action, actor = actor.label(), trace_id = trace, "ticket"
        );
        entries.push(NewEntry {
            ticket: ticket.id,
            action,
            changes: &note.changes,
            is_internal: note.is_internal,
            trace_id: trace,
        });
    }
    store::ticket_history::insert(tx, actor, &entries).await?;
    Ok(())
}

/// Moves a ticket along its table of moves and keeps the times that hang on it.
pub(super) fn move_to(ticket: &mut Ticket, to: Status, now: chrono::DateTime<chrono::Utc>) -> Result<()> {
    let from = ticket.status;
    if from == to {
        return Ok(());
    }
    from.check_move(ticket.kind, to).map_err(|error| crate::Error::conflict(error.to_string()))?;
    if from.is_reopening(to) {
        ticket.reopened_count += 1;
        (ticket.resolved_at, ticket.closed_at, ticket.resolution) = (None, None, None);
    }
    match to {
        Status::Resolved => ticket.resolved_at = Some(now),
        Status::Closed => ticket.closed_at = Some(now),
        _ => {}
    }
    ticket.status = to;
    Ok(())
}

/// Where an open ticket stands when nothing else is known of it.
pub(super) fn waiting_status(ticket: &Ticket) -> Status {
    if ticket.assignee.is_some() { Status::Assigned } else { Status::New }
}

/// The fields as the API names them.
fn difference(before: &Ticket, after: &Ticket) -> Changes {
    let mut changes = Changes::default();
    changes.note("title", &before.title, &after.title);
    changes.note("description", &before.description, &after.description);
    changes.note("status", &before.status, &after.status);
    changes.note("impact", &before.impact, &after.impact);
    changes.note("urgency", &before.urgency, &after.urgency);
    changes.note("priority", &before.priority, &after.priority);
    changes.note("requester", &before.requester, &after.requester);
    changes.note("assignee", &before.assignee, &after.assignee);
    changes.note("team", &before.team, &after.team);
    changes.note("resolution", &before.resolution, &after.resolution);
    changes.note("confidential", &before.is_confidential, &after.is_confidential);
    changes.note("first_responded_at", &before.first_responded_at, &after.first_responded_at);
    changes
}

fn verb(before: &Ticket, after: &Ticket, changes: &Changes) -> &'static str {
    if before.status != after.status {
        match after.status {
            Status::Resolved => return "resolved",
            Status::Closed => return "closed",
            to if before.status.is_reopening(to) => return "reopened",
            _ => {}
        }
    }
    if changes.has("assignee") || changes.has("team") {
        "assigned"
    } else if changes.has("status") {
        "status_changed"
    } else {
        "updated"
    }
}

/// What templates and rules read. Long texts are cut: the whole is in the rows.
fn payload(ticket: &Ticket, changes: &Changes, more: Map<String, Value>) -> Value {
    let short = |value: &Value| match value {
        Value::String(text) => Value::String(truncated(text, 500)),
        other => other.clone(),
    };
    let changes: Vec<Value> = changes
        .0
        .iter()
        .map(|change| json!({"field": change.field, "from": short(&change.from), "to": short(&change.to)}))
        .collect();
    let mut payload = json!({
        "number": ticket.number,
        "kind": ticket.kind,
        "title": ticket.title,
        "status": ticket.status,
        "priority": ticket.priority,
        "impact": ticket.impact,
        "urgency": ticket.urgency,
        "source": ticket.source,
        "requester": ticket.requester,
        "assignee": ticket.assignee,
        "team": ticket.team,
        "confidential": ticket.is_confidential,
        "resolution": ticket.resolution.as_deref().map(|text| truncated(text, 2000)),
        "changes": changes,
    });
    if let Value::Object(fields) = &mut payload {
        fields.extend(more);
    }
    payload
}
