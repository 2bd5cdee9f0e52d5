//! Mails to the people of a ticket: queued in the transaction of what they tell, threaded with what came before.

use crate::Result;
use crate::deliveries::{self, NewMail};
use domain::mail::{automatic, message_id};
use domain::{EmailAddress, TicketId};
use std::time::Duration;
use store::Tx;
use store::deliveries::Mail;
use uuid::Uuid;

pub use store::deliveries::Words;

/// Of receipts, which strangers can make us send: so many an hour to one address, so many in ten minutes in all.
const RECEIPTS_OF_ADDRESS: (i64, Duration) = (10, Duration::from_secs(3600));
const RECEIPTS_OF_ALL: (i64, Duration) = (30, Duration::from_secs(600));

/// The receipt of a mail: at most one a ticket, within the budgets. False when it is held back.
pub async fn receipt(
    tx: &mut Tx,
    ticket: TicketId,
    to: &EmailAddress,
    name: &str,
    words: Words,
) -> Result<bool> {
    store::mail_messages::lock_receipts(tx, to).await?;
    let (of_address, of_all) =
        store::mail_messages::receipts(tx, to, RECEIPTS_OF_ADDRESS.1, RECEIPTS_OF_ALL.1).await?;
    if of_address >= RECEIPTS_OF_ADDRESS.0 || of_all >= RECEIPTS_OF_ALL.0 {
        tracing::info!(ticket.id = %ticket, of_address, of_all, "receipt held back: budget used up");
        return Ok(false);
    }
    if !store::mail_messages::note_receipt(tx, ticket, to).await? {
        return Ok(false);
    }
    let about = About {
        key: format!("ticket:{ticket}:receipt"),
        kind: "receipt",
        ticket,
        auto_submitted: Some("auto-replied"),
    };
    queue(tx, &about, to, name, words).await
}

/// A mail about a ticket to one of its people. `key`: asked for twice, sent once.
#[derive(Clone, Debug)]
pub struct About<'a> {
    pub key: String,
    /// Shown in the ledger: `receipt`, `public_reply`, `resolved`.
    pub kind: &'a str,
    pub ticket: TicketId,
    /// RFC 3834; `None` for what a person wrote.
    pub auto_submitted: Option<&'a str>,
}

pub async fn about_ticket(
    tx: &mut Tx,
    about: &About<'_>,
    to: &EmailAddress,
    name: &str,
    words: Words,
) -> Result<bool> {
    queue(tx, about, to, name, words).await
}

async fn queue(tx: &mut Tx, about: &About<'_>, to: &EmailAddress, name: &str, words: Words) -> Result<bool> {
    // Mail between our own mailboxes would be a loop.
    if automatic::nobody(to) || store::mailboxes::addresses(tx).await?.contains(to) {
        return Ok(false);
    }
    let mailbox = store::mailboxes::for_ticket(tx, about.ticket).await?;
    let conversation = store::mail_messages::conversation(tx, about.ticket, to).await?;
    let real = |id: &&str| !id.ends_with(".invalid");
    let references: Vec<String> =
        conversation.iter().map(|known| known.message_id.as_str()).filter(real).map(bracketed).collect();
    let answered = conversation.iter().rev().find(|known| !known.ours).map(|known| known.message_id.as_str());
    let in_reply_to = answered.filter(real).map(bracketed).or_else(|| references.last().cloned());
    let host = mailbox.as_ref().map_or("relaydesk.invalid", |mailbox| mailbox.address.host());
    let message_id = message_id::outgoing(Uuid::new_v4(), &ascii_host(host));
    let organization = tx.organization();
    let mail = NewMail {
        key: about.key.clone(),
        to: to.to_string(),
        message_kind: about.kind.to_owned(),
        ticket: Some(about.ticket),
        message_id: Some(bracketed(&message_id)),
        is_public: true,
        mail: Mail {
            from: mailbox.as_ref().map(|mailbox| mailbox.address.to_string()),
            from_name: mailbox.map(|mailbox| mailbox.name),
            to_name: (!name.is_empty()).then(|| name.to_owned()),
            in_reply_to,
            references,
            auto_submitted: about.auto_submitted.map(str::to_owned),
            words: Some(words),
            report: None,
            password_reset: None,
        },
        ..NewMail::default()
    };
    let queued = deliveries::queue_mail(tx, organization, mail).await?;
    Ok(queued.job.is_some())
}

fn bracketed(id: &str) -> String {
    format!("<{id}>")
}

/// Message-IDs are ASCII.
fn ascii_host(host: &str) -> String {
    if host.is_ascii() { host.to_owned() } else { "relaydesk.invalid".to_owned() }
}
