//! Facts: what happened, in the order in which it was recorded.

use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{EventId, OrganizationId, TicketId, UserId};
use serde_json::Value;
use std::collections::HashSet;

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

/// An event with what the live stream must know to order and address it.
#[derive(Clone, Debug)]
pub struct Recorded {
    pub event: Event,
    pub organization: OrganizationId,
}

/// Events of all organizations after a position, oldest first: needs a system transaction.
pub async fn after(tx: &mut Tx, seq: i64, limit: i64) -> Result<Vec<Recorded>> {
    let rows = sqlx::query!(
        "select id, seq, organization_id, kind, ticket_id, actor_kind, actor_id, payload, created_at
         from events where seq > $1 order by seq limit $2",
        seq,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    let recorded = rows.into_iter().map(|row| Recorded {
        event: Event {
            id: row.id.into(),
            seq: row.seq,
            kind: row.kind,
            ticket: row.ticket_id.map(Into::into),
            actor_kind: row.actor_kind,
            actor: row.actor_id.map(Into::into),
            payload: row.payload,
            created_at: row.created_at,
        },
        organization: row.organization_id.into(),
    });
    Ok(recorded.collect())
}

/// The open transactions that have recorded an event, by PostgreSQL's name for them. Each holds its lock on the table from before
/// it takes a position until its rows are visible (or it is rolled back).
pub async fn writers(tx: &mut Tx) -> Result<HashSet<String>> {
    let writers = sqlx::query_scalar!(
        r#"select distinct virtualtransaction as "writer!" from pg_locks
           where locktype = 'relation' and relation = 'events'::regclass and mode = 'RowExclusiveLock'
             and database = (select oid from pg_database where datname = current_database())"#
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(writers.into_iter().collect())
}

/// The organization's own events between two positions (the first exclusive, the second inclusive), oldest first.
pub async fn between(tx: &mut Tx, after: i64, up_to: i64, limit: i64) -> Result<Vec<Event>> {
    let rows = sqlx::query!(
        "select id, seq, kind, ticket_id, actor_kind, actor_id, payload, created_at from events
         where seq > $1 and seq <= $2 order by seq limit $3",
        after,
        up_to,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    let events = rows.into_iter().map(|row| Event {
        id: row.id.into(),
        seq: row.seq,
        kind: row.kind,
        ticket: row.ticket_id.map(Into::into),
        actor_kind: row.actor_kind,
        actor: row.actor_id.map(Into::into),
        payload: row.payload,
        created_at: row.created_at,
    });
    Ok(events.collect())
}

/// Where a stream that begins now begins: before everything of the last ten seconds, in which transactions may still be
/// open that took a lower position than one already seen. Needs a system transaction.
pub async fn beginning(tx: &mut Tx) -> Result<i64> {
    let recent = tx.now() - chrono::TimeDelta::seconds(10);
    let rows = sqlx::query!("select seq, created_at from events order by seq desc limit 500")
        .fetch_all(&mut **tx)
        .await?;
    let settled = rows.iter().find(|row| row.created_at < recent).or(rows.last());
    Ok(settled.map_or(0, |row| row.seq))
}
