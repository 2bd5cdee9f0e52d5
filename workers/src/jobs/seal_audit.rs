//! The chains over the audit logs grow behind those who write.

use crate::Shared;
use actions::audit;
use actions::jobs::SealAudit;
use queue::{JobError, JobResult, Outcome, Run, Running};
use serde_json::json;

impl Run<Shared> for SealAudit {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        match audit::seal(&shared.db, || job.is_cancelled()).await? {
            Some(entries) => Ok(Outcome::DoneWith(json!({"entries": entries}))),
            None => Err(JobError::Retry(anyhow::anyhow!("stopped; what is left is for the next time"))),
        }
    }
}
