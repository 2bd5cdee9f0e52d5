//! Raw input: kept with its job in one transaction, replayed after a fix.

use crate::jobs::{IngestAlert, IngestMail};
use crate::{Error, Result};
use chrono::{DateTime, Utc};
use domain::permission::{self, Permission};
use domain::{Actor, EmailAddress, InboxId, MailboxId, mail};
use prometheus::{IntGauge, register_int_gauge};
use queue::{NewJob, Unique};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::sync::LazyLock;
use store::inbox::{Entry, Kept, NewInbox, Status};
use store::{Db, Tx};
use uuid::Uuid;

/// The source of everything that came as mail, whichever way.
pub const MAIL: &str = "mail";

/// Of all mailboxes together: which ones there are belongs to their organizations.
static LAST_MAIL: LazyLock<IntGauge> = LazyLock::new(|| {
    register_int_gauge!(
        "relaydesk_mailbox_last_success_timestamp_seconds",
        "When this process last kept a mail, as a Unix time"
    )
    .expect("a metric is registered once")
});

/// What a row whose body was too large has beside it: how many bytes it had. The row is there to be seen.
pub const NOT_KEPT: &str = "not_kept_bytes";

/// Jobs that a row gets from the sweep before it is set aside.
const RESCUES: i32 = 3;

/// What was said around a message; kept beside it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MailEnvelope {
    /// `smtp`, `hook` or `command`.
    pub via: String,
    /// MAIL FROM; the empty text is the null sender. `None`: it did not come by SMTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail_from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helo: Option<String>,
}

/// Keeps a raw message for one mailbox and enqueues its job. The same mail twice is kept once, whatever way it took.
///
/// `raw` may begin with trace headers of our own: they don't count for what makes it the same mail.
pub async fn keep_mail(tx: &mut Tx, mailbox: MailboxId, raw: &[u8], envelope: &MailEnvelope) -> Result<Kept> {
    let unique_key = identity(raw);
    let new = NewInbox {
        id: InboxId::new(),
        source: MAIL,
        channel_id: mailbox.0,
        unique_key: &unique_key,
        content_type: "message/rfc822",
        raw,
        headers: serde_json::to_value(envelope).unwrap_or_default(),
    };
    let kept = store::inbox::keep(tx, &new).await?;
    if let Kept::New(id) = kept {
        enqueue(tx, MAIL, id).await?;
    }
    kept_mail(tx.now());
    Ok(kept)
}

pub(crate) fn kept_mail(at: DateTime<Utc>) {
    LAST_MAIL.set(LAST_MAIL.get().max(at.timestamp()));
}

/// Keeps a raw message for the mailbox with this address: the whole of `relaydesk mail ingest`. When it returns, the
/// message is durable.
pub async fn ingest(db: &Db, address: &EmailAddress, raw: &[u8], via: &str) -> Result<Kept> {
    let mut tx = db.begin_presenting(address.as_str()).await?;
    let found = store::mailboxes::by_address(&mut tx, address).await?.ok_or(Error::NotFound)?;
    tx.enter(found.organization).await?;
    let envelope = MailEnvelope { via: via.to_owned(), ..MailEnvelope::default() };
    let kept = keep_mail(&mut tx, found.mailbox, raw, &envelope).await?;
    tx.commit().await?;
    Ok(kept)
}

/// Works a kept message or payload again, for example after a fix. What has become a ticket stays as it is: a second
/// run would be a second ticket.
pub async fn replay(tx: &mut Tx, actor: &Actor, id: InboxId) -> Result<(Entry, queue::JobId)> {
    permission::check(actor, Permission::InboxReplay)?;
    let entry = store::inbox::get_for_update(tx, id).await?.entry;
    if entry.status == Status::Processed {
        return Err(Error::conflict("it was processed: replaying it would do the same again"));
    }
    if entry.headers.get(NOT_KEPT).is_some() {
        return Err(Error::conflict(
            "it was too large, and its body was not kept: there is nothing to replay",
        ));
    }
    store::inbox::reset(tx, id).await?;
    let job = enqueue(tx, &entry.source, id).await?;
    Ok((store::inbox::entry(tx, id).await?, job))
}

/// A pending row whose job was cancelled or given up gets another; after a few of them it fails, where people see it. `rescues`:
/// how often it got one already.
pub async fn rescue(tx: &mut Tx, id: InboxId, rescues: i32) -> Result<()> {
    let entry = store::inbox::get_for_update(tx, id).await?.entry;
    if entry.status != Status::Pending {
        return Ok(());
    }
    if rescues >= RESCUES {
        let why = "its jobs were cancelled or given up time and again: see the dead jobs, then replay it";
        return Ok(store::inbox::finish(tx, id, Status::Failed, Some(why), None).await?);
    }
    store::inbox::count_rescue(tx, id).await?;
    enqueue(tx, &entry.source, id).await?;
    Ok(())
}

/// Enqueues the job of a kept row; for the sweep too, when one got lost.
pub async fn enqueue(tx: &mut Tx, source: &str, id: InboxId) -> Result<queue::JobId> {
    let job = match source {
        MAIL => NewJob::of(&IngestMail { inbox: id }),
        _ => NewJob::of(&IngestAlert::new(id)),
    };
    let organization: Uuid = tx.organization().into();
    let job = job.organization(organization).unique(format!("inbox:{id}"), Unique::WhileUnfinished);
    let jobs = crate::enqueue(tx, &[job]).await?;
    jobs.first().copied().ok_or(Error::NotFound)
}

/// What makes it the same mail when it comes again.
pub fn identity(raw: &[u8]) -> String {
    let mut hash = Sha256::new();
    mail::identity::feed(raw, |piece| hash.update(piece));
    hex::encode(hash.finalize())
}
