//! Retries, cancels or discards many jobs of an organization, a piece in a transaction. It keeps how far it is with each piece, and
//! goes on there in its next run.

use crate::{Shared, organization_of};
use actions::jobs::ManageJobs;
use actions::operations;
use domain::Actor;
use queue::{JobResult, Outcome, Run, Running};
use serde_json::json;

impl Run<Shared> for ManageJobs {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        let actor = Actor::system(organization, "manage_jobs");
        let mut tx = shared.db.begin(organization).await?;
        let mut so_far = operations::managed_so_far(&mut tx, &actor, job.id).await?;
        loop {
            operations::manage_some(&mut tx, &actor, &self.bulk, &mut so_far).await?;
            if so_far.cursor.is_over {
                operations::managed(&mut tx, &actor, &self.bulk, so_far.jobs, Some(job.id)).await?;
                job.complete_with(&mut tx, &json!({"jobs": so_far.jobs})).await?;
                tx.commit().await?;
                return Ok(Outcome::Done);
            }
            job.progress(&mut tx, &serde_json::to_value(&so_far)?).await?;
            tx.commit().await?;
            if job.is_cancelled() {
                let done = self.bulk.verb.done();
                return Ok(Outcome::Cancelled(format!("stopped after {} jobs were {done}", so_far.jobs)));
            }
            tx = shared.db.begin(organization).await?;
        }
    }
}
