//! Running escalations and the steps that were done. Lock the ticket before its escalation.

use crate::escalation_chains::{read_steps, write_steps};
use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::escalation::{EscalationState, Step, StepOutcome};
use domain::sla::Trigger;
use domain::{ChainId, EmailAddress, EscalationId, EventId, OrganizationId, SlaClockId, TicketId, UserId};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
pub struct Escalation {
    pub id: EscalationId,
    pub ticket: TicketId,
    pub clock: SlaClockId,
    pub generation: i32,
    pub trigger: Trigger,
    /// What the messages of the chain are about.
    pub event: Option<EventId>,
    pub chain: Option<ChainId>,
    pub chain_name: String,
    /// The chain's steps as they were at the start.
    pub steps: Vec<Step>,
    /// Index of the step that comes next.
    pub next_step: i32,
    /// `None`: over.
    pub next_at: Option<DateTime<Utc>>,
    pub state: EscalationState,
    pub reason: String,
    pub started_at: DateTime<Utc>,
    pub ended_at: Option<DateTime<Utc>>,
}

struct Row {
    id: Uuid,
    ticket_id: Uuid,
    clock_id: Uuid,
    generation: i32,
    trigger: String,
    event_id: Option<Uuid>,
    chain_id: Option<Uuid>,
    chain_name: String,
    steps: serde_json::Value,
    next_step: i32,
    next_at: Option<DateTime<Utc>>,
    state: String,
    reason: String,
    started_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for Escalation {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self> {
        Ok(Escalation {
            id: row.id.into(),
            ticket: row.ticket_id.into(),
            clock: row.clock_id.into(),
            generation: row.generation,
            trigger: word(&row.trigger)?,
            event: row.event_id.map(Into::into),
            chain: row.chain_id.map(Into::into),
            chain_name: row.chain_name,
            steps: read_steps(row.steps)?,
            next_step: row.next_step,
            next_at: row.next_at,
            state: word(&row.state)?,
            reason: row.reason,
            started_at: row.started_at,
            ended_at: row.ended_at,
        })
    }
}

macro_rules! select {
    ($tail:literal, $($argument:expr),*) => {
        sqlx::query_as!(
            Row,
            "select id, ticket_id, clock_id, generation, trigger, event_id, chain_id, chain_name, steps, next_step, next_at,
                    state, reason, started_at, ended_at from escalations " + $tail,
            $($argument),*
        )
    };
}

pub async fn get(tx: &mut Tx, id: EscalationId) -> Result<Escalation> {
    select!("where id = $1", id.0).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound)?.try_into()
}

