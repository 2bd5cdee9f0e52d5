//! A discovery source is due by its schedule: asks for a run, unless one is under way.

use crate::Shared;
use actions::jobs::StartDiscovery;
use domain::cmdb::RunMode;
use domain::{Actor, OrganizationId};
use queue::{JobError, JobResult, Outcome, Run, Running};

impl Run<Shared> for StartDiscovery {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let Some(organization) = job.organization.map(OrganizationId) else {
            return Err(JobError::GiveUp(anyhow::anyhow!("the job has no organization")));
        };
        let mut tx = shared.db.begin(organization).await?;
        let actor = Actor::system(organization, "start_discovery");
        match actions::discovery::start(&mut tx, &actor, self.source, RunMode::Run).await {
            Ok(_) => {
                job.complete_in(&mut tx).await?;
                tx.commit().await?;
                Ok(Outcome::Done)
            }
            Err(actions::Error::NotFound) => {
                Ok(Outcome::Cancelled("the discovery source was deleted".into()))
            }
            Err(actions::Error::Conflict(why)) => Ok(Outcome::Cancelled(why)),
            Err(error) => Err(error.into()),
        }
    }
}
