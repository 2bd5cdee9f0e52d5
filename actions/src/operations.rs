//! What operators do with jobs and lanes: try again, cancel, put away; pause, resume, limit.
//!
//! Jobs belong to an organization (or to none: those are for the command line). Lanes are shared by all tenants, so only the
//! organization that operates the installation touches them (docs/adr/0071-operator-organization.md).

use crate::jobs::{ManageJobs, Managed, lane};
use crate::organizations::{require_operator, require_operator_of};
use crate::{Error, Result, events, jobs};
use domain::{Actor, Permission, Who, permission};
use queue::admin::{
    self, AdminError, Bulk, Cancelled, Filter, LaneView, LimitChange, LimitView, Matches, Note, Page, Verb,
};
use queue::{JobId, NewJob};
use serde_json::{Value, json};
use std::time::Duration;
use store::Tx;
use store::organizations::Organization;

/// The longest reason that is kept.
const REASON: usize = 500;

impl From<AdminError> for Error {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::NotFound => Error::NotFound,
            AdminError::WrongState { .. } | AdminError::KeyTaken { .. } => Error::Conflict(error.to_string()),
            AdminError::Args(_) => Error::invalid("/args", error.to_string()),
            AdminError::WrongFilter(_) => Error::invalid("/filter/state", error.to_string()),
            AdminError::Database(error) => Error::Store(error.into()),
        }
    }
}

fn note(actor: &Actor, reason: Option<&str>) -> Result<Note> {
    let reason = reason.map(str::trim).filter(|reason| !reason.is_empty());
    if reason.is_some_and(|reason| reason.chars().count() > REASON) {
        return Err(Error::invalid("/reason", format!("must be {REASON} characters at most")));
    }
    Ok(Note::by(actor.label()).because(reason.map(str::to_owned)))
}

/// The organization's jobs, newest first.
pub async fn list(
    tx: &mut Tx,
    actor: &Actor,
    filter: &Filter,
    after: Option<JobId>,
    limit: i64,
) -> Result<Page> {
    permission::check(actor, Permission::JobsRead)?;
    know_lanes(tx).await?;
    let found = admin::list(tx, filter, Some(actor.organization.0), after, limit).await;
    Ok(found.map_err(store::Error::from)?)
}

/// All lanes, with the organization's jobs in them.
pub async fn lanes(tx: &mut Tx, actor: &Actor) -> Result<Vec<LaneView>> {
    permission::check(actor, Permission::LanesRead)?;
    know_lanes(tx).await?;
    Ok(admin::lanes(tx, Some(actor.organization.0)).await.map_err(store::Error::from)?)
}

/// The lines of one organization are found by the names of the lanes, also before a worker has registered them.
async fn know_lanes(tx: &mut Tx) -> Result<()> {
    Ok(admin::know_lanes(tx, &lane::ALL).await.map_err(store::Error::from)?)
}

/// A dead or scheduled job runs now, if wanted with other arguments.
pub async fn retry(
    tx: &mut Tx,
    actor: &Actor,
    job: JobId,
    args: Option<&Value>,
    reason: Option<&str>,
) -> Result<()> {
    permission::check(actor, Permission::JobsManage)?;
    let (organization, note) = (Some(actor.organization.0), note(actor, reason)?);
    match args {
        Some(args) => admin::edit(tx, &jobs::catalogue(), job, organization, args, &note).await?,
        None => admin::retry(tx, job, organization, &note).await?,
    }
    let fact = json!({"job": job, "reason": note.why, "edited": args.is_some()});
    events::record(tx, actor, "job.retried", None, fact).await?;
    Ok(())
}

/// A waiting job is over at once, a running one is told to stop.
pub async fn cancel(tx: &mut Tx, actor: &Actor, job: JobId, reason: Option<&str>) -> Result<Cancelled> {
    permission::check(actor, Permission::JobsManage)?;
    let note = note(actor, reason)?;
    let cancelled = admin::cancel(tx, job, Some(actor.organization.0), &note).await?;
    events::record(tx, actor, "job.cancelled", None, json!({"job": job, "reason": note.why})).await?;
    Ok(cancelled)
}

/// A dead job is put away.
pub async fn discard(tx: &mut Tx, actor: &Actor, job: JobId, reason: Option<&str>) -> Result<()> {
    permission::check(actor, Permission::JobsManage)?;
    let note = note(actor, reason)?;
    admin::discard(tx, job, Some(actor.organization.0), &note).await?;
    events::record(tx, actor, "job.discarded", None, json!({"job": job, "reason": note.why})).await?;
    Ok(())
}

