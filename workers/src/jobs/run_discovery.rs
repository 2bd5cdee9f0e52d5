//! Reads an inventory and reconciles the configuration items with it, or says what that would do.
//!
//! `start → read → parse → look → plan → carry out and record`; reading, parsing and planning hold no transaction, and the
//! latter two no thread of the runtime. Whatever changes between the look and the end is looked at again.

use crate::outward::{NO_KEY, NO_WORKER, NotRead, ReadInventory, no_key_came};
use crate::{Shared, organization_of};
use actions::discovery::{Listing, Planned};
use actions::jobs::RunDiscovery;
use connectors::discovery::{Inventory, Location, Reader, parse};
use domain::cmdb::RunMode;
use domain::gate::PATIENCE;
use domain::reconcile::Plan;
use domain::{Actor, OrganizationId};
use queue::remote::NotPerformed;
use queue::{JobError, JobResult, Outcome, Run, Running};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use store::discovery_runs::{DiscoveryRun, Found, RunCounts};
use store::discovery_sources::DiscoverySource;

/// How often a plan is made anew because somebody edited an item meanwhile; then the job is tried again later.
const LOOKS: usize = 5;
/// Items shown with their differences, and errors of rows, at most.
const SAMPLE: usize = 100;
const GIVEN_UP: &str = "the run was given up meanwhile: nothing was changed";

impl Run<Shared> for RunDiscovery {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let Some(organization) = job.organization.map(OrganizationId) else {
            return Err(JobError::GiveUp(anyhow::anyhow!("the job has no organization")));
        };
        let mut tx = shared.db.begin(organization).await?;
        let run = match store::discovery_runs::get(&mut tx, self.run).await {
            Err(store::Error::NotFound) => {
                return Ok(Outcome::Cancelled("the discovery source was deleted".into()));
            }
            other => other?,
        };
        if run.finished_at.is_some() {
            return Ok(Outcome::Cancelled(format!("the run has {} already", run.status)));
        }
        let source = store::discovery_sources::get(&mut tx, run.source).await?;
        let header = match actions::discovery::header(&mut tx, &shared.secrets, &source).await? {
            Ok(header) => header,
            Err(why) => {
                tracing::error!(discovery_source.id = %source.id, why, "an inventory cannot be asked for");
                if tx.now() + NO_KEY < run.created_at + PATIENCE {
                    return Ok(Outcome::Snooze(NO_KEY));
                }
                tx.rollback().await?;
                return fail(job, shared, organization, &run, &no_key_came(&why)).await;
            }
        };
        store::discovery_runs::start(&mut tx, self.run).await?;
        // Each organization has a folder of its own, named like its slug, which never changes.
        let slug = store::organizations::current(&mut tx).await?.slug;
        let folder = shared.settings.discovery_dir.as_ref().map(|folder| folder.join(slug));
        tx.commit().await?;

        match inventory(job, shared, &source, header, folder).await {
            Ok(inventory) => match work(job, shared, &run, Arc::new(source), Arc::new(inventory)).await {
                Err(JobError::GiveUp(error)) => {
                    fail(job, shared, organization, &run, &error.to_string()).await
                }
                Err(JobError::Retry(error)) if job.attempt >= job.max_attempts => {
                    fail(job, shared, organization, &run, &error.to_string()).await
                }
                result => result,
            },
            Err(Failure::Later(error)) if job.attempt < job.max_attempts => match error.retry_after {
                Some(after) => Err(JobError::RetryIn(after, anyhow::Error::msg(error.why))),
                None => Err(anyhow::Error::msg(error.why).into()),
            },
            Err(Failure::Later(error)) => fail(job, shared, organization, &run, &error.why).await,
            Err(Failure::NoWorker(why)) => {
                tracing::warn!(why, "an inventory is not read yet");
                Ok(Outcome::Snooze(NO_WORKER))
            }
            Err(Failure::Stopped(error)) => Err(error.into()),
            Err(Failure::ForGood(reason)) => fail(job, shared, organization, &run, &reason).await,
        }
    }
}

enum Failure {
    Later(NotRead),
    /// No remote worker took it.
    NoWorker(String),
    /// The run is over.
    Stopped(NotPerformed),
    ForGood(String),
}

/// `header` goes along to an address; `folder`: that of the organization.
async fn inventory(
    job: &Running,
    shared: &Shared,
    source: &DiscoverySource,
    header: Option<(String, String)>,
    folder: Option<PathBuf>,
) -> Result<Inventory, Failure> {
    let read = match Location::parse(&source.location) {
        Location::Url(url) => match shared.outward(job, ReadInventory { url, header }).await {
            Ok(read) => read.map(|bytes| bytes.0),
            Err(NotPerformed::NotBegun(why)) => return Err(Failure::NoWorker(why)),
            Err(NotPerformed::Failed(why)) => Err(NotRead { why, is_transient: true, retry_after: None }),
            Err(NotPerformed::Impossible(why)) => return Err(Failure::ForGood(why)),
            Err(error @ NotPerformed::Stopped) => return Err(Failure::Stopped(error)),
        },
        file => {
            let reader = Reader { http: shared.http.clone(), folder };
            reader.read(&file, None).await.map_err(NotRead::from)
        }
    };
    let bytes =
        read.map_err(
            |error| {
                if error.is_transient { Failure::Later(error) } else { Failure::ForGood(error.why) }
            },
        )?;
    let (format, keys, options) = (source.format, source.identification_keys.clone(), source.options.clone());
    // Large inventories take a while to parse; the runtime has other things to do.
    let parsed = tokio::task::spawn_blocking(move || parse(format, &bytes, &keys, &options)).await;
    match parsed {
        Ok(result) => result.map_err(|error| Failure::ForGood(error.to_string())),
        Err(error) => Err(Failure::ForGood(format!("reading the inventory ended early: {error}"))),
    }
}

