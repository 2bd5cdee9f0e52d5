//! Facts: what happened, in the order in which it was recorded.

use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{EventId, TicketId, UserId};
use serde_json::Value;

#[derive(Debug)]
pub struct NewEvent<'a> {
    pub id: EventId,
    pub kind: &'a str,
    pub ticket: Option<TicketId>,
    pub actor_kind: &'a str,
    pub actor: Option<UserId>,
    pub payload: Value,
    pub trace_parent: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub id: EventId,
    pub seq: i64,
    pub kind: String,
    pub ticket: Option<TicketId>,
    pub actor_kind: String,
    pub actor: Option<UserId>,
    pub payload: Value,
    pub created_at: DateTime<Utc>,
}

pub async fn insert(tx: &mut Tx, event: &NewEvent<'_>) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into events (id, organization_id, kind, ticket_id, actor_kind, actor_id, payload, trace_parent, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        event.id.0,
        organization.0,
        event.kind,
        event.ticket.map(|t| t.0),
        event.actor_kind,
        event.actor.map(|a| a.0),
        event.payload,
        event.trace_parent,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: EventId) -> Result<Event> {
    let row = sqlx::query!(
        "select id, seq, kind, ticket_id, actor_kind, actor_id, payload, created_at from events where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?;
    Ok(Event {
        id: row.id.into(),
        seq: row.seq,
        kind: row.kind,
        ticket: row.ticket_id.map(Into::into),
        actor_kind: row.actor_kind,
        actor: row.actor_id.map(Into::into),
        payload: row.payload,
        created_at: row.created_at,
    })
}
