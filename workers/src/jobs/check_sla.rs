//! A deadline of an SLA clock is due: judge it, record the warning or breach, start what follows from it.
//!
//! The clock's row decides, not the timer: one that fires early, late or twice changes nothing.

use crate::{Shared, organization_of};
use actions::jobs::CheckSla;
use actions::sla::Checked;
use prometheus::{HistogramVec, register_histogram_vec};
use queue::{JobResult, Outcome, Run, Running};
use std::sync::LazyLock;

/// From the moment at which a warning or breach could be known to its record.
static LAG: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!(
        "relaydesk_sla_detection_lag_seconds",
        "From the moment of an SLA warning or breach to its record",
        &["trigger"],
        vec![0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0]
    )
    .expect("a metric is registered once")
});

impl Run<Shared> for CheckSla {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let mut tx = shared.db.begin(organization_of(job)?).await?;
        let checked = actions::sla::check(&mut tx, self.clock, self.at).await?;
        if let Checked::NotYet(rest) = checked {
            return Ok(Outcome::Snooze(rest));
        }
        job.complete_in(&mut tx).await?;
        tx.commit().await?;
        if let Checked::Judged { trigger, lag } = checked {
            LAG.with_label_values(&[trigger.as_str()]).observe(lag.as_secs_f64());
        }
        Ok(Outcome::Done)
    }
}
