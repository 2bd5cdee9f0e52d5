//! Which Message-ID belongs to which ticket, and which receipts were sent. Ids stand here without angle brackets.

use crate::{Result, Tx};
use domain::{CommentId, DeliveryId, EmailAddress, InboxId, TicketId};
use std::time::Duration;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In(Option<InboxId>),
    Out(Option<DeliveryId>),
}

#[derive(Clone, Debug)]
pub struct NewMessage<'a> {
    pub message_id: &'a str,
    pub direction: Direction,
    pub ticket: TicketId,
    pub comment: Option<CommentId>,
    /// Who sent it to us, or whom we sent it to.
    pub address: &'a EmailAddress,
    pub is_internal: bool,
}

/// A message whose id some mail refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub message_id: String,
    pub ticket: TicketId,
    /// We sent it.
    pub ours: bool,
    pub address: String,
    pub is_internal: bool,
}

/// Remembers a message; twice is once.
pub async fn insert(tx: &mut Tx, message: &NewMessage<'_>) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    let (direction, inbox, delivery) = match message.direction {
        Direction::In(inbox) => ("in", inbox, None),
        Direction::Out(delivery) => ("out", None, delivery),
    };
    sqlx::query!(
        "insert into mail_messages (id, organization_id, message_id, direction, ticket_id, comment_id, inbox_id, delivery_id,
                                    address, is_internal, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         on conflict (organization_id, md5(message_id), ticket_id, direction) do nothing",
        Uuid::now_v7(),
        organization.0,
        message.message_id,
        direction,
        message.ticket.0,
        message.comment.map(|c| c.0),
        inbox.map(|i| i.0),
        delivery.map(|d| d.0),
        message.address.as_str(),
        message.is_internal,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The messages with these ids.
pub async fn known(tx: &mut Tx, message_ids: &[String]) -> Result<Vec<Known>> {
    if message_ids.is_empty() {
        return Ok(Vec::new());
    }
    let organization = tx.organization();
    let rows = sqlx::query!(
        r#"select message_id, ticket_id, direction = 'out' as "ours!", address, is_internal
           from mail_messages
           where organization_id = $1 and md5(message_id) in (select md5(id) from unnest($2::text[]) as id)
             and message_id = any($2)"#,
        organization.0,
        message_ids,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Known {
            message_id: row.message_id,
            ticket: row.ticket_id.into(),
            ours: row.ours,
            address: row.address,
            is_internal: row.is_internal,
        })
        .collect())
}

/// The public conversation of a ticket as `reader` knows it, oldest first, at most the last 20 messages: what came in, and
/// what we sent to that address. The ids of our other mails are for those to whom they went: who knows one may write in
/// their place.
pub async fn conversation(tx: &mut Tx, ticket: TicketId, reader: &EmailAddress) -> Result<Vec<Known>> {
    let mut rows = sqlx::query!(
        "select message_id, direction, address from mail_messages
         where ticket_id = $1 and not is_internal and (direction = 'in' or address = $2)
         order by created_at desc, id desc limit 20",
        ticket.0,
        reader.as_str(),
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.reverse();
    Ok(rows
        .into_iter()
        .map(|row| Known {
            message_id: row.message_id,
            ticket,
            ours: row.direction == "out",
            address: row.address,
            is_internal: false,
        })
        .collect())
}

/// Whether the very same mail is part of the ticket already: it came through another mailbox as well.
pub async fn is_on_ticket(tx: &mut Tx, ticket: TicketId, unique_key: &str) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from mail_messages m join inbox i on i.id = m.inbox_id
                          where m.ticket_id = $1 and m.direction = 'in' and i.unique_key = $2) as "found!""#,
        ticket.0,
        unique_key,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}

/// How many receipts this address got within the last `span`, and how many the whole organization sent.
pub async fn receipts(
    tx: &mut Tx,
    address: &EmailAddress,
    of_address: Duration,
    of_all: Duration,
) -> Result<(i64, i64)> {
    let (organization, now) = (tx.organization(), tx.now());
    let row = sqlx::query!(
        r#"select (select count(*) from mail_receipts
                   where organization_id = $1 and address = $2 and created_at > $3) as "address!",
                  (select count(*) from (select from mail_receipts
                   where organization_id = $1 and created_at > $4 limit 10000) as recent) as "all!""#,
        organization.0,
        address.as_str(),
        now - of_address,
        now - of_all,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok((row.address, row.all))
}

/// Holds back other receipts to the same address until this transaction ends, so that a budget is counted exactly.
pub async fn lock_receipts(tx: &mut Tx, address: &EmailAddress) -> Result<()> {
    let key = format!("{}:{address}", tx.organization());
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('mail_receipts:' || $1, 0))", key)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// False when the ticket had its receipt already.
pub async fn note_receipt(tx: &mut Tx, ticket: TicketId, address: &EmailAddress) -> Result<bool> {
    let (organization, now) = (tx.organization(), tx.now());
    let done = sqlx::query!(
        "insert into mail_receipts (ticket_id, organization_id, address, created_at) values ($1, $2, $3, $4)
         on conflict on constraint mail_receipts_pkey do nothing",
        ticket.0,
        organization.0,
        address.as_str(),
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}
