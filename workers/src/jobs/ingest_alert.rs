//! A kept monitoring payload opens, updates or resolves incidents, in the transaction that ends the job. What is left of a
//! large payload goes on in a job that the same transaction enqueues. One that keeps failing for reasons of its own is set
//! aside as `failed` after three tries.

use crate::patience::{TRIES, is_passing};
use crate::{Shared, organization_of};
use actions::alerts::{GROUPS, Ingested, count};
use actions::jobs::{AlertProgress, IngestAlert};
use domain::alert::AlertSourceKind;
use domain::{Actor, InboxId, OrganizationId};
use queue::{JobError, JobResult, Outcome, Run, Running};
use store::Tx;
use store::inbox::{Inbox, Status};

impl Run<Shared> for IngestAlert {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        match work(&self, job, shared, organization).await {
            Err(JobError::Retry(error)) if job.attempt >= TRIES && !is_passing(&error) => {
                let why = format!("it could not be processed: {error:#}");
                set_aside(self.inbox, job, shared, organization, &why).await
            }
            result => result,
        }
    }
}

async fn work(args: &IngestAlert, job: &Running, shared: &Shared, organization: OrganizationId) -> JobResult {
    let id = args.inbox;
    let mut tx = shared.db.begin(organization).await?;
    let inbox = match pending(&mut tx, id).await? {
        Ok(inbox) => inbox,
        Err(why) => return Ok(Outcome::Cancelled(why)),
    };
    match ingest(&mut tx, organization, &inbox, args.done).await? {
        Ok((done, true)) => {
            let next = IngestAlert { inbox: id, done: args.done + GROUPS, so_far: Some(sum(args, &done)) };
            let next = queue::NewJob::of(&next).organization(organization);
            queue::enqueue(&mut tx, &[next]).await?;
            job.complete_in(&mut tx).await?;
            tx.commit().await?;
            tell(&inbox, &done);
            Ok(Outcome::Done)
        }
        Ok((done, false)) => {
            finish(&mut tx, args, &done).await?;
            job.complete_in(&mut tx).await?;
            tx.commit().await?;
            tell(&inbox, &done);
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

fn tell(inbox: &Inbox, done: &[Ingested]) {
    for one in done {
        count(kind(inbox), one.outcome.as_str());
    }
}

/// The inbox calls its row after the kind of the source.
fn kind(inbox: &Inbox) -> AlertSourceKind {
    inbox.entry.source.parse().unwrap_or(AlertSourceKind::Generic)
}

/// The inner `Err` is for good, and says why; the outer one is worth a retry. With the groups that were done: whether there
/// are more.
async fn ingest(
    tx: &mut Tx,
    organization: OrganizationId,
    inbox: &Inbox,
    skip: usize,
) -> Result<Result<(Vec<Ingested>, bool), String>, JobError> {
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
    let more = notification.groups(source.grouping).len() > skip + GROUPS;
    match actions::alerts::ingest(tx, &actor, &source, &notification, received_at, skip).await {
        Ok(done) => Ok(Ok((done, more))),
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

/// What the payload has come to with these groups.
fn sum(args: &IngestAlert, done: &[Ingested]) -> AlertProgress {
    let before = args.so_far.unwrap_or_default();
    AlertProgress {
        used: before.used || done.iter().any(|one| one.outcome.reason().is_none()),
        incident: before.incident.or_else(|| done.iter().find_map(|one| one.incident)),
    }
}

async fn finish(tx: &mut Tx, args: &IngestAlert, done: &[Ingested]) -> Result<(), store::Error> {
    let all = sum(args, done);
    let reason = if all.used { None } else { done.iter().find_map(|one| one.outcome.reason()) };
    let status = if all.used { Status::Processed } else { Status::Ignored };
    store::inbox::finish(tx, args.inbox, status, reason, all.incident).await
}
