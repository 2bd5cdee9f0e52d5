//! The next step of a running escalation, and the timer of the one after it.

use crate::{Shared, organization_of};
use actions::escalations::Stepped;
use actions::jobs::Escalate;
use queue::{JobResult, Outcome, Run, Running};

impl Run<Shared> for Escalate {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let mut tx = shared.db.begin(organization_of(job)?).await?;
        let stepped = actions::escalations::step(&mut tx, self.escalation, self.step).await?;
        if let Stepped::NotYet(rest) = stepped {
            return Ok(Outcome::Snooze(rest));
        }
        job.complete_in(&mut tx).await?;
        tx.commit().await?;
        if let Stepped::Done { step, outcome, detail } = stepped {
            tracing::info!(escalation.id = %self.escalation, step, %outcome, detail, "escalation step");
        }
        Ok(Outcome::Done)
    }
}
