//! The ledger of messages that leave the house: one row per message and recipient.
//!
//! The row is made with the fact that causes it, under a key, so that a repeated cause sends nothing twice. An attempt
//! is counted before the peer is called; what came of it is recorded whether the job succeeded or not.

mod progress;

pub use progress::*;

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, field};
use crate::lock::lock;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::gate::PATIENCE;
use domain::permission::Reach;
use domain::{
    ChannelId, ChannelKind, DeliveryId, EventId, OrganizationId, ReportExecutionId, RuleId, TicketId, UserId,
};
use serde::{Deserialize, Serialize};
use sqlx::{FromRow, Postgres, QueryBuilder};
use std::collections::HashSet;
use std::str::FromStr;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Waits for its first or next attempt.
    Pending,
    /// The peer has accepted it.
    Sent,
    /// Will not be tried again; `last_error` says why.
    GivenUp,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Sent => "sent",
            Status::GivenUp => "given_up",
        }
    }
}

impl FromStr for Status {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Self, String> {
        [Status::Pending, Status::Sent, Status::GivenUp]
            .into_iter()
            .find(|status| status.as_str() == s)
            .ok_or_else(|| format!("unknown delivery status {s:?}: expected pending, sent or given_up"))
    }
}

/// What a mail delivery needs besides its recipient. Empty for chat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mail {
    /// Address of the mailbox that writes; `None`: the configured sender.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The sender's display name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_name: Option<String>,
    /// Message-IDs with angle brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_reply_to: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<String>,
    /// Value of the Auto-Submitted header (RFC 3834): `auto-replied`, `auto-generated`; `None` for a person's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_submitted: Option<String>,
    /// The words; `None`: rendered from the event when it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub words: Option<Words>,
    /// A CSV of this report execution goes along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<ReportExecutionId>,
    /// It brings this person a link for a new password, which is made as the mail is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_reset: Option<UserId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Words {
    pub subject: String,
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
}

#[derive(Clone, Debug)]
pub struct NewDelivery {
    pub id: DeliveryId,
    pub unique_key: String,
    pub channel: ChannelKind,
    pub channel_id: Option<ChannelId>,
    pub rule: Option<RuleId>,
    pub event: Option<EventId>,
    pub ticket: Option<TicketId>,
    pub message_kind: String,
    pub recipient: String,
    pub mail: Option<Mail>,
    pub message_id: Option<String>,
    /// Talk among staff: an answer to it is internal.
    pub is_internal: bool,
    /// The only job that may send it.
    pub job: Uuid,
}

#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: DeliveryId,
    pub unique_key: String,
    pub channel: ChannelKind,
    pub channel_id: Option<ChannelId>,
    pub rule: Option<RuleId>,
    pub event: Option<EventId>,
    pub ticket: Option<TicketId>,
    pub message_kind: String,
    pub recipient: String,
    pub mail: Option<Mail>,
    pub message_id: Option<String>,
    pub subject: Option<String>,
    pub is_internal: bool,
    pub status: Status,
    pub attempts: i32,
    pub last_attempt_at: Option<DateTime<Utc>>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub last_status: Option<i32>,
    pub last_response: Option<String>,
    pub last_error: Option<String>,
    /// When it may pass the gate of its channel, after it had to wait there.
    pub turn_at: Option<DateTime<Utc>>,
    /// Waits that cost no attempt end here.
    pub give_up_at: DateTime<Utc>,
    /// How often its job was lost.
    pub rescues: i32,
    /// The only job that may send it, and the last run of that job.
    pub job: Option<Uuid>,
    pub job_run: Option<i64>,
    pub sent_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// What the peer said, as the ledger keeps it.
#[derive(Clone, Debug, Default)]
pub struct Answer<'a> {
    /// HTTP status or SMTP reply code.
    pub status: Option<i32>,
    pub response: Option<&'a str>,
    pub error: Option<&'a str>,
}

