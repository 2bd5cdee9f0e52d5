//! Tickets of every kind.

use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::ticket::{Level, Priority, Source, Status, TicketKind, TicketNumber};
use domain::{TeamId, TicketId, UserId};
use std::collections::HashMap;
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
    /// Only who has a part in it sees it: `domain::permission`.
    pub is_confidential: bool,
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
    is_confidential: bool,
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
            is_confidential: row.is_confidential,
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
                    team_id, source, resolution, first_responded_at, resolved_at, closed_at, reopened_count, is_confidential, version,
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
    select!("where id = any((select $1::uuid[])::uuid[])", &ids)
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(Ticket::try_from)
        .collect()
}

/// Stores new tickets under the next numbers of their kinds, in one statement; `number` is ignored, and the numbers are
/// answered in the order of the tickets.
///
/// The counters' rows stay locked until the transaction ends, which keeps numbers without gaps: so this comes as late
/// as possible, after all reading and checking; the statement itself works out the words for the search before. Who
/// waits stands in line at an advisory lock: at a row's lock each commit wakes all of them, for one to go on, and thirty
/// that wait take both cores with that.
pub async fn insert(tx: &mut Tx, tickets: &[Ticket]) -> Result<Vec<String>> {
    fn column<T>(tickets: &[Ticket], value: impl Fn(&Ticket) -> T) -> Vec<T> {
        tickets.iter().map(value).collect()
    }
    fn words(tickets: &[Ticket], value: impl Fn(&Ticket) -> &'static str) -> Vec<String> {
        column(tickets, |t| value(t).to_owned())
    }
    let organization = tx.organization();
    let rows = sqlx::query!(
        r#"with new as (
             select *, ticket_words(title, description) as words
               from unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
                                  $9::text[], $10::text[], $11::uuid[], $12::uuid[], $13::uuid[], $14::text[], $15::uuid[],
                                  $16::timestamptz[], $17::bool[]) with ordinality
                 as n(id, kind, prefix, title, description, status, impact, urgency, priority, requester_id, assignee_id,
                    team_id, source, created_by, created_at, is_confidential, place)),
         line as materialized (select pg_advisory_xact_lock(hashtextextended('ticket_counters ' || $1::uuid::text, 0))
                                    from (select count(*) from new) as worked_out),
         wanted as materialized (select n.kind, count(*) from new n cross join line group by n.kind order by n.kind),
         moved as (
             update ticket_counters c set last = c.last + w.count from wanted w
              where c.organization_id = $1 and c.kind = w.kind returning c.kind, c.last),
         begun as (
             insert into ticket_counters (organization_id, kind, last)
             select $1, kind, count from wanted where kind not in (select kind from moved)
             on conflict on constraint ticket_counters_pkey do update set last = ticket_counters.last + excluded.last
             returning kind, last),
         counter as (select * from moved union all select * from begun),
         numbered as (
             select n.*, (c.last - count(*) over (partition by n.kind)
                                 + row_number() over (partition by n.kind order by n.place))::text as figure
               from new n join counter c on c.kind = n.kind)
         insert into tickets (id, organization_id, kind, number, title, description, status, impact, urgency, priority,
                              requester_id, assignee_id, team_id, source, created_by, created_at, updated_at,
                              is_confidential, search)
         select id, $1, kind, prefix || lpad(figure, greatest(7, length(figure)), '0'), title, description, status, impact,
                urgency, priority, requester_id, assignee_id, team_id, source, created_by, created_at, created_at,
                is_confidential, setweight(to_tsvector('simple', prefix || lpad(figure, greatest(7, length(figure)), '0')), 'A') || words
           from numbered order by place
         returning id, number"#,
        organization.0,
        &column(tickets, |t| t.id.0),
        &words(tickets, |t| t.kind.as_str()),
        &words(tickets, |t| t.kind.prefix()),
        &column(tickets, |t| t.title.clone()),
        &column(tickets, |t| t.description.clone()),
        &words(tickets, |t| t.status.as_str()),
        &words(tickets, |t| t.impact.as_str()),
        &words(tickets, |t| t.urgency.as_str()),
        &words(tickets, |t| t.priority.as_str()),
        &column(tickets, |t| t.requester.map(|u| u.0)) as &[Option<Uuid>],
        &column(tickets, |t| t.assignee.map(|u| u.0)) as &[Option<Uuid>],
        &column(tickets, |t| t.team.map(|t| t.0)) as &[Option<Uuid>],
        &words(tickets, |t| t.source.as_str()),
        &column(tickets, |t| t.created_by.map(|u| u.0)) as &[Option<Uuid>],
        &column(tickets, |t| t.created_at),
        &column(tickets, |t| t.is_confidential),
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut numbers: HashMap<Uuid, String> = rows.into_iter().map(|row| (row.id, row.number)).collect();
    tickets.iter().map(|ticket| numbers.remove(&ticket.id.0).ok_or(Error::NotFound)).collect()
}

/// Writes what is different in `after`, provided that the row still has the version of `before`, and counts the
/// version up. [`Error::Stale`] otherwise.
pub async fn update(tx: &mut Tx, before: &Ticket, after: &Ticket) -> Result<i64> {
    let version = sqlx::query_scalar!(
        "update tickets
            set status = $3, impact = $4, urgency = $5, priority = $6, requester_id = $7, assignee_id = $8, team_id = $9,
                resolution = $10, first_responded_at = $11, resolved_at = $12, closed_at = $13, reopened_count = $14,
                updated_at = $15, is_confidential = $16, version = version + 1
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
        after.is_confidential,
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
