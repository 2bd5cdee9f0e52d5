//! What was kept long enough goes: inbox, ledger, reports, audit log, and files that no attachment names. A piece at a time, one organization
//! after the other; one that cannot be pruned does not keep the others from it.

use crate::Shared;
use actions::audit_policy;
use actions::jobs::Prune;
use actions::pruning::{self, PIECE, Prunable};
use actions::throttle::FORGOTTEN;
use chrono::TimeDelta;
use domain::{Actor, OrganizationId};
use prometheus::{IntCounterVec, register_int_counter_vec};
use queue::{JobError, JobResult, Outcome, Run, Running};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

#[expect(clippy::expect_used, reason = "the name is registered once")]
static PRUNED: LazyLock<IntCounterVec> = LazyLock::new(|| {
    register_int_counter_vec!(
        "relaydesk_pruned_total",
        "Rows and files that were taken away because they were kept long enough",
        &["what"]
    )
    .expect("a metric that can be registered")
});

/// A file is written before the row that names it is committed; no transaction takes this long.
pub const UNNAMED: Duration = Duration::from_secs(24 * 3600);

/// From which time after it has expired on nobody asks any more what a login was.
const LOGINS: TimeDelta = TimeDelta::days(1);

type Counts = BTreeMap<&'static str, u64>;

impl Run<Shared> for Prune {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let mut tx = shared.db.begin_system().await?;
        let organizations = store::organizations::ids(&mut tx).await?;
        tx.rollback().await?;
        let (mut all, mut failed) = (Counts::new(), None);
        match throttles(job, shared).await? {
            0 => {}
            rows => drop(all.insert("throttles", rows)),
        }
        for organization in organizations {
            let mut counts = Counts::new();
            let pruned = prune(job, shared, organization, &mut counts).await;
            if counts.values().any(|count| *count > 0) {
                tracing::info!(organization.id = %organization, ?counts, "pruned what was kept long enough");
            }
            for (what, count) in counts {
                PRUNED.with_label_values(&[what]).inc_by(count);
                *all.entry(what).or_default() += count;
            }
            if let Err(error) = pruned {
                tracing::warn!(organization.id = %organization, error = format!("{error:#}"), "pruning failed");
                failed = Some(error);
            }
            if job.is_cancelled() {
                return Err(JobError::Retry(anyhow::anyhow!("stopped; what is left is for the next time")));
            }
        }
        match failed {
            None => Ok(Outcome::DoneWith(serde_json::to_value(all)?)),
            Some(error) => Err(JobError::Retry(error)),
        }
    }
}

async fn prune(
    job: &Running,
    shared: &Shared,
    organization: OrganizationId,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let actor = Actor::system(organization, "prune");
    for what in Prunable::ALL {
        let Some(keep) = shared.settings.pruning.keeps(what) else { continue };
        let mut rows = PIECE as u64;
        while rows == PIECE as u64 && !job.is_cancelled() {
            let mut tx = shared.db.begin(organization).await?;
            rows = pruning::prune(&mut tx, &actor, what, keep).await?;
            tx.commit().await?;
            *counts.entry(what.as_str()).or_default() += rows;
        }
    }
    audit(job, shared, organization, counts).await?;
    logins(job, shared, organization, counts).await?;
    files(job, shared, organization, counts).await
}

/// The audit log tells of it by itself.
async fn audit(
    job: &Running,
    shared: &Shared,
    organization: OrganizationId,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let keep = shared.settings.pruning.audit.and_then(|time| TimeDelta::from_std(time).ok());
    let mut gone = 1;
    while gone > 0 && !job.is_cancelled() {
        let mut tx = shared.db.begin(organization).await?;
        gone = audit_policy::prune(&mut tx, keep).await?;
        tx.commit().await?;
        if gone > 0 {
            *counts.entry("audit").or_default() += gone;
        }
    }
    Ok(())
}

async fn logins(
    job: &Running,
    shared: &Shared,
    organization: OrganizationId,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    let mut rows = PIECE as u64;
    while rows >= PIECE as u64 && !job.is_cancelled() {
        let mut tx = shared.db.begin(organization).await?;
        let before = tx.now() - LOGINS;
        rows = store::pruning::logins(&mut tx, before, PIECE).await?;
        tx.commit().await?;
        if rows > 0 {
            *counts.entry("logins").or_default() += rows;
        }
    }
    Ok(())
}

/// Of no organization: how often something was tried that nobody tries any more.
async fn throttles(job: &Running, shared: &Shared) -> anyhow::Result<u64> {
    let (mut all, mut rows) = (0, PIECE as u64);
    while rows == PIECE as u64 && !job.is_cancelled() {
        let mut tx = shared.db.begin_system().await?;
        let before = tx.now() - FORGOTTEN;
        rows = store::throttles::prune(&mut tx, before, PIECE).await?;
        tx.commit().await?;
        all += rows;
    }
    Ok(all)
}

/// Files of mails that became nothing, of uploads whose ticket was not written, of what is gone.
async fn files(
    job: &Running,
    shared: &Shared,
    organization: OrganizationId,
    counts: &mut Counts,
) -> anyhow::Result<()> {
    for part in 0..=u8::MAX {
        let old = shared.blobs.older(organization, part, shared.settings.pruning.unnamed).await?;
        for piece in old.chunks(PIECE as usize) {
            if job.is_cancelled() {
                return Ok(());
            }
            let mut tx = shared.db.begin(organization).await?;
            let unnamed = store::pruning::unnamed(&mut tx, piece).await?;
            tx.rollback().await?;
            for sha256 in unnamed {
                let gone =
                    shared.blobs.remove(organization, &sha256, shared.settings.pruning.unnamed).await?;
                *counts.entry("files").or_default() += u64::from(gone);
            }
        }
    }
    Ok(())
}
