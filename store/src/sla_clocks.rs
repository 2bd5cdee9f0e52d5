//! SLA clocks: `domain::sla::Clock` as rows. Lock the ticket before its clocks.

use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, TimeDelta, Utc};
use domain::sla::{Clock, Goal, Phase};
use domain::{CalendarId, OrganizationId, SlaClockId, SlaPolicyId, TicketId};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
pub struct StoredClock {
    pub id: SlaClockId,
    pub ticket: TicketId,
    pub policy: Option<SlaPolicyId>,
    /// `None`: round the clock.
    pub calendar: Option<CalendarId>,
    pub clock: Clock,
}

struct Row {
    id: Uuid,
    ticket_id: Uuid,
    metric: String,
    policy_id: Option<Uuid>,
    calendar_id: Option<Uuid>,
    target_us: Option<i64>,
    warn_percent: Option<i16>,
    phase: String,
    phase_since: Option<DateTime<Utc>>,
    started_at: DateTime<Utc>,
    elapsed_us: i64,
    warn_at: Option<DateTime<Utc>>,
    due_at: Option<DateTime<Utc>>,
    warned_at: Option<DateTime<Utc>>,
    breached_at: Option<DateTime<Utc>>,
    generation: i32,
    armed_at: DateTime<Utc>,
}

impl TryFrom<Row> for StoredClock {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self> {
        let phase = match (row.phase.as_str(), row.phase_since) {
            ("running", Some(since)) => Phase::Running { since },
            ("done", Some(at)) => Phase::Done { at },
            ("paused", _) => Phase::Paused,
            ("cancelled", _) => Phase::Cancelled,
            (other, _) => return Err(Error::Corrupt(format!("SLA clock {}: phase {other:?}", row.id))),
        };
        Ok(StoredClock {
            id: row.id.into(),
            ticket: row.ticket_id.into(),
            policy: row.policy_id.map(Into::into),
            calendar: row.calendar_id.map(Into::into),
            clock: Clock {
                metric: word(&row.metric)?,
                goal: Goal {
                    target: row.target_us.map(TimeDelta::microseconds),
                    warn_percent: row.warn_percent.and_then(|percent| percent.try_into().ok()),
                },
                started_at: row.started_at,
                phase,
                elapsed: TimeDelta::microseconds(row.elapsed_us),
                warn_at: row.warn_at,
                due_at: row.due_at,
                warned_at: row.warned_at,
                breached_at: row.breached_at,
                generation: row.generation,
                armed_at: row.armed_at,
            },
        })
    }
}

fn phase(clock: &Clock) -> (&'static str, Option<DateTime<Utc>>) {
    match clock.phase {
        Phase::Running { since } => ("running", Some(since)),
        Phase::Done { at } => ("done", Some(at)),
        Phase::Paused => ("paused", None),
        Phase::Cancelled => ("cancelled", None),
    }
}

/// Microseconds; durations of clocks lie far below what 64 bits hold.
fn us(duration: TimeDelta) -> i64 {
    duration.num_microseconds().unwrap_or(i64::MAX)
}

macro_rules! select {
    ($tail:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            Row,
            "select id, ticket_id, metric, policy_id, calendar_id, target_us, warn_percent, phase, phase_since, started_at,
                    elapsed_us, warn_at, due_at, warned_at, breached_at, generation, armed_at from sla_clocks " + $tail,
            $($argument),*
        )
    };
}

pub async fn get(tx: &mut Tx, id: SlaClockId) -> Result<StoredClock> {
    select!("where id = $1", id.0).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound)?.try_into()
}

/// The clocks of a ticket, first response first.
pub async fn of_ticket(tx: &mut Tx, ticket: TicketId) -> Result<Vec<StoredClock>> {
    select!("where ticket_id = $1 order by metric", ticket.0)
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(TryInto::try_into)
        .collect()
}

/// Like [`of_ticket`], and nobody else changes them until the transaction ends.
pub async fn lock_of_ticket(tx: &mut Tx, ticket: TicketId) -> Result<Vec<StoredClock>> {
    select!("where ticket_id = $1 order by metric for no key update", ticket.0)
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(TryInto::try_into)
        .collect()
}

/// The clocks of several tickets, for lists.
pub async fn of_tickets(tx: &mut Tx, tickets: &[TicketId]) -> Result<Vec<StoredClock>> {
    let tickets: Vec<Uuid> = tickets.iter().map(|id| id.0).collect();
    select!("where ticket_id = any((select $1::uuid[])::uuid[]) order by ticket_id, metric", &tickets)
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(TryInto::try_into)
        .collect()
}

