//! Breaches: found once, kept for ever.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, field};
use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::permission::Reach;
use domain::sla::Metric;
use domain::ticket::Priority;
use domain::{BreachId, SlaClockId, SlaPolicyId, TeamId, TicketId, UserId};
use sqlx::{FromRow, Postgres, QueryBuilder};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
pub struct Breach {
    pub id: BreachId,
    pub clock: SlaClockId,
    pub generation: i32,
    pub ticket: TicketId,
    pub metric: Metric,
    pub policy: Option<SlaPolicyId>,
    /// As these were at the breach.
    pub policy_name: String,
    pub priority: Priority,
    pub team: Option<TeamId>,
    pub assignee: Option<UserId>,
    pub target_seconds: i32,
    /// The moment at which the target had passed.
    pub breached_at: DateTime<Utc>,
    pub detected_at: DateTime<Utc>,
    /// When it was done after all, and by how much working time too late.
    pub fulfilled_at: Option<DateTime<Utc>>,
    pub overrun_seconds: Option<i64>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    clock_id: Uuid,
    generation: i32,
    ticket_id: Uuid,
    metric: String,
    policy_id: Option<Uuid>,
    policy_name: String,
    priority: String,
    team_id: Option<Uuid>,
    assignee_id: Option<Uuid>,
    target_seconds: i32,
    breached_at: DateTime<Utc>,
    detected_at: DateTime<Utc>,
    fulfilled_at: Option<DateTime<Utc>>,
    overrun_seconds: Option<i64>,
}

impl TryFrom<Row> for Breach {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self> {
        Ok(Breach {
            id: row.id.into(),
            clock: row.clock_id.into(),
            generation: row.generation,
            ticket: row.ticket_id.into(),
            metric: word(&row.metric)?,
            policy: row.policy_id.map(Into::into),
            policy_name: row.policy_name,
            priority: word(&row.priority)?,
            team: row.team_id.map(Into::into),
            assignee: row.assignee_id.map(Into::into),
            target_seconds: row.target_seconds,
            breached_at: row.breached_at,
            detected_at: row.detected_at,
            fulfilled_at: row.fulfilled_at,
            overrun_seconds: row.overrun_seconds,
        })
    }
}

/// False if this clock's breach in this generation is known already.
pub async fn insert(tx: &mut Tx, breach: &Breach) -> Result<bool> {
    let organization = tx.organization();
    let done = sqlx::query!(
        "insert into sla_breaches (id, organization_id, clock_id, generation, ticket_id, metric, policy_id, policy_name,
                                   priority, team_id, assignee_id, target_seconds, breached_at, detected_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         on conflict on constraint sla_breaches_once_key do nothing",
        breach.id.0,
        organization.0,
        breach.clock.0,
        breach.generation,
        breach.ticket.0,
        breach.metric.as_str(),
        breach.policy.map(|id| id.0),
        breach.policy_name,
        breach.priority.as_str(),
        breach.team.map(|id| id.0),
        breach.assignee.map(|id| id.0),
        breach.target_seconds,
        breach.breached_at,
        breach.detected_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The clock is done: notes when, and how much working time beyond its target it took.
pub async fn fulfil(
    tx: &mut Tx,
    clock: SlaClockId,
    generation: i32,
    at: DateTime<Utc>,
    overrun_seconds: i64,
) -> Result<()> {
    sqlx::query!(
        "update sla_breaches set fulfilled_at = $3, overrun_seconds = $4 where clock_id = $1 and generation = $2",
        clock.0,
        generation,
        at,
        overrun_seconds
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The ticket was reopened: it is not done after all.
pub async fn unfulfil(tx: &mut Tx, clock: SlaClockId) -> Result<()> {
    sqlx::query!(
        "update sla_breaches set fulfilled_at = null, overrun_seconds = null where clock_id = $1 and fulfilled_at is not null",
        clock.0
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

macro_rules! select {
    ($tail:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            Row,
            "select id, clock_id, generation, ticket_id, metric, policy_id, policy_name, priority, team_id, assignee_id,
                    target_seconds, breached_at, detected_at, fulfilled_at, overrun_seconds from sla_breaches " + $tail,
            $($argument),*
        )
    };
}

pub async fn get(tx: &mut Tx, id: BreachId) -> Result<Breach> {
    select!("where id = $1", id.0).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound)?.try_into()
}

/// What breaches can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "b.id"),
    field("ticket", Kind::Ticket, "b.ticket_id"),
    field("metric", Kind::Words(Metric::WORDS), "b.metric"),
    field("policy", Kind::Id, "b.policy_id").or_null(),
    field("priority", Kind::Words(Priority::WORDS), "b.priority").says("That of the ticket at the breach."),
    field("team", Kind::Id, "b.team_id").or_null(),
    field("assignee", Kind::Id, "b.assignee_id").or_null(),
    field("overrun_seconds", Kind::Number, "b.overrun_seconds").or_null(),
    field("breached_at", Kind::Time, "b.breached_at").by("b.breached_at", "timestamptz"),
    field("detected_at", Kind::Time, "b.detected_at"),
    field("fulfilled_at", Kind::Time, "b.fulfilled_at").or_null(),
];

pub const LIST: List =
    List { from: "sla_breaches b", fields: FIELDS, usual: "-breached_at", id: Key::uuid("b.id") };

/// Those of tickets within reach.
pub async fn list(tx: &mut Tx, reach: &Reach, wanted: &Wanted) -> Result<Vec<Placed<Breach>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        crate::reach::condition_on(sql, "b.ticket_id", reach);
    };
    let columns = "select b.id, b.clock_id, b.generation, b.ticket_id, b.metric, b.policy_id, b.policy_name, b.priority, b.team_id, \
                   b.assignee_id, b.target_seconds, b.breached_at, b.detected_at, b.fulfilled_at, b.overrun_seconds";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}
