//! An event happened: do what the table of reactions and the organization's rules say, once.

use crate::{Shared, organization_of, reactions};
use actions::jobs::React;
use queue::{JobResult, Outcome, Run, Running};

impl Run<Shared> for React {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let mut tx = shared.db.begin(organization_of(job)?).await?;
        let event = match store::events::get(&mut tx, self.event).await {
            Ok(event) => event,
            Err(store::Error::NotFound) => return Ok(Outcome::Cancelled("the event is gone".into())),
            Err(error) => return Err(error.into()),
        };
        for reaction in reactions::to(&event.kind) {
            reaction(&mut tx, shared, &event).await?;
        }
        job.complete_in(&mut tx).await?;
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}
