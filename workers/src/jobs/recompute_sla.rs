//! Policies or calendars were edited: works out the clocks of open tickets anew, some at a time, so that no
//! transaction holds many tickets.

use crate::{Shared, organization_of};
use actions::jobs::RecomputeSla;
use queue::{JobResult, NewJob, Outcome, Run, Running};

impl Run<Shared> for RecomputeSla {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        let mut tx = shared.db.begin(organization).await?;
        let last = actions::sla::recompute(&mut tx, self.after).await?;
        job.complete_in(&mut tx).await?;
        if last.is_some() {
            let next = NewJob::of(&RecomputeSla { after: last }).organization(organization);
            actions::enqueue(&mut tx, &[next]).await?;
        }
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}
