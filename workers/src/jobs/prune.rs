//! What was kept long enough goes: inbox, ledger, reports, and files that no attachment names. A piece at a time, one organization
//! after the other; one that cannot be pruned does not keep the others from it.

use crate::Shared;
use actions::jobs::Prune;
use actions::pruning::{self, PIECE, Prunable};
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

type Counts = BTreeMap<&'static str, u64>;

impl Run<Shared> for Prune {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let mut tx = shared.db.begin_system().await?;
        let organizations = store::organizations::ids(&mut tx).await?;
        tx.rollback().await?;
        let (mut all, mut failed) = (Counts::new(), None);
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
    files(job, shared, organization, counts).await
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
