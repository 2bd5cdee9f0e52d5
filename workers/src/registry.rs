//! Every kind of job there is, and what runs by the clock.

use crate::Shared;
use actions::jobs;
use queue::{Missed, Registry, Schedule};
use std::time::Duration;

/// A kind that is not listed here is not worked; a test holds the list against the files.
pub fn registry() -> Registry<Shared> {
    Registry::new()
        .job::<jobs::CheckSla>()
        .job::<jobs::Escalate>()
        .job::<jobs::IngestAlert>()
        .job::<jobs::IngestMail>()
        .job::<jobs::RunDiscovery>()
        .job::<jobs::StartDiscovery>()
        .job::<jobs::ManageJobs>()
        .job::<jobs::NotifyChannel>()
        .job::<jobs::Prune>()
        .job::<jobs::React>()
        .job::<jobs::RecomputeSla>()
        .job::<jobs::RunReport>()
        .job::<jobs::SendMail>()
        .job::<jobs::StartScheduledReport>()
        .job::<jobs::Sweep>()
        .schedule(Schedule::every("sweep", Duration::from_secs(30), &jobs::Sweep {}).missed(Missed::RunOnce))
        .schedule(Schedule::cron("prune", "17 3 * * *", "UTC", &jobs::Prune {}).missed(Missed::RunOnce))
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_worked_is_in_the_catalogue() {
        assert_eq!(actions::jobs::catalogue().kinds().collect::<Vec<_>>(), super::registry().kinds());
    }
}
