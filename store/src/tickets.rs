//! Tickets of every kind.

use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::ticket::{Level, Priority, Source, Status, TicketKind, TicketNumber};
use domain::{TeamId, TicketId, UserId};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
pub struct Ticket {
    pub id: TicketId,
    pub kind: TicketKind,
    pub number: String,
    pub title: String,
    pub description: String,
    pub status: Status,
    pub impact: Level,
    pub urgency: Level,
    pub priority: Priority,
    pub requester: Option<UserId>,
    pub assignee: Option<UserId>,
    pub team: Option<TeamId>,
    pub source: Source,
    pub resolution: Option<String>,
    /// When staff first answered in public.
    pub first_responded_at: Option<DateTime<Utc>>,
    pub resolved_at: Option<DateTime<Utc>>,
    pub closed_at: Option<DateTime<Utc>>,
    pub reopened_count: i32,
    /// Counts changes; the ETag.
    pub version: i64,
    pub created_by: Option<UserId>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    kind: String,
    number: String,
    title: String,
    description: String,
    status: String,
    impact: String,
    urgency: String,
    priority: String,
    requester_id: Option<Uuid>,
    assignee_id: Option<Uuid>,
    team_id: Option<Uuid>,
    source: String,
    resolution: Option<String>,
    first_responded_at: Option<DateTime<Utc>>,
    resolved_at: Option<DateTime<Utc>>,
    closed_at: Option<DateTime<Utc>>,
    reopened_count: i32,
    version: i64,
    created_by: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Ticket {
    type Error = Error;
    fn try_from(row: Row) -> Result<Ticket> {
        Ok(Ticket {
            id: row.id.into(),
            kind: word(&row.kind)?,
            number: row.number,
            title: row.title,
            description: row.description,
            status: word(&row.status)?,
            impact: word(&row.impact)?,
            urgency: word(&row.urgency)?,
            priority: word(&row.priority)?,
            requester: row.requester_id.map(Into::into),
            assignee: row.assignee_id.map(Into::into),
            team: row.team_id.map(Into::into),
            source: word(&row.source)?,
            resolution: row.resolution,
            first_responded_at: row.first_responded_at,
            resolved_at: row.resolved_at,
            closed_at: row.closed_at,
            reopened_count: row.reopened_count,
            version: row.version,
            created_by: row.created_by.map(Into::into),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

macro_rules! select {
    ($tail:literal, $($argument:expr),+) => {
        sqlx::query_as!(
            Row,
            "select id, kind, number, title, description, status, impact, urgency, priority, requester_id, assignee_id,
                    team_id, source, resolution, first_responded_at, resolved_at, closed_at, reopened_count, version,
                    created_by, created_at, updated_at from tickets " + $tail,
            $($argument),+
        )
    };
}

pub async fn get(tx: &mut Tx, id: TicketId) -> Result<Ticket> {
    select!("where id = $1", id.0).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound)?.try_into()
}

pub async fn by_number(tx: &mut Tx, number: TicketNumber) -> Result<Ticket> {
    let number = number.to_string();
    select!("where number = $1", number).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound)?.try_into()
}

/// The ticket that a path names, by id or by number.
pub async fn find(tx: &mut Tx, id_or_number: &str) -> Result<Ticket> {
    if let Ok(id) = id_or_number.parse::<TicketId>() {
        get(tx, id).await
    } else if let Ok(number) = id_or_number.parse::<TicketNumber>() {
        by_number(tx, number).await
    } else {
        Err(Error::NotFound)
    }
}

/// Reads the ticket and keeps others from changing it until the transaction ends.
pub async fn lock(tx: &mut Tx, id: TicketId) -> Result<Ticket> {
    select!("where id = $1 for no key update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?
        .try_into()
}

/// The tickets with these ids, in no particular order; those that do not exist are left out.
pub async fn get_all(tx: &mut Tx, ids: &[TicketId]) -> Result<Vec<Ticket>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    select!("where id = any($1)", &ids)
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(Ticket::try_from)
        .collect()
}

/// Stores a new ticket under the next number of its kind; `ticket.number` is ignored and the number returned.
///
/// The counter's row stays locked until the transaction ends, which keeps numbers without gaps: so this comes as late
/// as possible, after all reading and checking.
pub async fn insert(tx: &mut Tx, ticket: &Ticket) -> Result<String> {
    let organization = tx.organization();
    let number = sqlx::query_scalar!(
        "with counter as (
             insert into ticket_counters (organization_id, kind, last) values ($2, $3, 1)
             on conflict on constraint ticket_counters_pkey do update set last = ticket_counters.last + 1
             returning last)
         insert into tickets (id, organization_id, kind, number, title, description, status, impact, urgency, priority,
                              requester_id, assignee_id, team_id, source, created_by, created_at, updated_at)
         select $1, $2, $3, $4 || lpad(last::text, greatest(7, length(last::text)), '0'),
                $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17 from counter
         returning number",
        ticket.id.0,
        organization.0,
        ticket.kind.as_str(),
        ticket.kind.prefix(),
        ticket.title,
        ticket.description,
        ticket.status.as_str(),
        ticket.impact.as_str(),
        ticket.urgency.as_str(),
        ticket.priority.as_str(),
        ticket.requester.map(|u| u.0),
        ticket.assignee.map(|u| u.0),
        ticket.team.map(|t| t.0),
        ticket.source.as_str(),
        ticket.created_by.map(|u| u.0),
        ticket.created_at,
        ticket.updated_at,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(number)
}

/// Writes what is different in `after`, provided that the row still has the version of `before`, and counts the
/// version up. [`Error::Stale`] otherwise.
pub async fn update(tx: &mut Tx, before: &Ticket, after: &Ticket) -> Result<i64> {
    let version = sqlx::query_scalar!(
        "update tickets
            set status = $3, impact = $4, urgency = $5, priority = $6, requester_id = $7, assignee_id = $8, team_id = $9,
                resolution = $10, first_responded_at = $11, resolved_at = $12, closed_at = $13, reopened_count = $14,
                updated_at = $15, version = version + 1
          where id = $1 and version = $2 returning version",
        before.id.0,
        before.version,
        after.status.as_str(),
        after.impact.as_str(),
        after.urgency.as_str(),
        after.priority.as_str(),
        after.requester.map(|u| u.0),
        after.assignee.map(|u| u.0),
        after.team.map(|t| t.0),
        after.resolution,
        after.first_responded_at,
        after.resolved_at,
        after.closed_at,
        after.reopened_count,
        after.updated_at,
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::Stale)?;
    if before.title != after.title || before.description != after.description {
        // Apart, because writing these columns computes the search vector anew.
        sqlx::query!(
            "update tickets set title = $2, description = $3 where id = $1",
            before.id.0,
            after.title,
            after.description
        )
        .execute(&mut **tx)
        .await?;
    }
    Ok(version)
}

/// Notes that something beside the row changed. `counts`: it is part of what the ETag stands for, as tags are.
pub async fn touch(tx: &mut Tx, id: TicketId, counts: bool) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update tickets set updated_at = greatest(updated_at, $2), version = version + $3 where id = $1",
        id.0,
        now,
        i64::from(counts)
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether the person requested the ticket or watches it: what an end user may see.
pub async fn is_participant(tx: &mut Tx, id: TicketId, user: UserId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select (exists (select from tickets where id = $1 and requester_id = $2)
                or exists (select from ticket_watchers where ticket_id = $1 and user_id = $2)) as "found!""#,
        id.0,
        user.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}
