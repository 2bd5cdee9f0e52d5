//! Does the same to many tickets, one in a transaction together with how far it is, and goes on there in its next run.

use crate::{Shared, organization_of};
use actions::Error;
use actions::jobs::ChangeTickets;
use actions::tickets::bulk::{self, Changed, Outcome as Of};
use domain::{OrganizationId, TicketId};
use queue::{JobResult, Outcome, Run, Running};

impl Run<Shared> for ChangeTickets {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        let mut tx = shared.db.begin(organization).await?;
        let kept = queue::admin::show(&mut tx, job.id, Some(organization.0)).await?.job.progress;
        let mut so_far: Changed = kept.and_then(|kept| serde_json::from_value(kept).ok()).unwrap_or_default();
        (so_far.by, so_far.tickets) = (Some(self.by), self.tickets.len());
        drop(tx);
        for ticket in self.tickets.iter().skip(so_far.outcomes.len()) {
            if job.is_cancelled() {
                return Ok(Outcome::Cancelled(format!("stopped after {} tickets", so_far.outcomes.len())));
            }
            one(&self, job, shared, organization, *ticket, &mut so_far).await?;
        }
        let mut tx = shared.db.begin(organization).await?;
        job.complete_with(&mut tx, &serde_json::to_value(&so_far)?).await?;
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}

async fn one(
    args: &ChangeTickets,
    job: &Running,
    shared: &Shared,
    organization: OrganizationId,
    ticket: TicketId,
    so_far: &mut Changed,
) -> Result<(), queue::JobError> {
    let mut tx = shared.db.begin(organization).await?;
    let problem = match bulk::author(&mut tx, args.by, args.token).await {
        Ok(actor) => {
            // Transactions that begin now are theirs in the audit log.
            store::context::act_as(&actor);
            tx = shared.db.begin(organization).await?;
            bulk::change_one(&mut tx, &actor, ticket, &args.change).await.err()
        }
        Err(error) => Some(error),
    };
    let problem = problem.map(words).transpose()?;
    if problem.is_some() {
        // What it had begun with this ticket is undone.
        tx = shared.db.begin(organization).await?;
    }
    so_far.outcomes.push(Of { ticket, problem });
    job.progress(&mut tx, &serde_json::to_value(&*so_far)?).await?;
    tx.commit().await?;
    Ok(())
}

/// What lies with the ticket or its author stands in the result; all else is for the next run.
fn words(error: Error) -> Result<String, queue::JobError> {
    match error {
        Error::Store(_) | Error::Enqueue(_) | Error::Busy(_) | Error::TooMany { .. } => Err(error.into()),
        Error::NotFound => Ok("there is no such ticket, or it may not be seen".to_owned()),
        Error::Invalid(fields) => {
            let words = fields.iter().map(|field| format!("{}: {}", field.pointer, field.detail));
            Ok(words.collect::<Vec<_>>().join("; "))
        }
        other => Ok(other.to_string()),
    }
}
