//! The safety net: finds what a lost timer or signal left behind and asks for it again. Usually finds nothing.

use crate::Shared;
use actions::jobs::{CheckSla, Escalate, Sweep};
use chrono::TimeDelta;
use domain::OrganizationId;
use queue::{JobResult, NewJob, Outcome, Run, Running, Unique};
use serde_json::json;
use std::collections::HashMap;

/// What is late by this much has lost its timer; the usual lag is far below a second.
const GRACE: TimeDelta = TimeDelta::seconds(20);
/// Longer than the longest backoff of a delivery.
const DELIVERY_GRACE: TimeDelta = TimeDelta::minutes(15);
/// Longer than it takes to enqueue a report's job.
const REPORT_GRACE: TimeDelta = TimeDelta::minutes(1);
/// What was kept longer ago than this and has no job any more will get none by itself.
const INBOX_GRACE: TimeDelta = TimeDelta::minutes(5);
/// The rest comes in the next sweep.
const MOST: i64 = 1000;
/// No upload takes this long: what is still half written was abandoned.
const LEFTOVER: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

impl Run<Shared> for Sweep {
    async fn run(self, _job: &Running, shared: &Shared) -> JobResult {
        let (clocks, escalations) = (clocks(shared).await?, self::escalations(shared).await?);
        let deliveries = self::deliveries(shared).await?;
        let reports = self::reports(shared).await?;
        let inbox = self::inbox(shared).await?;
        let webhooks = self::webhooks(shared).await?;
        if clocks + escalations + deliveries + reports + inbox + webhooks > 0 {
            tracing::warn!(
                clocks,
                escalations,
                deliveries,
                reports,
                inbox,
                webhooks,
                "the sweep found work whose jobs were lost"
            );
        }
        let files = shared.blobs.remove_leftovers(LEFTOVER).await?;
        Ok(Outcome::DoneWith(json!({
            "clocks": clocks, "escalations": escalations, "deliveries": deliveries, "reports": reports, "inbox": inbox,
            "webhooks": webhooks, "files": files
        })))
    }
}

async fn clocks(shared: &Shared) -> anyhow::Result<usize> {
    let mut tx = shared.db.begin_system().await?;
    let before = tx.now() - GRACE;
    let overdue = store::sla_clocks::overdue(&mut tx, before, MOST).await?;
    tx.rollback().await?;
    let jobs = overdue.into_iter().map(|(organization, clock)| {
        let job = NewJob::of(&CheckSla { clock, at: None })
            .unique(format!("clock:{clock}"), Unique::WhileUnfinished);
        (organization, job)
    });
    ask_again(shared, jobs).await
}

async fn escalations(shared: &Shared) -> anyhow::Result<usize> {
    let mut tx = shared.db.begin_system().await?;
    let before = tx.now() - GRACE;
    let overdue = store::escalations::overdue(&mut tx, before, MOST).await?;
    tx.rollback().await?;
    let jobs = overdue.into_iter().map(|(organization, escalation)| {
        let job = NewJob::of(&Escalate { escalation, step: None })
            .unique(format!("escalation:{escalation}"), Unique::WhileUnfinished);
        (organization, job)
    });
    ask_again(shared, jobs).await
}

/// A delivery whose attempt is long overdue has no job any more: its job crashed for good, or was discarded.
async fn deliveries(shared: &Shared) -> anyhow::Result<usize> {
    let mut tx = shared.db.begin_system().await?;
    let before = tx.now() - DELIVERY_GRACE;
    let stranded = store::deliveries::stranded(&mut tx, before, MOST).await?;
    tx.rollback().await?;
    for (organization, delivery) in &stranded {
        let mut tx = shared.db.begin(*organization).await?;
        actions::deliveries::rescue(&mut tx, *organization, *delivery).await?;
        tx.commit().await?;
    }
    Ok(stranded.len())
}

/// As [`deliveries`], of what is told to other systems.
async fn webhooks(shared: &Shared) -> anyhow::Result<usize> {
    let mut tx = shared.db.begin_system().await?;
    let before = tx.now() - DELIVERY_GRACE;
    let stranded = store::webhook_deliveries::stranded(&mut tx, before, MOST).await?;
    tx.rollback().await?;
    let mut rescued = 0;
    for (organization, delivery) in stranded {
        let mut tx = shared.db.begin(organization).await?;
        rescued += usize::from(actions::webhooks::rescue(&mut tx, delivery).await?);
        tx.commit().await?;
    }
    Ok(rescued)
}

/// A report whose job ended without it, by a timeout for example, has failed, and says so.
async fn reports(shared: &Shared) -> anyhow::Result<usize> {
    let mut tx = shared.db.begin_system().await?;
    let before = tx.now() - REPORT_GRACE;
    let unfinished = store::report_executions::unfinished(&mut tx, before, MOST).await?;
    tx.rollback().await?;
    let mut ended = 0;
    for (organization, execution) in unfinished {
        let mut tx = shared.db.begin(organization).await?;
        ended += usize::from(actions::reports::end_if_stopped(&mut tx, organization, execution).await?);
        tx.commit().await?;
    }
    Ok(ended)
}

/// A message or payload that still waits though its job was cancelled or given up.
async fn inbox(shared: &Shared) -> anyhow::Result<usize> {
    let mut tx = shared.db.begin_system().await?;
    let before = tx.now() - INBOX_GRACE;
    let stranded = store::inbox::stranded(&mut tx, before, MOST).await?;
    tx.rollback().await?;
    for (organization, id, rescues) in &stranded {
        let mut tx = shared.db.begin(*organization).await?;
        actions::inbox::rescue(&mut tx, *id, *rescues).await?;
        tx.commit().await?;
    }
    Ok(stranded.len())
}

/// Rows are found over all organizations, but written in one at a time.
async fn ask_again(
    shared: &Shared,
    jobs: impl Iterator<Item = (OrganizationId, NewJob)>,
) -> anyhow::Result<usize> {
    let mut by_organization: HashMap<OrganizationId, Vec<NewJob>> = HashMap::new();
    for (organization, job) in jobs {
        by_organization.entry(organization).or_default().push(job.organization(organization));
    }
    let mut count = 0;
    for (organization, jobs) in by_organization {
        let mut tx = shared.db.begin(organization).await?;
        actions::enqueue(&mut tx, &jobs).await?;
        tx.commit().await?;
        count += jobs.len();
    }
    Ok(count)
}
