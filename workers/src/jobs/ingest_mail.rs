//! A kept message becomes a ticket, a comment, or nothing (and why), in the transaction that ends the job.
//!
//! Reading and storing attachments happen before it; a second run finds the same files there. A message that keeps
//! failing for reasons of its own is set aside as `failed` after three tries, so that it stops nobody else.

use crate::patience::{TRIES, is_passing};
use crate::{Shared, large, organization_of, suspension};
use actions::inbox::MailEnvelope;
use actions::jobs::IngestMail;
use actions::mail::{Incoming, Outcome as Done, Words, take_in};
use actions::tickets::StoredAttachment;
use connectors::mail::parse;
use domain::mail::Mail;
use domain::mail::automatic::ReturnPath;
use domain::ticket::file_type;
use domain::{Actor, InboxId, OrganizationId};
use prometheus::{IntCounterVec, register_int_counter_vec};
use queue::{JobError, JobResult, Outcome, Run, Running};
use std::sync::LazyLock;
use std::time::Duration;
use store::Tx;
use store::inbox::{Entry, Status};
use store::mailboxes::Mailbox;
use templates::mail::Receipt;

#[expect(clippy::expect_used, reason = "the name is registered once")]
static INGESTED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!("relaydesk_mail_ingest_total", "What became of mails", &["outcome"])
        .expect("a metric that can be registered")
});

/// For room for a large mail; much shorter than the job may take.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

impl Run<Shared> for IngestMail {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        let size = match size(shared, organization, self.inbox).await? {
            Ok(size) => size,
            Err(waits) => return Ok(waits),
        };
        let Ok(_room) = large::room_within(size, LONGEST_WAIT).await else {
            return Ok(Outcome::Snooze(LONGEST_WAIT));
        };
        let (entry, raw, mailbox) = match open(shared, organization, self.inbox).await? {
            Ok(found) => found,
            Err(why) => return Ok(Outcome::Cancelled(why)),
        };
        // HTML of strangers can keep a core busy for a while: not on the threads that serve everybody.
        let mail = match tokio::task::spawn_blocking(move || parse(&raw)).await? {
            Ok(mail) => mail,
            Err(why) => return set_aside(job, shared, organization, &entry, &why.to_string()).await,
        };
        let files = store_files(shared, organization, &mail).await?;
        match work(job, shared, organization, &entry, &mailbox, &mail, files).await {
            Ok(None) => Ok(Outcome::Cancelled("another run was faster".into())),
            Ok(Some(done)) => {
                INGESTED.with_label_values(&[done.label()]).inc();
                tracing::info!(inbox.id = %self.inbox, outcome = done.label(), ?done, "mail taken in");
                Ok(Outcome::Done)
            }
            Err(JobError::Retry(error)) if job.attempt >= TRIES && !is_passing(&error) => {
                set_aside(job, shared, organization, &entry, &format!("it could not be processed: {error:#}"))
                    .await
            }
            Err(error) => Err(error),
        }
    }
}

/// What a row that is gone holds is nothing; [`open`] says so.
async fn size(
    shared: &Shared,
    organization: OrganizationId,
    id: InboxId,
) -> anyhow::Result<Result<usize, Outcome>> {
    let mut tx = match suspension::waits(shared.db.begin(organization).await?, id).await? {
        Ok(tx) => tx,
        Err(waits) => return Ok(Err(waits)),
    };
    let size = store::inbox::size(&mut tx, id).await?;
    tx.rollback().await?;
    Ok(Ok(size))
}

type Found = (Entry, Vec<u8>, Mailbox);

