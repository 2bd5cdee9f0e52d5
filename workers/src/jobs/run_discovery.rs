//! Reads an inventory and reconciles the configuration items with it, or says what that would do.
//!
//! `start → read → parse → reconcile → record`; only the last two hold a transaction.

use crate::Shared;
use actions::jobs::RunDiscovery;
use connectors::discovery::{Inventory, Location, ReadError, Reader, parse};
use domain::cmdb::RunMode;
use domain::reconcile::Plan;
use domain::{Actor, OrganizationId};
use queue::{JobError, JobResult, Outcome, Run, Running};
use serde_json::{Value, json};
use store::discovery_runs::{DiscoveryRun, Found, RunCounts};
use store::discovery_sources::DiscoverySource;

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
        store::discovery_runs::start(&mut tx, self.run).await?;
        tx.commit().await?;

        match inventory(shared, &source).await {
            Ok(inventory) => match work(job, shared, organization, &run, &source, &inventory).await {
                Err(JobError::GiveUp(error)) => {
                    fail(job, shared, organization, &run, &error.to_string()).await
                }
                Err(JobError::Retry(error)) if job.attempt >= job.max_attempts => {
                    fail(job, shared, organization, &run, &error.to_string()).await
                }
                result => result,
            },
            Err(Failure::Later(error)) if job.attempt < job.max_attempts => match error.retry_after() {
                Some(after) => Err(JobError::RetryIn(after, error.into())),
                None => Err(error.into()),
            },
            Err(Failure::Later(error)) => fail(job, shared, organization, &run, &error.to_string()).await,
            Err(Failure::ForGood(reason)) => fail(job, shared, organization, &run, &reason).await,
        }
    }
}

enum Failure {
    Later(ReadError),
    ForGood(String),
}

async fn inventory(shared: &Shared, source: &DiscoverySource) -> Result<Inventory, Failure> {
    let reader = Reader { http: shared.http.clone(), folder: shared.settings.discovery_dir.clone() };
    let header = source.auth_header.as_ref().map(|header| (header.name.as_str(), header.value.as_str()));
    let bytes = reader.read(&Location::parse(&source.location), header).await.map_err(|error| {
        if error.is_transient() { Failure::Later(error) } else { Failure::ForGood(error.to_string()) }
    })?;
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
    organization: OrganizationId,
    run: &DiscoveryRun,
    source: &DiscoverySource,
    inventory: &Inventory,
) -> JobResult {
    let actor = Actor::system(organization, "run_discovery");
    let mut tx = shared.db.begin(organization).await?;
    let plan = match run.mode {
        RunMode::Run => {
            match actions::discovery::synchronize(&mut tx, &actor, source, &inventory.items).await {
                Err(error @ actions::Error::Conflict(_)) => return Err(JobError::GiveUp(error.into())),
                result => result?,
            }
        }
        RunMode::Preview => {
            let plan = actions::discovery::plan(&mut tx, source, &inventory.items).await?;
            // Whatever it did is undone: what a preview writes is its own record.
            tx.rollback().await?;
            tx = shared.db.begin(organization).await?;
            plan
        }
    };
    let found = found(inventory, &plan);
    if !store::discovery_runs::finish(&mut tx, run.id, Ok(&found)).await? {
        return Ok(Outcome::Cancelled(GIVEN_UP.into()));
    }
    let result = json!({"run": run.id, "counts": found.counts});
    job.complete_with(&mut tx, &result).await?;
    tx.commit().await?;
    tracing::info!(discovery.run = %run.id, mode = %run.mode, counts = ?found.counts, "inventory reconciled");
    Ok(Outcome::Done)
}

async fn fail(
    job: &Running,
    shared: &Shared,
    organization: OrganizationId,
    run: &DiscoveryRun,
    reason: &str,
) -> JobResult {
    let mut tx = shared.db.begin(organization).await?;
    if !store::discovery_runs::finish(&mut tx, run.id, Err(reason)).await? {
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