/// How many jobs of the organization [`manage`] would change.
pub async fn count(tx: &mut Tx, actor: &Actor, verb: Verb, filter: Filter) -> Result<Matches> {
    permission::check(actor, Permission::JobsManage)?;
    know_lanes(tx).await?;
    let bulk = Bulk::new(tx, verb, filter, Note::default()).await?;
    Ok(bulk.count(tx, Some(actor.organization.0)).await.map_err(store::Error::from)?)
}

/// Retries, cancels or discards all jobs of the organization that the filter finds: a job does it, whose id is answered.
pub async fn manage(
    tx: &mut Tx,
    actor: &Actor,
    verb: Verb,
    filter: Filter,
    reason: Option<&str>,
) -> Result<JobId> {
    permission::check(actor, Permission::JobsManage)?;
    let id = JobId::new();
    let bulk = Bulk::new(tx, verb, filter, note(actor, reason)?).await?;
    let bulk = Bulk { except: Some(id.0), ..bulk };
    let fact = json!({"job": id, "action": verb, "filter": bulk.filter, "reason": bulk.note.why});
    crate::enqueue(tx, &[NewJob::of(&ManageJobs { bulk }).organization(actor.organization).id(id)]).await?;
    events::record(tx, actor, "jobs.managing", None, fact).await?;
    Ok(id)
}

/// How far the job `id`, which manages others, has come.
pub async fn managed_so_far(tx: &mut Tx, actor: &Actor, id: JobId) -> Result<Managed> {
    let job = admin::show(tx, id, Some(actor.organization.0)).await?.job;
    Ok(job.progress.and_then(|progress| serde_json::from_value(progress).ok()).unwrap_or_default())
}

/// Does the next piece of it.
pub async fn manage_some(tx: &mut Tx, actor: &Actor, bulk: &Bulk, so_far: &mut Managed) -> Result<()> {
    if so_far.cursor == queue::admin::Cursor::default() {
        know_lanes(tx).await?;
    }
    let step = bulk.step(tx, Some(actor.organization.0), &mut so_far.cursor).await;
    so_far.jobs += step.map_err(store::Error::from)?.jobs;
    Ok(())
}

/// Says in the organization's log what was done to its jobs: by `job`, or by hand on the command line.
pub async fn managed(tx: &mut Tx, actor: &Actor, bulk: &Bulk, jobs: i64, job: Option<JobId>) -> Result<()> {
    let kind = format!("jobs.{}", bulk.verb.done());
    let fact = json!({"jobs": jobs, "job": job, "filter": bulk.filter, "reason": bulk.note.why, "by": bulk.note.actor});
    events::record(tx, actor, &kind, None, fact).await?;
    Ok(())
}

/// Running jobs of the lane go on, no new ones are begun, in no process.
pub async fn pause_lane(tx: &mut Tx, actor: &Actor, lane: &str) -> Result<()> {
    set_lane(tx, actor, lane, true).await
}

pub async fn resume_lane(tx: &mut Tx, actor: &Actor, lane: &str) -> Result<()> {
    set_lane(tx, actor, lane, false).await
}

async fn set_lane(tx: &mut Tx, actor: &Actor, lane: &str, paused: bool) -> Result<()> {
    operate(tx, actor).await?;
    let known = match paused {
        true => admin::pause(tx, lane).await,
        false => admin::resume(tx, lane).await,
    };
    if !known.map_err(store::Error::from)? {
        return Err(Error::NotFound);
    }
    let kind = if paused { "lane.paused" } else { "lane.resumed" };
    events::record(tx, actor, kind, None, json!({"lane": lane})).await?;
    tracing::warn!(lane, paused, actor = actor.label(), "lane");
    Ok(())
}

/// What all tenants share is changed by the operator's organization only.
async fn operate(tx: &mut Tx, actor: &Actor) -> Result<()> {
    permission::check(actor, Permission::LanesManage)?;
    if matches!(actor.who, Who::User { .. }) {
        require_operator(tx).await?;
    }
    Ok(())
}

/// What is to be different about a lane; what is `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct LaneChange {
    /// Jobs that run at once in all processes; `Some(None)`: as the program says.
    pub at_once: Option<Option<u32>>,
    /// Waiting time that a point of priority is worth.
    pub aging: Option<Duration>,
}

