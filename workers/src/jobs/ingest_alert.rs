//! A kept monitoring payload opens, updates or resolves incidents, in the transaction that ends the job. Payloads of the same
//! source that wait go along with it: in a storm the cost is that of transactions, not of alerts. What is left of a
//! large payload goes on in a job that the same transaction enqueues. One that keeps failing for reasons of its own is set
//! aside as `failed` after three tries.

use crate::patience::{TRIES, is_passing};
use crate::{Shared, organization_of, suspension};
use actions::alerts::{GROUPS, Ingested, Payload, count};
use actions::jobs::{AlertProgress, IngestAlert};
use domain::alert::{AlertSourceKind, Notification};
use domain::{Actor, InboxId, OrganizationId};
use queue::trace::TraceContext;
use queue::{Along, JobError, JobResult, Outcome, Run, Running};
use std::collections::HashMap;
use store::Tx;
use store::alert_sources::AlertSource;
use store::inbox::{Finish, Inbox, Status};

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
    let mut came_along = false;
    let first = attempt(args, job, shared, organization, GROUPS, &mut came_along).await;
    let is_bad = match &first {
        Ok(attempt) => matches!(attempt, Attempt::Bad(_)),
        Err(JobError::Retry(error)) => !is_passing(error),
        Err(_) => false,
    };
    // One of those that came along may be the cause; each shows by itself.
    let last = match first {
        _ if is_bad && came_along => attempt(args, job, shared, organization, 0, &mut false).await?,
        first => first?,
    };
    match last {
        Attempt::Over(outcome) => Ok(outcome),
        Attempt::Bad(reason) => set_aside(args.inbox, job, shared, organization, &reason).await,
    }
}

enum Attempt {
    Over(Outcome),
    /// For good, and why. What the attempt wrote is undone.
    Bad(String),
}

/// What comes along is read while a transaction is open: not more than this of it.
const BYTES: i64 = 1 << 20;

/// A payload that is worked on.
struct Work {
    inbox: Inbox,
    notification: Notification,
    skip: usize,
    trace: Option<TraceContext>,
}

impl Work {
    fn payload(&self) -> Payload<'_> {
        Payload {
            notification: &self.notification,
            received_at: self.inbox.entry.received_at,
            skip: self.skip,
            trace: self.trace,
        }
    }
}

/// `most`: groups of other payloads of the source that may come along, where there is room for them.
async fn attempt(
    args: &IngestAlert,
    job: &Running,
    shared: &Shared,
    organization: OrganizationId,
    most: usize,
    came_along: &mut bool,
) -> Result<Attempt, JobError> {
    let mut tx = match suspension::waits(shared.db.begin(organization).await?, args.inbox).await? {
        Ok(tx) => tx,
        Err(waits) => return Ok(Attempt::Over(waits)),
    };
    let inbox = match pending(&mut tx, args.inbox).await? {
        Ok(inbox) => inbox,
        Err(why) => return Ok(Attempt::Over(Outcome::Cancelled(why))),
    };
    let source = match store::alert_sources::get(&mut tx, inbox.entry.channel_id.into()).await {
        Err(store::Error::NotFound) => return Ok(Attempt::Bad("its alert source was deleted".into())),
        other => other?,
    };
    let notification = match parse(&source, &inbox) {
        Ok(notification) => notification,
        Err(reason) => return Ok(Attempt::Bad(reason)),
    };
    let left = notification.groups(source.grouping).len().saturating_sub(args.done);
    let mut works = vec![Work { inbox, notification, skip: args.done, trace: None }];
    let along = take_along(&mut tx, job, &source, most.saturating_sub(left), &mut works).await?;
    *came_along = !along.is_empty();

    let payloads: Vec<Payload<'_>> = works.iter().map(Work::payload).collect();
    let actor = Actor::system(organization, "ingest_alert");
    let done = match actions::alerts::ingest(&mut tx, &actor, &source, &payloads).await {
        Ok(done) => done,
        Err(error) => {
            let reason = reason(error)?;
            tx.rollback().await?;
            return Ok(Attempt::Bad(reason));
        }
    };
    if left > GROUPS {
        let next =
            IngestAlert { inbox: args.inbox, done: args.done + GROUPS, so_far: Some(sum(args, &done[0])) };
        actions::enqueue(&mut tx, &[queue::NewJob::of(&next).organization(organization)]).await?;
    } else {
        let jobs = [args].into_iter().chain(along.iter().map(|along| &along.args));
        let finishes: Vec<Finish> = jobs.zip(&done).map(|(args, done)| finish(args, done)).collect();
        store::inbox::finish_all(&mut tx, &finishes).await?;
    }
    job.complete_along(&mut tx, &along).await?;
    job.complete_in(&mut tx).await?;
    tx.commit().await?;
    for one in done.iter().flatten() {
        count(source.kind, one.outcome.as_str());
    }
    Ok(Attempt::Over(Outcome::Done))
}

