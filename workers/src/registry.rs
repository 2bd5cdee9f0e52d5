//! Every kind of job there is, and what runs by the clock.

use crate::Shared;
use actions::jobs;
use futures::future::BoxFuture;
use queue::{JobResult, Missed, Registry, Running, Schedule};
use std::time::Duration;
use store::context::{self, Context};

/// What a job changes is in the audit log under its kind and id.
fn known<'a>(job: &'a Running, work: BoxFuture<'a, JobResult>) -> BoxFuture<'a, JobResult> {
    let trace = job.trace_parent.as_deref().and_then(|parent| parent.split('-').nth(1)).map(str::to_owned);
    Box::pin(context::scope(Context::job(&job.kind, job.id.0, trace), work))
}

/// A kind that is not listed here is not worked; a test holds the list against the files.
pub fn registry() -> Registry<Shared> {
    Registry::new()
        .around(known)
        .job::<jobs::ChangeTickets>()
        .job::<jobs::CheckSla>()
        .job::<jobs::DeliverWebhook>()
        .job::<jobs::Escalate>()
        .job::<jobs::ImportUsers>()
        .job::<jobs::IngestAlert>()
        .job::<jobs::IngestMail>()
        .job::<jobs::RunDiscovery>()
        .job::<jobs::StartDiscovery>()
        .job::<jobs::ManageJobs>()
        .job::<jobs::NotifyChannel>()
        .job::<jobs::OfferPasswordReset>()
        .job::<jobs::Prune>()
        .job::<jobs::React>()
        .job::<jobs::RecomputeSla>()
        .job::<jobs::ReplayWebhook>()
        .job::<jobs::RunReport>()
        .job::<jobs::SealAudit>()
        .job::<jobs::SendMail>()
        .job::<jobs::StartScheduledReport>()
        .job::<jobs::Sweep>()
        .schedule(Schedule::every("sweep", Duration::from_secs(30), &jobs::Sweep {}).missed(Missed::RunOnce))
        .schedule(
            Schedule::every("seal_audit", Duration::from_secs(10), &jobs::SealAudit {}).missed(Missed::Skip),
        )
        .schedule(Schedule::cron("prune", "17 3 * * *", "UTC", &jobs::Prune {}).missed(Missed::RunOnce))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_worked_is_in_the_catalogue() {
        assert_eq!(actions::jobs::catalogue().kinds().collect::<Vec<_>>(), super::registry().kinds());
    }
}
