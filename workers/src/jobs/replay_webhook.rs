//! What happened in a time is told to a webhook once more, a piece in a transaction. A run does some pieces and leaves the rest to another job,
//! so that none comes near its end of time however long the time is that was asked for.

use crate::{Shared, organization_of};
use actions::jobs::ReplayWebhook;
use queue::{JobResult, NewJob, Outcome, Run, Running};
use serde_json::json;

/// Pieces of one run.
const PIECES: usize = 10;

impl Run<Shared> for ReplayWebhook {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        let (mut total, mut asked) = (self.replayed, self);
        for piece in 1.. {
            let mut tx = shared.db.begin(organization).await?;
            let (replayed, rest) = actions::webhooks::replay_some(&mut tx, &asked).await?;
            total += replayed as u64;
            let Some(rest) = rest else {
                job.complete_with(&mut tx, &json!({"deliveries": total})).await?;
                tx.commit().await?;
                break;
            };
            let up_to = json!({"deliveries": total, "up_to": rest.after.map(|(at, _)| at)});
            if piece == PIECES {
                job.complete_then(&mut tx, Some(&up_to), &[NewJob::of(&rest)]).await?;
                tx.commit().await?;
                break;
            }
            // A run that ends here is begun anew by the same job, and does its pieces again: each of them finds nothing left to do.
            job.progress(&mut tx, &up_to).await?;
            tx.commit().await?;
            if job.is_cancelled() {
                return Ok(Outcome::Cancelled(format!("stopped after {total} deliveries")));
            }
            asked = rest;
        }
        Ok(Outcome::Done)
    }
}
