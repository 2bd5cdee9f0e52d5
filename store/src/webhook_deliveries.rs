//! What was told to other systems: a row for each event and webhook, with its attempts.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, field};
use crate::lock::lock;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::permission::Reach;
use domain::{EventId, OrganizationId, TicketId, WebhookDeliveryId, WebhookId, WebhookStatus};
use sqlx::{FromRow, Postgres, QueryBuilder};
use std::collections::HashSet;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct WebhookDelivery {
    pub id: WebhookDeliveryId,
    pub webhook: WebhookId,
    /// `None`: a test.
    pub event: Option<EventId>,
    pub event_type: String,
    pub ticket: Option<TicketId>,
    pub status: WebhookStatus,
    pub attempts: i32,
    pub replays: i32,
    pub last_attempt_at: Option<DateTime<Utc>>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub last_status: Option<i32>,
    pub last_error: Option<String>,
    pub delivered_at: Option<DateTime<Utc>>,
    pub rescues: i32,
    pub job: Option<Uuid>,
    pub job_run: Option<i64>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    webhook_id: Uuid,
    event_id: Option<Uuid>,
    event_type: String,
    ticket_id: Option<Uuid>,
    status: String,
    attempts: i32,
    replays: i32,
    last_attempt_at: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
    last_status: Option<i32>,
    last_error: Option<String>,
    delivered_at: Option<DateTime<Utc>>,
    rescues: i32,
    job_id: Option<Uuid>,
    job_run: Option<i64>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for WebhookDelivery {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let status =
            row.status.parse().map_err(|word: domain::UnknownWord| Error::Corrupt(word.to_string()))?;
        Ok(WebhookDelivery {
            id: row.id.into(),
            webhook: row.webhook_id.into(),
            event: row.event_id.map(Into::into),
            event_type: row.event_type,
            ticket: row.ticket_id.map(Into::into),
            status,
            attempts: row.attempts,
            replays: row.replays,
            last_attempt_at: row.last_attempt_at,
            next_attempt_at: row.next_attempt_at,
            last_status: row.last_status,
            last_error: row.last_error,
            delivered_at: row.delivered_at,
            rescues: row.rescues,
            job: row.job_id,
            job_run: row.job_run,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

#[derive(Clone, Debug)]
pub struct NewWebhookDelivery {
    pub id: WebhookDeliveryId,
    pub webhook: WebhookId,
    pub event: Option<EventId>,
    pub event_type: String,
    pub ticket: Option<TicketId>,
    /// The only job that may send it.
    pub job: Uuid,
    /// When the replay was asked for that makes it, if one does.
    pub replayed_at: Option<DateTime<Utc>>,
}

/// In one statement. Answers which of them are new: of the others the webhook has one already.
pub async fn insert(tx: &mut Tx, new: &[NewWebhookDelivery]) -> Result<HashSet<WebhookDeliveryId>> {
    fn column<T>(new: &[NewWebhookDelivery], value: impl Fn(&NewWebhookDelivery) -> T) -> Vec<T> {
        new.iter().map(value).collect()
    }
    let (organization, now) = (tx.organization(), tx.now());
    let kept = sqlx::query_scalar!(
        "insert into webhook_deliveries (id, organization_id, webhook_id, event_id, event_type, ticket_id, job_id,
                                         replayed_at, next_attempt_at, created_at, updated_at)
         select u.id, $1, u.webhook_id, u.event_id, u.event_type, u.ticket_id, u.job_id, u.replayed_at, $2, $2, $2
           from unnest($3::uuid[], $4::uuid[], $5::uuid[], $6::text[], $7::uuid[], $8::uuid[], $9::timestamptz[])
             as u(id, webhook_id, event_id, event_type, ticket_id, job_id, replayed_at)
         on conflict on constraint webhook_deliveries_event_key do nothing returning id",
        organization.0,
        now,
        &column(new, |n| n.id.0),
        &column(new, |n| n.webhook.0),
        &column(new, |n| n.event.map(|e| e.0)) as &[Option<Uuid>],
        &column(new, |n| n.event_type.clone()),
        &column(new, |n| n.ticket.map(|t| t.0)) as &[Option<Uuid>],
        &column(new, |n| n.job),
        &column(new, |n| n.replayed_at) as &[Option<DateTime<Utc>>],
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(kept.into_iter().map(Into::into).collect())
}

pub async fn get(tx: &mut Tx, id: WebhookDeliveryId) -> Result<WebhookDelivery> {
    sqlx::query_as!(
        Row,
        "select id, webhook_id, event_id, event_type, ticket_id, status, attempts, replays, last_attempt_at, next_attempt_at,
                last_status, last_error, delivered_at, rescues, job_id, job_run, created_at, updated_at
           from webhook_deliveries where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}

lock!(WebhookDeliveryId => WebhookDelivery, "select id from webhook_deliveries where id = $1 for update");

/// What deliveries can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "d.id"),
    field("webhook", Kind::Id, "d.webhook_id"),
    field("status", Kind::Words(WebhookStatus::WORDS), "d.status"),
    field("event", Kind::Id, "d.event_id").or_null().says("None: a test."),
    field("event_type", Kind::Text, "d.event_type"),
    field("ticket", Kind::Ticket, "d.ticket_id").or_null(),
    field("attempts", Kind::Number, "d.attempts"),
    field("last_status", Kind::Number, "d.last_status").or_null().says("HTTP status of the last answer."),
    field("last_attempt_at", Kind::Time, "d.last_attempt_at").or_null(),
    field("next_attempt_at", Kind::Time, "d.next_attempt_at").or_null(),
    field("delivered_at", Kind::Time, "d.delivered_at").or_null(),
    field("created_at", Kind::Time, "d.created_at").by("d.created_at", "timestamptz"),
    field("updated_at", Kind::Time, "d.updated_at"),
];

pub const LIST: List =
    List { from: "webhook_deliveries d", fields: FIELDS, usual: "-created_at", id: Key::uuid("d.id") };

/// Those about tickets within reach or about none.
pub async fn list(tx: &mut Tx, reach: &Reach, wanted: &Wanted) -> Result<Vec<Placed<WebhookDelivery>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        crate::reach::condition_on(sql, "d.ticket_id", reach);
    };
    let columns = "select d.id, d.webhook_id, d.event_id, d.event_type, d.ticket_id, d.status, d.attempts, d.replays, d.last_attempt_at, \
                   d.next_attempt_at, d.last_status, d.last_error, d.delivered_at, d.rescues, d.job_id, d.job_run, d.created_at, \
                   d.updated_at";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}

/// Wanted once more, by this job; `false`: it waits for an attempt anyway, or was replayed for the same wish before.
pub async fn reopen(
    tx: &mut Tx,
    id: WebhookDeliveryId,
    job: Uuid,
    asked_at: DateTime<Utc>,
    even_delivered: bool,
) -> Result<bool> {
    let now = tx.now();
    let done = sqlx::query!(
        "update webhook_deliveries
            set status = 'pending', replays = replays + 1, replayed_at = $3, next_attempt_at = $4, delivered_at = null,
                rescues = 0, job_id = $2, job_run = null, updated_at = $4
          where id = $1 and (status = 'failed' or $5 and status = 'delivered') and (replayed_at is null or replayed_at < $3)",
        id.0,
        job,
        asked_at,
        now,
        even_delivered,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Those of a webhook for these events.
pub async fn of_events(
    tx: &mut Tx,
    webhook: WebhookId,
    events: &[EventId],
) -> Result<Vec<(EventId, WebhookDeliveryId)>> {
    let events: Vec<Uuid> = events.iter().map(|event| event.0).collect();
    let rows = sqlx::query!(
        r#"select event_id as "event_id!", id from webhook_deliveries where webhook_id = $1 and event_id = any($2)"#,
        webhook.0,
        &events
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.event_id.into(), row.id.into())).collect())
}

/// Counts an attempt that is about to be made; answers its number.
pub async fn begin_attempt(tx: &mut Tx, id: WebhookDeliveryId, job: Uuid, run: i64) -> Result<i32> {
    let (organization, now) = (tx.organization(), tx.now());
    let number = sqlx::query_scalar!(
        "with d as (
            update webhook_deliveries
               set attempts = attempts + 1, last_attempt_at = $2, next_attempt_at = null, updated_at = $2, job_id = $3, job_run = $4
             where id = $1 and status = 'pending' returning attempts)
         insert into webhook_attempts (delivery_id, number, organization_id, started_at) select $1, d.attempts, $5, $2 from d
         returning number",
        id.0,
        now,
        job,
        run,
        organization.0,
    )
    .fetch_optional(&mut **tx)
    .await?;
    number.ok_or(Error::NotFound)
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub number: i32,
    pub duration_ms: i32,
    /// HTTP status.
    pub status: Option<i32>,
    pub response: Option<&'a str>,
    /// `None`: delivered.
    pub error: Option<&'a str>,
}

/// The attempt is over. Whoever says so: what was delivered was delivered. Otherwise the next one is at `next`, or there is none; a run that
/// another has followed changes no more than its own attempt. Answers whether it counted.
pub async fn end_attempt(
    tx: &mut Tx,
    id: WebhookDeliveryId,
    (job, run): (Uuid, i64),
    answer: &Answer<'_>,
    next: Option<DateTime<Utc>>,
) -> Result<bool> {
    let now = tx.now();
    let status = match (answer.error, next) {
        (None, _) => WebhookStatus::Delivered,
        (Some(_), Some(_)) => WebhookStatus::Pending,
        (Some(_), None) => WebhookStatus::Failed,
    };
    sqlx::query!(
        "update webhook_attempts set duration_ms = $3, status = $4, response = $5, error = $6 where delivery_id = $1 and number = $2",
        id.0,
        answer.number,
        answer.duration_ms,
        answer.status,
        answer.response,
        answer.error,
    )
    .execute(&mut **tx)
    .await?;
    let done = sqlx::query!(
        "update webhook_deliveries
            set status = $2::text, updated_at = $3::timestamptz, next_attempt_at = $4, last_status = $5, last_error = $6,
                delivered_at = case when $2::text = 'delivered' then $3::timestamptz end
          where id = $1 and ($2::text = 'delivered' and status <> 'delivered' or status = 'pending' and job_id = $7 and job_run = $8)",
        id.0,
        status.as_str(),
        now,
        next,
        answer.status,
        answer.error,
        job,
        run,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// No attempt is made yet, by no fault of the receiver: the next is at `until`. Needs the row locked.
pub async fn put_off(
    tx: &mut Tx,
    id: WebhookDeliveryId,
    (job, run): (Uuid, i64),
    until: DateTime<Utc>,
    why: &str,
) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update webhook_deliveries set next_attempt_at = $4, updated_at = $5, last_error = $6, job_id = $2, job_run = $3
          where id = $1 and status = 'pending'",
        id.0,
        job,
        run,
        until,
        now,
        why,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The attempt that this run has counted was none: nothing was sent, and nobody is to read of it. The next is at `until`.
pub async fn not_begun(
    tx: &mut Tx,
    id: WebhookDeliveryId,
    (job, run): (Uuid, i64),
    number: i32,
    until: DateTime<Utc>,
    why: &str,
) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "with d as (
            update webhook_deliveries
               set attempts = attempts - 1, next_attempt_at = $5, updated_at = $6, last_error = $7,
                   last_attempt_at = (select max(started_at) from webhook_attempts where delivery_id = $1 and number < $4)
             where id = $1 and status = 'pending' and job_id = $2 and job_run = $3 and attempts = $4 returning id)
         delete from webhook_attempts a using d where a.delivery_id = d.id and a.number = $4",
        id.0,
        job,
        run,
        number,
        until,
        now,
        why,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Nobody will try it by itself, and why.
pub async fn give_up(tx: &mut Tx, id: WebhookDeliveryId, why: &str) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update webhook_deliveries set status = 'failed', next_attempt_at = null, last_error = $2, updated_at = $3
          where id = $1 and status = 'pending'",
        id.0,
        why,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A further job for one whose job was lost.
pub async fn rescue(tx: &mut Tx, id: WebhookDeliveryId, job: Uuid) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update webhook_deliveries
            set next_attempt_at = $3, updated_at = $3, rescues = rescues + (job_id is distinct from $2)::int,
                job_run = case when job_id = $2 then job_run end, job_id = $2
          where id = $1",
        id.0,
        job,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Pending ones whose time for an attempt was before `before` and whose job got lost; one that merely waits in a long line is there. Needs a
/// system transaction.
pub async fn stranded(
    tx: &mut Tx,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(OrganizationId, WebhookDeliveryId)>> {
    let rows = sqlx::query!(
        "select d.organization_id, d.id from webhook_deliveries d
          where d.status = 'pending' and greatest(d.updated_at, d.next_attempt_at) < $1
            and not exists (select from queue.jobs j where j.id = d.job_id and j.state <> 'dead')
          order by d.updated_at limit $2",
        before,
        limit,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.organization_id.into(), row.id.into())).collect())
}

/// One attempt, as it is kept.
#[derive(Clone, Debug, FromRow)]
pub struct WebhookAttempt {
    pub number: i32,
    pub started_at: DateTime<Utc>,
    /// `None`: nobody knows how it ended, or it has not.
    pub duration_ms: Option<i32>,
    pub status: Option<i32>,
    pub response: Option<String>,
    pub error: Option<String>,
}

/// What the attempts of a delivery can be filtered and sorted by.
pub const ATTEMPT_FIELDS: &[Field] = &[
    field("number", Kind::Number, "a.number").by_id(),
    field("started_at", Kind::Time, "a.started_at"),
    field("duration_ms", Kind::Number, "a.duration_ms").or_null(),
    field("status", Kind::Number, "a.status").or_null(),
];

pub const ATTEMPTS: List = List {
    from: "webhook_attempts a",
    fields: ATTEMPT_FIELDS,
    usual: "-number",
    id: Key { sql: "a.number", cast: "integer" },
};

pub async fn attempts(
    tx: &mut Tx,
    id: WebhookDeliveryId,
    wanted: &Wanted,
) -> Result<Vec<Placed<WebhookAttempt>>> {
    let columns = "select a.number, a.started_at, a.duration_ms, a.status, a.response, a.error";
    ATTEMPTS
        .rows::<WebhookAttempt, _>(tx, wanted, columns, |sql| {
            sql.push(" and a.delivery_id = ").push_bind(id.0);
        })
        .await
}