/// Adds waiting payloads of the same source, as many as have room. What cannot be read stays behind: it fails by itself.
async fn take_along(
    tx: &mut Tx,
    job: &Running,
    source: &AlertSource,
    mut room: usize,
    works: &mut Vec<Work>,
) -> Result<Vec<Along<IngestAlert>>, JobError> {
    let mut jobs: Vec<Along<IngestAlert>> = job.take_along(tx, room).await?;
    let own = works.first().map(|work| work.inbox.entry.id);
    jobs.retain(|job| job.args.done == 0 && Some(job.args.inbox) != own);
    if jobs.is_empty() {
        return Ok(jobs);
    }
    let ids: Vec<InboxId> = jobs.iter().map(|job| job.args.inbox).collect();
    let ids = store::inbox::waiting(tx, source.id.0, &ids, BYTES).await?;
    let rows = store::inbox::get_all_for_update(tx, &ids).await?;
    let mut rows: HashMap<InboxId, Inbox> = rows.into_iter().map(|inbox| (inbox.entry.id, inbox)).collect();
    jobs.retain(|job| {
        let Some(inbox) = rows.remove(&job.args.inbox) else { return false };
        if inbox.entry.status != Status::Pending {
            return false;
        }
        let Ok(notification) = parse(source, &inbox) else { return false };
        let groups = notification.groups(source.grouping).len();
        if groups > room {
            return false;
        }
        room -= groups;
        works.push(Work { inbox, notification, skip: 0, trace: Some(job.trace) });
        true
    });
    Ok(jobs)
}

fn parse(source: &AlertSource, inbox: &Inbox) -> Result<Notification, String> {
    connectors::monitoring::parse(source.kind, &inbox.raw, inbox.entry.received_at)
        .map_err(|invalid| invalid.to_string())
}

/// Why it is bad for good; an error that is worth a retry stays one.
fn reason(error: actions::Error) -> Result<String, JobError> {
    match error {
        error @ (actions::Error::Store(_) | actions::Error::Enqueue(_) | actions::Error::Stale) => {
            Err(error.into())
        }
        actions::Error::Invalid(wrong) => {
            let texts: Vec<_> =
                wrong.iter().map(|field| format!("{}: {}", field.pointer, field.detail)).collect();
            Ok(texts.join("; "))
        }
        error => Ok(error.to_string()),
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

/// What the payload has come to with these groups.
fn sum(args: &IngestAlert, done: &[Ingested]) -> AlertProgress {
    let before = args.so_far.unwrap_or_default();
    AlertProgress {
        used: before.used || done.iter().any(|one| one.outcome.reason().is_none()),
        incident: before.incident.or_else(|| done.iter().find_map(|one| one.incident)),
    }
}

fn finish(args: &IngestAlert, done: &[Ingested]) -> Finish {
    let all = sum(args, done);
    let reason = if all.used { None } else { done.iter().find_map(|one| one.outcome.reason()) };
    let status = if all.used { Status::Processed } else { Status::Ignored };
    Finish { id: args.inbox, status, reason: reason.map(str::to_owned), ticket: all.incident }
}
