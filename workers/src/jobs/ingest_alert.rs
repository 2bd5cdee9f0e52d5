//! A kept monitoring payload opens, updates or resolves incidents; all of it in the transaction that ends the job. One that
//! keeps failing for reasons of its own is set aside as `failed` after three tries.

use crate::patience::{TRIES, is_passing};
use crate::{Shared, organization_of};
use actions::alerts::{Ingested, count};
use actions::jobs::IngestAlert;
use domain::alert::AlertSourceKind;
use domain::{Actor, InboxId, OrganizationId};
use queue::{JobError, JobResult, Outcome, Run, Running};
use store::Tx;
use store::inbox::{Inbox, Status};

impl Run<Shared> for IngestAlert {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        match work(self.inbox, job, shared, organization).await {
            Err(JobError::Retry(error)) if job.attempt >= TRIES && !is_passing(&error) => {
                let why = format!("it could not be processed: {error:#}");
                set_aside(self.inbox, job, shared, organization, &why).await
            }
            result => result,
        }
    }
}

async fn work(id: InboxId, job: &Running, shared: &Shared, organization: OrganizationId) -> JobResult {
    let mut tx = shared.db.begin(organization).await?;
    let inbox = match pending(&mut tx, id).await? {
        Ok(inbox) => inbox,
        Err(why) => return Ok(Outcome::Cancelled(why)),
    };
    match ingest(&mut tx, organization, &inbox).await? {
        Ok(done) => {
            finish(&mut tx, id, &done).await?;
            job.complete_in(&mut tx).await?;
            tx.commit().await?;
            for one in &done {
                count(kind(&inbox), one.outcome.as_str());
            }
            Ok(Outcome::Done)
        }
        Err(reason) => {
            // What the attempt wrote is undone; that it failed is kept.
            tx.rollback().await?;
            set_aside(id, job, shared, organization, &reason).await
        }
    }
}

/// The row, held until the end of the transaction; or why there is nothing to do for it.
async fn pending(tx: &mut Tx, id: InboxId) -> Result<Result<Inbox, String>, store::Error> {
    let inbox = match store::inbox::get_for_update(tx, id).await {
        Err(store::Error::NotFound) => return Ok(Err("the inbox row is gone".into())),
        other => other?,
    };
    match inbox.entry.status {
        Status::Pending => Ok(Ok(inbox)),
        status => Ok(Err(format!("the inbox row is {status} already"))),
    }
}

/// Keeps the payload where people see it, with the reason. It can be replayed.
async fn set_aside(
    id: InboxId,
    job: &Running,
    shared: &Shared,
    organization: OrganizationId,
    reason: &str,
) -> JobResult {
    let mut tx = shared.db.begin(organization).await?;
    let inbox = match pending(&mut tx, id).await? {
        Ok(inbox) => inbox,
        Err(why) => return Ok(Outcome::Cancelled(why)),
    };
    store::inbox::finish(&mut tx, id, Status::Failed, Some(reason), None).await?;
    job.complete_in(&mut tx).await?;
    tx.commit().await?;
    count(kind(&inbox), "failed");
    tracing::warn!(inbox.id = %id, reason, "a monitoring payload could not be used");
    Ok(Outcome::Done)
}

/// The inbox calls its row after the kind of the source.
fn kind(inbox: &Inbox) -> AlertSourceKind {
    inbox.entry.source.parse().unwrap_or(AlertSourceKind::Generic)
}

/// The inner `Err` is for good, and says why; the outer one is worth a retry.
async fn ingest(
    tx: &mut Tx,
    organization: OrganizationId,
    inbox: &Inbox,
) -> Result<Result<Vec<Ingested>, String>, JobError> {
    let source = match store::alert_sources::get(tx, inbox.entry.channel_id.into()).await {
        Err(store::Error::NotFound) => return Ok(Err("its alert source was deleted".into())),
        other => other?,
    };
    let received_at = inbox.entry.received_at;
    let notification = match connectors::monitoring::parse(source.kind, &inbox.raw, received_at) {
        Ok(notification) => notification,
        Err(invalid) => return Ok(Err(invalid.to_string())),
    };
    let actor = Actor::system(organization, "ingest_alert");
    match actions::alerts::ingest(tx, &actor, &source, &notification, received_at).await {
        Ok(done) => Ok(Ok(done)),
        Err(error @ (actions::Error::Store(_) | actions::Error::Enqueue(_) | actions::Error::Stale)) => {
            Err(error.into())
        }
        Err(actions::Error::Invalid(wrong)) => {
            let texts: Vec<_> =
                wrong.iter().map(|field| format!("{}: {}", field.pointer, field.detail)).collect();
            Ok(Err(texts.join("; ")))
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}

async fn finish(tx: &mut Tx, id: InboxId, done: &[Ingested]) -> Result<(), store::Error> {
    let incident = done.iter().find_map(|one| one.incident);
    let ignored = done.iter().all(|one| one.outcome.reason().is_some());
    let reason = if ignored { done.iter().find_map(|one| one.outcome.reason()) } else { None };
    let status = if ignored { Status::Ignored } else { Status::Processed };
    store::inbox::finish(tx, id, status, reason, incident).await
}
