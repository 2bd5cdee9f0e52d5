//! What a job was to do and has not done: whether somebody still will.

use crate::Result;
use domain::OrganizationId;
use queue::JobId;
use queue::admin::{self, AdminError, JobState};
use store::Tx;

/// Why nobody works on it any more; `None` while somebody will.
pub(crate) async fn why(
    tx: &mut Tx,
    organization: OrganizationId,
    job: Option<JobId>,
) -> Result<Option<String>> {
    let gone = || Ok(Some("given up: its job is gone".to_owned()));
    let Some(job) = job else { return gone() };
    let job = match admin::show(tx, job, Some(organization.0)).await {
        Ok(found) => found.job,
        Err(AdminError::Database(error)) => return Err(store::Error::from(error).into()),
        Err(_) => return gone(),
    };
    let because = job.error.map(|error| format!(": {error}")).unwrap_or_default();
    Ok(match job.state {
        JobState::Scheduled | JobState::Ready | JobState::Running | JobState::Limited => None,
        state => Some(format!("given up: its job is {state}{because}")),
    })
}
