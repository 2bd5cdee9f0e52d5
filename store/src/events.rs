//! Facts: what happened, in the order in which it was recorded.

use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{EventId, OrganizationId, TicketId, UserId};
use serde_json::Value;
use std::collections::HashSet;
use uuid::Uuid;

#[derive(Debug)]
pub struct NewEvent {
    pub id: EventId,
    pub kind: String,
    pub ticket: Option<TicketId>,
    pub actor_kind: &'static str,
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
    /// About a ticket that was confidential then or is by now.
    pub is_confidential: bool,
}

struct Row {
    id: Uuid,
    seq: i64,
    kind: String,
    ticket_id: Option<Uuid>,
    actor_kind: String,
    actor_id: Option<Uuid>,
    payload: Value,
    created_at: DateTime<Utc>,
    is_confidential: bool,
}

impl From<Row> for Event {
    fn from(row: Row) -> Self {
        Event {
            id: row.id.into(),
            seq: row.seq,
            kind: row.kind,
            ticket: row.ticket_id.map(Into::into),
            actor_kind: row.actor_kind,
            actor: row.actor_id.map(Into::into),
            payload: row.payload,
            created_at: row.created_at,
            is_confidential: row.is_confidential,
        }
    }
}

/// New events, in one statement; their positions follow the order in which they are given.
pub async fn insert(tx: &mut Tx, events: &[NewEvent]) -> Result<()> {
    fn column<T>(events: &[NewEvent], value: impl Fn(&NewEvent) -> T) -> Vec<T> {
        events.iter().map(value).collect()
    }
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into events (id, organization_id, kind, ticket_id, actor_kind, actor_id, payload, trace_parent, created_at,
                             is_confidential)
         select u.id, $1, u.kind, u.ticket_id, u.actor_kind, u.actor_id, u.payload, u.trace_parent, $2,
                coalesce((select t.is_confidential from tickets t where t.id = u.ticket_id), false)
           from unnest((select $3::uuid[]), (select $4::text[]), (select $5::uuid[]), (select $6::text[]), (select $7::uuid[]),
                       (select $8::jsonb[]), (select $9::text[])) with ordinality
             as u(id, kind, ticket_id, actor_kind, actor_id, payload, trace_parent, place)
          order by u.place",
        organization.0,
        now,
        &column(events, |event| event.id.0),
        &column(events, |event| event.kind.clone()),
        &column(events, |event| event.ticket.map(|t| t.0)) as &[Option<Uuid>],
        &column(events, |event| event.actor_kind.to_owned()),
        &column(events, |event| event.actor.map(|a| a.0)) as &[Option<Uuid>],
        &column(events, |event| event.payload.clone()),
        &column(events, |event| event.trace_parent.clone()) as &[Option<String>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: EventId) -> Result<Event> {
    get_all(tx, &[id]).await?.pop().ok_or(Error::NotFound)
}

/// Those with these ids, in the order in which they were recorded; those that are gone are left out.
pub async fn get_all(tx: &mut Tx, ids: &[EventId]) -> Result<Vec<Event>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"select e.id, e.seq, e.kind, e.ticket_id, e.actor_kind, e.actor_id, e.payload, e.created_at,
                  e.is_confidential or coalesce(t.is_confidential, false) as "is_confidential!"
             from events e left join tickets t on t.id = e.ticket_id
            where e.id = any((select $1::uuid[])::uuid[]) order by e.seq"#,
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(Event::from).collect())
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
        "select id, seq, organization_id, kind, ticket_id, actor_kind, actor_id, payload, created_at, is_confidential
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
            is_confidential: row.is_confidential,
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
    let rows = sqlx::query_as!(
        Row,
        r#"select e.id, e.seq, e.kind, e.ticket_id, e.actor_kind, e.actor_id, e.payload, e.created_at,
                  e.is_confidential or coalesce(t.is_confidential, false) as "is_confidential!"
             from events e left join tickets t on t.id = e.ticket_id
            where e.seq > $1 and e.seq <= $2 order by e.seq limit $3"#,
        after,
        up_to,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(Event::from).collect())
}

/// The organization's own events of a time (the end exclusive), oldest first, after the place `(created_at, seq)` of one of them.
pub async fn within(
    tx: &mut Tx,
    (since, until): (DateTime<Utc>, DateTime<Utc>),
    after: (DateTime<Utc>, i64),
    limit: i64,
) -> Result<Vec<Event>> {
    let organization = tx.organization();
    let rows = sqlx::query_as!(
        Row,
        r#"select e.id, e.seq, e.kind, e.ticket_id, e.actor_kind, e.actor_id, e.payload, e.created_at,
                  e.is_confidential or coalesce(t.is_confidential, false) as "is_confidential!"
             from events e left join tickets t on t.id = e.ticket_id
            where e.organization_id = $1 and e.created_at >= $2 and e.created_at < $3 and (e.created_at, e.seq) > ($4, $5)
            order by e.created_at, e.seq limit $6"#,
        organization.0,
        since,
        until,
        after.0,
        after.1,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(Event::from).collect())
}

/// When the organization's own event at this position, or its last one before, was recorded.
pub async fn time_of(tx: &mut Tx, seq: i64) -> Result<Option<DateTime<Utc>>> {
    let time =
        sqlx::query_scalar!("select created_at from events where seq <= $1 order by seq desc limit 1", seq)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(time)
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