/// Reads it and keeps others from changing it until the transaction ends.
pub async fn lock(tx: &mut Tx, id: EscalationId) -> Result<Escalation> {
    select!("where id = $1 for no key update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?
        .try_into()
}

pub async fn of_ticket(tx: &mut Tx, ticket: TicketId) -> Result<Vec<Escalation>> {
    select!("where ticket_id = $1 order by started_at, id", ticket.0)
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(TryInto::try_into)
        .collect()
}

/// Those of a clock that still have steps to do, locked.
pub async fn lock_running_of_clock(tx: &mut Tx, clock: SlaClockId) -> Result<Vec<Escalation>> {
    select!("where clock_id = $1 and state = 'running' order by id for no key update", clock.0)
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(TryInto::try_into)
        .collect()
}

/// False if the chain was started before for this clock, generation and trigger.
pub async fn insert(tx: &mut Tx, escalation: &Escalation) -> Result<bool> {
    let organization = tx.organization();
    let done = sqlx::query!(
        "insert into escalations (id, organization_id, ticket_id, clock_id, generation, trigger, chain_id, chain_name, steps,
                                  next_step, next_at, state, reason, started_at, ended_at, event_id)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
         on conflict on constraint escalations_once_key do nothing",
        escalation.id.0,
        organization.0,
        escalation.ticket.0,
        escalation.clock.0,
        escalation.generation,
        escalation.trigger.as_str(),
        escalation.chain.map(|id| id.0),
        escalation.chain_name,
        write_steps(&escalation.steps)?,
        escalation.next_step,
        escalation.next_at,
        escalation.state.as_str(),
        escalation.reason,
        escalation.started_at,
        escalation.ended_at,
        escalation.event.map(|id| id.0),
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Where it stands.
pub async fn update(tx: &mut Tx, escalation: &Escalation) -> Result<()> {
    sqlx::query!(
        "update escalations set next_step = $2, next_at = $3, state = $4, reason = $5, ended_at = $6 where id = $1",
        escalation.id.0,
        escalation.next_step,
        escalation.next_at,
        escalation.state.as_str(),
        escalation.reason,
        escalation.ended_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

#[derive(Clone, Debug, PartialEq)]
pub struct DoneStep {
    pub step: i32,
    pub action: String,
    pub outcome: StepOutcome,
    pub detail: String,
    pub done_at: DateTime<Utc>,
}

/// The primary key refuses a step that was done before.
pub async fn insert_step(tx: &mut Tx, escalation: EscalationId, step: &DoneStep) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!(
        "insert into escalation_steps (organization_id, escalation_id, step, action, outcome, detail, done_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        organization.0,
        escalation.0,
        step.step,
        step.action,
        step.outcome.as_str(),
        step.detail,
        step.done_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn steps_of(tx: &mut Tx, escalation: EscalationId) -> Result<Vec<DoneStep>> {
    let rows = sqlx::query!(
        "select step, action, outcome, detail, done_at from escalation_steps where escalation_id = $1 order by step",
        escalation.0
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(DoneStep {
                step: row.step,
                action: row.action,
                outcome: word(&row.outcome)?,
                detail: row.detail,
                done_at: row.done_at,
            })
        })
        .collect()
}

/// Escalations whose next step should have been done before `before`, of all organizations: for the sweep, in a system
/// transaction.
pub async fn overdue(
    tx: &mut Tx,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(OrganizationId, EscalationId)>> {
    let rows = sqlx::query!(
        "select organization_id, id from escalations where next_at < $1 order by next_at limit $2",
        before,
        limit
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.organization_id.into(), row.id.into())).collect())
}

/// Who is told when a ticket escalates to a manager.
#[derive(Clone, Debug, PartialEq)]
pub struct Manager {
    pub id: UserId,
    pub name: String,
    pub email: EmailAddress,
}

/// The active manager of the ticket's team; without one that of the team's department, then the assignee's own manager,
/// then that of the assignee's department.
pub async fn manager_of(tx: &mut Tx, ticket: TicketId) -> Result<Option<Manager>> {
    let row = sqlx::query!(
        "select m.id, m.name, m.email
           from tickets k
           left join teams t on t.id = k.team_id
           left join departments td on td.id = t.department_id
           left join users a on a.id = k.assignee_id
           left join departments ad on ad.id = a.department_id
           join lateral (values (t.manager_id, 1), (td.manager_id, 2), (a.manager_id, 3), (ad.manager_id, 4))
                as candidate(id, rank) on true
           join users m on m.id = candidate.id and m.is_active
          where k.id = $1
          order by candidate.rank limit 1",
        ticket.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| {
        let email = EmailAddress::parse(&row.email).map_err(|error| Error::Corrupt(error.to_string()))?;
        Ok(Manager { id: row.id.into(), name: row.name, email })
    })
    .transpose()
}

/// Somebody who stands in for a manager.
pub async fn person(tx: &mut Tx, id: UserId) -> Result<Manager> {
    let user = crate::users::get(tx, id).await?;
    let email = EmailAddress::parse(&user.email).map_err(|error| Error::Corrupt(error.to_string()))?;
    Ok(Manager { id, name: user.name, email })
}

/// Marks a point to which [`rollback_step`] can return: a step that fails must not take the others with it.
pub async fn begin_step(tx: &mut Tx) -> Result<()> {
    sqlx::query("savepoint escalation_step").execute(&mut **tx).await?;
    Ok(())
}

pub async fn rollback_step(tx: &mut Tx) -> Result<()> {
    sqlx::query("rollback to savepoint escalation_step").execute(&mut **tx).await?;
    Ok(())
}