async fn open(
    shared: &Shared,
    organization: OrganizationId,
    id: InboxId,
) -> anyhow::Result<Result<Found, String>> {
    let mut tx = shared.db.begin(organization).await?;
    let inbox = match store::inbox::get(&mut tx, id).await {
        Err(store::Error::NotFound) => return Ok(Err("the inbox row is gone".into())),
        other => other?,
    };
    if inbox.entry.status != Status::Pending {
        return Ok(Err(format!("the inbox row is {} already", inbox.entry.status)));
    }
    let mailbox = match store::mailboxes::get(&mut tx, inbox.entry.channel_id.into()).await {
        Err(store::Error::NotFound) => {
            let why = "its mailbox was deleted";
            store::inbox::finish(&mut tx, id, Status::Failed, Some(why), None).await?;
            tx.commit().await?;
            return Ok(Err(why.into()));
        }
        other => other?,
    };
    Ok(Ok((inbox.entry, inbox.raw, mailbox)))
}

/// The one transaction: what the mail does, its receipt, its inbox row, the end of the job.
async fn work(
    job: &Running,
    shared: &Shared,
    organization: OrganizationId,
    entry: &Entry,
    mailbox: &Mailbox,
    mail: &Mail,
    files: Vec<StoredAttachment>,
) -> Result<Option<Done>, JobError> {
    let mut tx = shared.db.begin(organization).await?;
    // Another run of a replayed row waits here, and then sees that there is nothing left to do.
    if store::inbox::lock(&mut tx, entry.id).await? != Status::Pending {
        return Ok(None);
    }
    let actor = Actor::system(organization, "ingest_mail");
    let envelope: MailEnvelope = serde_json::from_value(entry.headers.clone()).unwrap_or_default();
    let return_path = match envelope.mail_from.as_deref() {
        Some("") => ReturnPath::Null,
        Some(address) => ReturnPath::Address(address),
        None => connectors::mail::parse::return_path(mail),
    };
    let done = take_in(&mut tx, &actor, Incoming { entry, mailbox, mail, return_path, files }).await?;
    receipt(&mut tx, shared, mailbox, mail, &done).await?;
    job.complete_in(&mut tx).await?;
    tx.commit().await?;
    Ok(Some(done))
}

async fn receipt(
    tx: &mut Tx,
    shared: &Shared,
    mailbox: &Mailbox,
    mail: &Mail,
    done: &Done,
) -> anyhow::Result<()> {
    let Done::Opened { ticket, number, answer: Some((to, was_known)) } = done else {
        return Ok(());
    };
    let receipt = Receipt {
        number: number.clone(),
        desk: mailbox.name.clone(),
        subject: was_known.then(|| mail.title()),
    };
    let words = shared.templates.render_mail(&receipt)?;
    let words = Words { subject: words.subject, text: words.text, html: Some(words.html) };
    let name = if *was_known { mail.from.name.as_str() } else { "" };
    actions::mail::receipt(tx, *ticket, to, name, words).await?;
    Ok(())
}

async fn store_files(
    shared: &Shared,
    organization: OrganizationId,
    mail: &Mail,
) -> Result<Vec<StoredAttachment>, store::Error> {
    let mut files = Vec::with_capacity(mail.attachments.len());
    for attachment in &mail.attachments {
        let first = &attachment.bytes[..attachment.bytes.len().min(file_type::FIRST)];
        // A mail is kept as it came; what is not what it is called has no type that a program would open it by.
        let judged = file_type::judged(first, &attachment.file_name, &attachment.media_type);
        files.push(StoredAttachment {
            file_name: attachment.file_name.clone(),
            media_type: judged.unwrap_or_else(|_| "application/octet-stream".to_owned()),
            content_id: attachment.content_id.clone(),
            stored: shared.blobs.put(organization, &attachment.bytes).await?,
        });
    }
    Ok(files)
}

/// Keeps the message where people see it, with the reason. It can be replayed.
async fn set_aside(
    job: &Running,
    shared: &Shared,
    organization: OrganizationId,
    entry: &Entry,
    why: &str,
) -> JobResult {
    let mut tx = shared.db.begin(organization).await?;
    store::inbox::finish(&mut tx, entry.id, Status::Failed, Some(why), None).await?;
    job.complete_in(&mut tx).await?;
    tx.commit().await?;
    INGESTED.with_label_values(&["failed"]).inc();
    tracing::warn!(inbox.id = %entry.id, why, "a mail was set aside");
    Ok(Outcome::Done)
}