pub async fn change_lane(tx: &mut Tx, actor: &Actor, lane: &str, change: LaneChange) -> Result<()> {
    operate(tx, actor).await?;
    if change.aging.is_some_and(|aging| aging > Duration::from_secs(86_400)) {
        return Err(Error::invalid("/aging_seconds", "must be a day (86400) at most"));
    }
    let mut known = lane::ALL.contains(&lane);
    if let Some(at_once) = change.at_once {
        known = admin::limit_lane(tx, lane, at_once).await.map_err(store::Error::from)?;
    }
    if let Some(aging) = change.aging {
        known = admin::set_aging(tx, lane, aging).await.map_err(store::Error::from)?;
    }
    if !known {
        return Err(Error::NotFound);
    }
    let fact = json!({"lane": lane, "at_once": change.at_once, "aging_seconds": change.aging.map(|aging| aging.as_secs())});
    events::record(tx, actor, "lane.changed", None, fact).await?;
    Ok(())
}

/// The limits of kinds, with the organization's jobs that hold places or wait.
pub async fn limits(tx: &mut Tx, actor: &Actor) -> Result<Vec<LimitView>> {
    permission::check(actor, Permission::LanesRead)?;
    Ok(admin::limits(tx, Some(actor.organization.0)).await.map_err(store::Error::from)?)
}

/// Puts other numbers in force for all tenants; without any, those of the program again.
pub async fn change_limit(tx: &mut Tx, actor: &Actor, name: &str, change: LimitChange) -> Result<()> {
    operate(tx, actor).await?;
    let limits = admin::limits(tx, Some(actor.organization.0)).await.map_err(store::Error::from)?;
    let limit = limits.into_iter().find(|limit| limit.name == name).ok_or(Error::NotFound)?;
    if limit.per_second.is_some() && change.at_once.is_some() {
        return Err(Error::invalid("/at_once", "this limit is a rate: give per_second"));
    }
    if limit.at_once.is_some() && (change.per_second.is_some() || change.burst.is_some()) {
        return Err(Error::invalid("/per_second", "this limit is of so many at once: give at_once"));
    }
    if change.per_second.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        return Err(Error::invalid("/per_second", "must be more than 0"));
    }
    admin::set_limit(tx, name, change).await.map_err(store::Error::from)?;
    let fact = json!({"limit": name, "at_once": change.at_once, "per_second": change.per_second, "burst": change.burst});
    events::record(tx, actor, "limit.changed", None, fact).await?;
    Ok(())
}

/// An organization, and its share of a lane in which several wait, as a multiple of the usual share.
#[derive(Clone, Debug)]
pub struct TenantView {
    pub organization: Organization,
    pub weight: f32,
}

/// All organizations. `tx` is a system transaction.
pub async fn tenants(tx: &mut Tx, actor: &Actor) -> Result<Vec<TenantView>> {
    permission::check(actor, Permission::LanesRead)?;
    require_operator_of(tx, actor.organization).await?;
    let weights = admin::weights(tx).await.map_err(store::Error::from)?;
    let weight = |organization: &Organization| {
        weights.iter().find(|of| of.organization == organization.id.0).map_or(1.0, |of| of.weight)
    };
    let all = store::organizations::all(tx).await?;
    let with_weight = |organization| TenantView { weight: weight(&organization), organization };
    Ok(all.into_iter().map(with_weight).collect())
}

/// Gives an organization another share. `tx` is a system transaction and goes on in the actor's organization, in whose log it stands.
pub async fn set_weight(tx: &mut Tx, actor: &Actor, slug: &str, weight: f32) -> Result<()> {
    permission::check(actor, Permission::LanesManage)?;
    require_operator_of(tx, actor.organization).await?;
    if !(0.01..=1000.0).contains(&weight) {
        return Err(Error::invalid("/weight", "must be from 0.01 to 1000; 1 is the usual share"));
    }
    let organization = store::organizations::find_by_slug(tx, slug).await?.ok_or(Error::NotFound)?;
    admin::set_weight(tx, organization.0, weight).await.map_err(store::Error::from)?;
    tx.enter(actor.organization).await?;
    let fact = json!({"organization": organization, "slug": slug, "weight": weight});
    events::record(tx, actor, "tenant.changed", None, fact).await?;
    Ok(())
}
