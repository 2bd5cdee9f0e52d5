//! Recording a fact: one `events` row and its `react` job, in the transaction of the change.

use crate::Result;
use crate::jobs::React;
use domain::{Actor, EventId, TicketId};
use serde_json::Value;
use store::Tx;

pub async fn record(
    tx: &mut Tx,
    actor: &Actor,
    kind: &str,
    ticket: Option<TicketId>,
    payload: Value,
) -> Result<EventId> {
    record_with(tx, actor, kind, ticket, payload, Vec::new()).await
}

/// Like [`record`], with further jobs that follow from the same change: one statement for all of them.
pub async fn record_with(
    tx: &mut Tx,
    actor: &Actor,
    kind: &str,
    ticket: Option<TicketId>,
    payload: Value,
    mut jobs: Vec<queue::NewJob>,
) -> Result<EventId> {
    let event = store::events::NewEvent {
        id: EventId::new(),
        kind,
        ticket,
        actor_kind: actor.kind(),
        actor: actor.user_id(),
        payload,
        trace_parent: queue::trace::current().map(|context| context.to_string()),
    };
    store::events::insert(tx, &event).await?;
    jobs.push(queue::NewJob::of(&React { event: event.id }).organization(actor.organization));
    queue::enqueue(tx, &jobs).await?;
    Ok(event.id)
}