async fn work(
    job: &Running,
    shared: &Shared,
    run: &DiscoveryRun,
    source: Arc<DiscoverySource>,
    inventory: Arc<Inventory>,
) -> JobResult {
    let organization = organization_of(job)?;
    let actor = Actor::system(organization, "run_discovery");
    for _ in 0..LOOKS {
        let planned = plan(shared, organization, &source, &inventory).await?;
        let mut tx = shared.db.begin(organization).await?;
        if run.mode == RunMode::Run && planned.objection.is_none() {
            match actions::discovery::carry_out(&mut tx, &actor, &source, &planned).await {
                // Somebody edited one of the items meanwhile: their edit is part of the next look.
                Err(actions::Error::Stale) => {
                    tx.rollback().await?;
                    continue;
                }
                result => result?,
            }
        }
        let (found, error) = (found(&inventory, &planned.plan), planned.objection.as_deref());
        if !store::discovery_runs::finish(&mut tx, run.id, Some(&found), error).await? {
            return Ok(Outcome::Cancelled(GIVEN_UP.into()));
        }
        let result = json!({"run": run.id, "counts": found.counts, "error": error});
        job.complete_with(&mut tx, &result).await?;
        tx.commit().await?;
        let counts = found.counts;
        tracing::info!(discovery.run = %run.id, mode = %run.mode, error, ?counts, "inventory reconciled");
        return Ok(Outcome::Done);
    }
    Err(JobError::Retry(anyhow::anyhow!("configuration items changed each time they were to be written")))
}

/// Looks at the items as they are, and plans.
async fn plan(
    shared: &Shared,
    organization: OrganizationId,
    source: &Arc<DiscoverySource>,
    inventory: &Arc<Inventory>,
) -> anyhow::Result<Planned> {
    let mut tx = shared.db.begin(organization).await?;
    let known = actions::discovery::known(&mut tx, source).await?;
    tx.rollback().await?;
    let (source, inventory) = (source.clone(), inventory.clone());
    let planned = tokio::task::spawn_blocking(move || {
        let (items, refused, seen) = (&inventory.items, &inventory.errors, &inventory.seen);
        actions::discovery::plan(&source, Listing { items, refused, seen }, &known)
    });
    Ok(planned.await?)
}

async fn fail(
    job: &Running,
    shared: &Shared,
    organization: OrganizationId,
    run: &DiscoveryRun,
    reason: &str,
) -> JobResult {
    let mut tx = shared.db.begin(organization).await?;
    if !store::discovery_runs::finish(&mut tx, run.id, None, Some(reason)).await? {
        return Ok(Outcome::Cancelled(GIVEN_UP.into()));
    }
    job.complete_with(&mut tx, &json!({"run": run.id, "error": reason})).await?;
    tx.commit().await?;
    tracing::warn!(discovery.run = %run.id, reason, "an inventory could not be read");
    Ok(Outcome::Done)
}

fn found(inventory: &Inventory, plan: &Plan) -> Found {
    let mut errors: Vec<_> = inventory.errors.iter().chain(&plan.failed).collect();
    errors.sort_by_key(|error| error.row);
    let counts = RunCounts {
        read: (inventory.items.len() + inventory.errors.len()) as u64,
        created: plan.created.len() as u64,
        updated: plan.updated.len() as u64,
        unchanged: plan.unchanged.len() as u64,
        missing: plan.missing.len() as u64,
        still_missing: plan.still_missing.len() as u64,
        failed: errors.len() as u64,
    };
    let errors = serde_json::to_value(errors.into_iter().take(SAMPLE).collect::<Vec<_>>());
    Found { counts, sample: sample(plan), errors: errors.unwrap_or(Value::Null) }
}

/// A taste of each pile: changes first, for they are what a preview is read for.
fn sample(plan: &Plan) -> Value {
    let updated = plan.updated.iter().take(SAMPLE / 2).map(|update| {
        json!({"action": "update", "row": update.row, "id": update.after.id, "name": update.after.name,
               "differences": update.differences})
    });
    let missing = plan.missing.iter().take(SAMPLE / 5).map(|id| json!({"action": "missing", "id": id}));
    let created = plan.created.iter().map(|(row, ci)| {
        json!({"action": "create", "row": row, "name": ci.name, "class": ci.class, "identifiers": ci.identifiers})
    });
    updated.chain(missing).chain(created).take(SAMPLE).collect()
}
