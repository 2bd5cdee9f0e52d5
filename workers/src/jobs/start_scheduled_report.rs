//! A report schedule is due: an execution for the period before this tick.

use crate::{Shared, organization_of};
use actions::jobs::StartScheduledReport;
use actions::reports;
use domain::Actor;
use queue::{JobResult, Outcome, Run, Running};

impl Run<Shared> for StartScheduledReport {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        let actor = Actor::system(organization, "start_scheduled_report");
        let mut tx = shared.db.begin(organization).await?;
        match reports::start_scheduled(&mut tx, &actor, self.schedule, job.due_at, job.id).await {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(Outcome::Cancelled("the schedule is switched off".into())),
            Err(actions::Error::NotFound) => return Ok(Outcome::Cancelled("the schedule is gone".into())),
            Err(error) => return Err(error.into()),
        }
        job.complete_in(&mut tx).await?;
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}
