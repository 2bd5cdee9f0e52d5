//! How a delivery moves on: attempts, waits, the end.

use super::{Answer, Status};
use crate::{Result, Tx};
use chrono::{DateTime, Utc};
use domain::DeliveryId;
use domain::gate::PATIENCE;
use uuid::Uuid;

/// A run of the job that a delivery names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub job: Uuid,
    pub run: i64,
}

/// Counts an attempt that is about to be made. `message_id` is kept from the first attempt on. A delivery that was given
/// up is open again: whoever runs its job wants it tried.
pub async fn begin_attempt(tx: &mut Tx, id: DeliveryId, run: Run, message_id: Option<&str>) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update deliveries
            set attempts = attempts + 1, status = 'pending', last_attempt_at = $2, next_attempt_at = null, updated_at = $2,
                message_id = coalesce(message_id, $3), job_id = $4, job_run = $5
          where id = $1 and status <> 'sent'",
        id.0,
        now,
        message_id,
        run.job,
        run.run,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whoever says so: what was sent was sent. `subject`: as it was rendered for this attempt.
pub async fn record_sent(
    tx: &mut Tx,
    id: DeliveryId,
    answer: &Answer<'_>,
    subject: Option<&str>,
) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update deliveries
            set status = 'sent', sent_at = $2, updated_at = $2, next_attempt_at = null, turn_at = null,
                last_status = $3, last_response = $4, last_error = null, subject = coalesce($5, subject)
          where id = $1 and status <> 'sent'",
        id.0,
        now,
        answer.status,
        answer.response,
        subject,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The attempt failed; the next one is at `next`, or there is none. A run that another has followed changes nothing.
pub async fn record_failed(
    tx: &mut Tx,
    id: DeliveryId,
    run: Run,
    answer: &Answer<'_>,
    subject: Option<&str>,
    next: Option<DateTime<Utc>>,
) -> Result<()> {
    let now = tx.now();
    let status = if next.is_some() { Status::Pending } else { Status::GivenUp };
    sqlx::query!(
        "update deliveries
            set status = $2, updated_at = $3, next_attempt_at = $4, last_status = $5, last_response = $6, last_error = $7,
                subject = coalesce($8, subject)
          where id = $1 and status = 'pending' and job_id = $9 and job_run = $10",
        id.0,
        status.as_str(),
        now,
        next,
        answer.status,
        answer.response,
        answer.error,
        subject,
        run.job,
        run.run,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// It waits for its turn at the gate of its channel, or for a relay; nothing was tried.
pub async fn wait(tx: &mut Tx, id: DeliveryId, until: DateTime<Utc>, why: &str) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update deliveries
            set status = 'pending', next_attempt_at = $2, turn_at = $2, updated_at = $3,
                last_error = coalesce(last_error, $4)
          where id = $1 and status <> 'sent'",
        id.0,
        until,
        now,
        why,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The attempt of this run turned out not to be one: nothing was begun.
pub async fn not_begun(tx: &mut Tx, id: DeliveryId, run: Run, until: DateTime<Utc>, why: &str) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update deliveries
            set attempts = greatest(attempts - 1, 0), next_attempt_at = $2, updated_at = $3, last_error = $4
          where id = $1 and status = 'pending' and job_id = $5 and job_run = $6",
        id.0,
        until,
        now,
        why,
        run.job,
        run.run,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// After an attempt that the peer put off: its turn.
pub async fn set_turn(tx: &mut Tx, id: DeliveryId, turn: DateTime<Utc>) -> Result<()> {
    sqlx::query!("update deliveries set turn_at = $2 where id = $1", id.0, turn).execute(&mut **tx).await?;
    Ok(())
}

/// Nobody will try it again, and why.
pub async fn give_up(tx: &mut Tx, id: DeliveryId, why: &str) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update deliveries set status = 'given_up', next_attempt_at = null, last_error = $2, updated_at = $3
          where id = $1 and status = 'pending'",
        id.0,
        why,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Its next attempt is now; `rescued`: its job had been lost.
pub async fn touch(tx: &mut Tx, id: DeliveryId, rescued: bool) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update deliveries set next_attempt_at = $2, updated_at = $2, rescues = rescues + $3::int where id = $1",
        id.0,
        now,
        i32::from(rescued),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A delivery that was given up is tried again, with all its time before it; false when it was not in that state.
pub async fn reopen(tx: &mut Tx, id: DeliveryId) -> Result<bool> {
    let now = tx.now();
    let done = sqlx::query!(
        "update deliveries
            set status = 'pending', next_attempt_at = $2, turn_at = null, give_up_at = $3, rescues = 0, updated_at = $2
          where id = $1 and status = 'given_up'",
        id.0,
        now,
        now + PATIENCE,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}