/// New clocks, in one statement.
pub async fn insert(tx: &mut Tx, clocks: &[&StoredClock]) -> Result<()> {
    if clocks.is_empty() {
        return Ok(());
    }
    let organization = tx.organization();
    fn column<T>(clocks: &[&StoredClock], value: impl Fn(&StoredClock) -> T) -> Vec<T> {
        clocks.iter().map(|stored| value(stored)).collect()
    }
    sqlx::query!(
        "insert into sla_clocks (id, organization_id, ticket_id, metric, policy_id, calendar_id, target_us, warn_percent,
                                 phase, phase_since, started_at, elapsed_us, warn_at, due_at, warned_at, breached_at,
                                 generation, armed_at, next_check_at)
         select u.id, $1, u.ticket_id, u.metric, u.policy_id, u.calendar_id, u.target_us, u.warn_percent, u.phase,
                u.phase_since, u.started_at, u.elapsed_us, u.warn_at, u.due_at, u.warned_at, u.breached_at, u.generation,
                u.armed_at, u.next_check_at
           from unnest($2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::uuid[], $7::int8[], $8::int2[], $9::text[],
                       $10::timestamptz[], $11::timestamptz[], $12::int8[], $13::timestamptz[], $14::timestamptz[],
                       $15::timestamptz[], $16::timestamptz[], $17::int4[], $18::timestamptz[], $19::timestamptz[])
             as u(id, ticket_id, metric, policy_id, calendar_id, target_us, warn_percent, phase, phase_since, started_at,
                  elapsed_us, warn_at, due_at, warned_at, breached_at, generation, armed_at, next_check_at)",
        organization.0,
        &column(clocks, |s| s.id.0),
        &column(clocks, |s| s.ticket.0),
        &column(clocks, |s| s.clock.metric.as_str().to_owned()),
        &column(clocks, |s| s.policy.map(|id| id.0)) as &[Option<Uuid>],
        &column(clocks, |s| s.calendar.map(|id| id.0)) as &[Option<Uuid>],
        &column(clocks, |s| s.clock.goal.target.map(us)) as &[Option<i64>],
        &column(clocks, |s| s.clock.goal.warn_percent.map(i16::from)) as &[Option<i16>],
        &column(clocks, |s| phase(&s.clock).0.to_owned()),
        &column(clocks, |s| phase(&s.clock).1) as &[Option<DateTime<Utc>>],
        &column(clocks, |s| s.clock.started_at),
        &column(clocks, |s| us(s.clock.elapsed)),
        &column(clocks, |s| s.clock.warn_at) as &[Option<DateTime<Utc>>],
        &column(clocks, |s| s.clock.due_at) as &[Option<DateTime<Utc>>],
        &column(clocks, |s| s.clock.warned_at) as &[Option<DateTime<Utc>>],
        &column(clocks, |s| s.clock.breached_at) as &[Option<DateTime<Utc>>],
        &column(clocks, |s| s.clock.generation),
        &column(clocks, |s| s.clock.armed_at),
        &column(clocks, |s| s.clock.next_check()) as &[Option<DateTime<Utc>>],
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn update(tx: &mut Tx, stored: &StoredClock) -> Result<()> {
    let clock = &stored.clock;
    let (phase, since) = phase(clock);
    sqlx::query!(
        "update sla_clocks
            set policy_id = $2, calendar_id = $3, target_us = $4, warn_percent = $5, phase = $6, phase_since = $7,
                elapsed_us = $8, warn_at = $9, due_at = $10, warned_at = $11, breached_at = $12, generation = $13,
                armed_at = $14, next_check_at = $15
          where id = $1",
        stored.id.0,
        stored.policy.map(|id| id.0),
        stored.calendar.map(|id| id.0),
        clock.goal.target.map(us),
        clock.goal.warn_percent.map(i16::from),
        phase,
        since,
        us(clock.elapsed),
        clock.warn_at,
        clock.due_at,
        clock.warned_at,
        clock.breached_at,
        clock.generation,
        clock.armed_at,
        clock.next_check(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Clocks that should have been judged before `before`, of all organizations: for the sweep, in a system transaction.
pub async fn overdue(
    tx: &mut Tx,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(OrganizationId, SlaClockId)>> {
    let rows = sqlx::query!(
        "select organization_id, id from sla_clocks where next_check_at < $1 order by next_check_at limit $2",
        before,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.organization_id.into(), row.id.into())).collect())
}

/// Open tickets in the order of their ids, after `after`: what an edited policy or calendar may concern.
pub async fn open_tickets(tx: &mut Tx, after: Option<TicketId>, limit: i64) -> Result<Vec<TicketId>> {
    let rows = sqlx::query_scalar!(
        "select id from tickets
          where status not in ('resolved', 'closed', 'cancelled') and ($1::uuid is null or id > $1)
          order by id limit $2",
        after.map(|id| id.0),
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}
