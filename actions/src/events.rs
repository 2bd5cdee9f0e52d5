//! Recording facts: an `events` row and its `react` job for each, in the transaction of the change.

use crate::Result;
use crate::jobs::React;
use domain::{Actor, EventId, TicketId};
use queue::trace::TraceContext;
use serde_json::Value;
use store::Tx;

/// Something that happened.
#[derive(Debug)]
pub struct Fact {
    /// `incident.opened`, `sla.breached` …
    pub kind: String,
    pub ticket: Option<TicketId>,
    pub payload: Value,
    /// Further jobs that follow from the same change.
    pub jobs: Vec<queue::NewJob>,
    /// The trace it belongs to; `None`: that of the running task.
    pub trace: Option<TraceContext>,
}

impl Fact {
    /// Of no ticket, with no work but telling whom it concerns.
    pub fn new(kind: &str, payload: Value) -> Self {
        Fact { kind: kind.to_owned(), ticket: None, payload, jobs: Vec::new(), trace: None }
    }
}

pub async fn record(
    tx: &mut Tx,
    actor: &Actor,
    kind: &str,
    ticket: Option<TicketId>,
    payload: Value,
) -> Result<EventId> {
    let fact = Fact { ticket, ..Fact::new(kind, payload) };
    let ids = record_all(tx, actor, vec![fact]).await?;
    ids.first().copied().ok_or(crate::Error::NotFound)
}

/// One statement for all events, one for all jobs.
pub async fn record_all(tx: &mut Tx, actor: &Actor, facts: Vec<Fact>) -> Result<Vec<EventId>> {
    if facts.is_empty() {
        return Ok(Vec::new());
    }
    let (mut events, mut jobs) = (Vec::with_capacity(facts.len()), Vec::with_capacity(facts.len()));
    for fact in facts {
        let trace_parent = fact.trace.or_else(queue::trace::current).map(|context| context.to_string());
        let id = EventId::new();
        let react = queue::NewJob::of(&React { event: id });
        jobs.extend(fact.jobs.into_iter().chain([react]).map(|job| queue::NewJob {
            organization: job.organization.or(Some(actor.organization.0)),
            trace_parent: job.trace_parent.or_else(|| trace_parent.clone()),
            ..job
        }));
        events.push(store::events::NewEvent {
            id,
            kind: fact.kind,
            ticket: fact.ticket,
            actor_kind: actor.kind(),
            actor: actor.user_id(),
            payload: fact.payload,
            trace_parent,
        });
    }
    store::events::insert(tx, &events).await?;
    crate::enqueue(tx, &jobs).await?;
    Ok(events.into_iter().map(|event| event.id).collect())
}