#[derive(FromRow)]
struct DeliveryRow {
    id: Uuid,
    unique_key: String,
    channel: String,
    channel_id: Option<Uuid>,
    rule_id: Option<Uuid>,
    event_id: Option<Uuid>,
    ticket_id: Option<Uuid>,
    message_kind: String,
    recipient: String,
    message: serde_json::Value,
    message_id: Option<String>,
    subject: Option<String>,
    is_internal: bool,
    status: String,
    attempts: i32,
    last_attempt_at: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
    last_status: Option<i32>,
    last_response: Option<String>,
    last_error: Option<String>,
    turn_at: Option<DateTime<Utc>>,
    give_up_at: DateTime<Utc>,
    rescues: i32,
    job_id: Option<Uuid>,
    job_run: Option<i64>,
    sent_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<DeliveryRow> for Delivery {
    type Error = Error;
    fn try_from(row: DeliveryRow) -> Result<Self> {
        let channel: ChannelKind = row.channel.parse().map_err(unknown)?;
        let mail = match channel {
            ChannelKind::Email => Some(
                serde_json::from_value(row.message)
                    .map_err(|error| Error::Corrupt(format!("message of delivery {}: {error}", row.id)))?,
            ),
            _ => None,
        };
        Ok(Delivery {
            id: row.id.into(),
            unique_key: row.unique_key,
            channel,
            channel_id: row.channel_id.map(Into::into),
            rule: row.rule_id.map(Into::into),
            event: row.event_id.map(Into::into),
            ticket: row.ticket_id.map(Into::into),
            message_kind: row.message_kind,
            recipient: row.recipient,
            mail,
            message_id: row.message_id,
            subject: row.subject,
            is_internal: row.is_internal,
            status: row.status.parse().map_err(Error::Corrupt)?,
            attempts: row.attempts,
            last_attempt_at: row.last_attempt_at,
            next_attempt_at: row.next_attempt_at,
            last_status: row.last_status,
            last_response: row.last_response,
            last_error: row.last_error,
            turn_at: row.turn_at,
            give_up_at: row.give_up_at,
            rescues: row.rescues,
            job: row.job_id,
            job_run: row.job_run,
            sent_at: row.sent_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

fn unknown(word: domain::UnknownWord) -> Error {
    Error::Corrupt(word.to_string())
}

/// Keeps new deliveries, in one statement. Answers which of them are new: the keys of the others are there already.
pub async fn insert(tx: &mut Tx, new: &[NewDelivery]) -> Result<HashSet<DeliveryId>> {
    fn column<T>(new: &[NewDelivery], value: impl Fn(&NewDelivery) -> T) -> Vec<T> {
        new.iter().map(value).collect()
    }
    let (organization, now) = (tx.organization(), tx.now());
    let messages = new
        .iter()
        .map(|new| match &new.mail {
            Some(mail) => serde_json::to_value(mail).map_err(|error| Error::Corrupt(error.to_string())),
            None => Ok(serde_json::json!({})),
        })
        .collect::<Result<Vec<_>>>()?;
    let kept = sqlx::query_scalar!(
        "insert into deliveries (id, organization_id, unique_key, channel, channel_id, rule_id, event_id, ticket_id,
                                 message_kind, recipient, message, message_id, is_internal, job_id, give_up_at,
                                 next_attempt_at, created_at, updated_at)
         select u.id, $1, u.unique_key, u.channel, u.channel_id, u.rule_id, u.event_id, u.ticket_id, u.message_kind,
                u.recipient, u.message, u.message_id, u.is_internal, u.job_id, $2, $3, $3, $3
           from unnest($4::uuid[], $5::text[], $6::text[], $7::uuid[], $8::uuid[], $9::uuid[], $10::uuid[], $11::text[],
                       $12::text[], $13::jsonb[], $14::text[], $15::bool[], $16::uuid[])
             as u(id, unique_key, channel, channel_id, rule_id, event_id, ticket_id, message_kind, recipient, message,
                  message_id, is_internal, job_id)
         on conflict on constraint deliveries_unique_key do nothing returning id",
        organization.0,
        now + PATIENCE,
        now,
        &column(new, |n| n.id.0),
        &column(new, |n| n.unique_key.clone()),
        &column(new, |n| n.channel.as_str().to_owned()),
        &column(new, |n| n.channel_id.map(|c| c.0)) as &[Option<Uuid>],
        &column(new, |n| n.rule.map(|r| r.0)) as &[Option<Uuid>],
        &column(new, |n| n.event.map(|e| e.0)) as &[Option<Uuid>],
        &column(new, |n| n.ticket.map(|t| t.0)) as &[Option<Uuid>],
        &column(new, |n| n.message_kind.clone()),
        &column(new, |n| n.recipient.clone()),
        &messages,
        &column(new, |n| n.message_id.clone()) as &[Option<String>],
        &column(new, |n| n.is_internal),
        &column(new, |n| n.job),
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(kept.into_iter().map(Into::into).collect())
}

/// From now on `job` sends it, and no other.
pub async fn set_job(tx: &mut Tx, id: DeliveryId, job: Uuid) -> Result<()> {
    sqlx::query!(
        "update deliveries
            set job_id = $2, job_run = case when job_id = $2 then job_run end
          where id = $1",
        id.0,
        job
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn id_of_key(tx: &mut Tx, unique_key: &str) -> Result<Option<DeliveryId>> {
    let organization = tx.organization();
    let id = sqlx::query_scalar!(
        "select id from deliveries where organization_id = $1 and unique_key = $2",
        organization.0,
        unique_key
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(id.map(Into::into))
}

pub async fn get(tx: &mut Tx, id: DeliveryId) -> Result<Delivery> {
    sqlx::query_as!(
        DeliveryRow,
        "select id, unique_key, channel, channel_id, rule_id, event_id, ticket_id, message_kind, recipient,
                message, message_id, subject, is_internal, status, attempts, last_attempt_at, next_attempt_at, last_status,
                last_response, last_error, turn_at, give_up_at, rescues, job_id, job_run, sent_at, created_at, updated_at
           from deliveries where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}

lock!(DeliveryId => Delivery, "select id from deliveries where id = $1 for update");

/// What messages can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "d.id"),
    field("status", Kind::Words(&["pending", "sent", "given_up"]), "d.status"),
    field("kind", Kind::Words(ChannelKind::WORDS), "d.channel").says("Of the channel."),
    field("channel", Kind::Id, "d.channel_id").or_null(),
    field("rule", Kind::Id, "d.rule_id").or_null(),
    field("event", Kind::Id, "d.event_id").or_null(),
    field("ticket", Kind::Ticket, "d.ticket_id").or_null(),
    field("attempts", Kind::Number, "d.attempts"),
    field("last_attempt_at", Kind::Time, "d.last_attempt_at").or_null(),
    field("next_attempt_at", Kind::Time, "d.next_attempt_at").or_null(),
    field("sent_at", Kind::Time, "d.sent_at").or_null(),
    field("created_at", Kind::Time, "d.created_at").by("d.created_at", "timestamptz"),
    field("updated_at", Kind::Time, "d.updated_at"),
];

pub const LIST: List =
    List { from: "deliveries d", fields: FIELDS, usual: "-created_at", id: Key::uuid("d.id") };

/// Those about tickets within reach or about none.
pub async fn list(tx: &mut Tx, reach: &Reach, wanted: &Wanted) -> Result<Vec<Placed<Delivery>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        crate::reach::condition_on(sql, "d.ticket_id", reach);
    };
    let columns = "select d.id, d.unique_key, d.channel, d.channel_id, d.rule_id, d.event_id, d.ticket_id, d.message_kind, d.recipient, \
                   d.message, d.message_id, d.subject, d.is_internal, d.status, d.attempts, d.last_attempt_at, d.next_attempt_at, \
                   d.last_status, d.last_response, d.last_error, d.turn_at, d.give_up_at, d.rescues, d.job_id, d.job_run, d.sent_at, \
                   d.created_at, d.updated_at";
    LIST.rows::<DeliveryRow, _>(tx, wanted, columns, more).await
}

/// Pending deliveries whose time for an attempt was before `before`: their job got lost. Needs a system transaction.
pub async fn stranded(
    tx: &mut Tx,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(OrganizationId, DeliveryId)>> {
    let rows = sqlx::query!(
        "select organization_id, id from deliveries
          where status = 'pending' and greatest(updated_at, next_attempt_at) < $1
          order by updated_at limit $2",
        before,
        limit,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.organization_id.into(), row.id.into())).collect())
}
