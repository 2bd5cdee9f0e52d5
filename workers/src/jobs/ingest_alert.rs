//! A kept monitoring payload opens, updates or resolves incidents; all of it in the transaction that ends the job.

use crate::Shared;
use actions::alerts::{Ingested, count};
use actions::jobs::IngestAlert;
use domain::alert::AlertSourceKind;
use domain::{Actor, InboxId, OrganizationId};
use queue::{JobError, JobResult, Outcome, Run, Running};
use store::Tx;
use store::inbox::{Inbox, Status};

impl Run<Shared> for IngestAlert {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let Some(organization) = job.organization.map(OrganizationId) else {
            return Err(JobError::GiveUp(anyhow::anyhow!("the job has no organization")));
        };
        let mut tx = shared.db.begin(organization).await?;
        let inbox = match store::inbox::get_for_update(&mut tx, self.inbox).await {
            Err(store::Error::NotFound) => return Ok(Outcome::Cancelled("the inbox row is gone".into())),
            other => other?,
        };
        if inbox.entry.status != Status::Pending {
            return Ok(Outcome::Cancelled(format!("the inbox row is {} already", inbox.entry.status)));
        }
        match ingest(&mut tx, organization, &inbox).await? {
            Ok(done) => {
                finish(&mut tx, self.inbox, &done).await?;
                job.complete_in(&mut tx).await?;
                tx.commit().await?;
                for one in &done {
                    count(kind(&inbox), one.outcome.as_str());
                }
            }
            Err(reason) => {
                // What the attempt wrote is undone; that it failed is kept.
                tx.rollback().await?;
                let mut tx = shared.db.begin(organization).await?;
                store::inbox::finish(&mut tx, self.inbox, Status::Failed, Some(&reason), None).await?;
                job.complete_in(&mut tx).await?;
                tx.commit().await?;
                count(kind(&inbox), "failed");
                tracing::warn!(inbox.id = %self.inbox, reason, "a monitoring payload could not be used");
            }
        }
        Ok(Outcome::Done)
    }
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
