//! What happens by itself: one file per job kind, the schedule, the table of reactions.

mod delivering;
mod event_message;
pub mod hooks;
pub mod jobs;
mod large;
pub mod outward;
mod patience;
pub mod reactions;
mod registry;
mod report;
mod shared;
pub mod smtp;
mod suspension;
mod webhook_notice;

pub use registry::registry;
pub use shared::{Pruning, Settings, Shared};

/// The organization in which a job works. Without one it could never run: a dead letter.
fn organization_of(job: &queue::Running) -> Result<domain::OrganizationId, queue::JobError> {
    match job.organization {
        Some(id) => Ok(id.into()),
        None => Err(queue::JobError::GiveUp(anyhow::anyhow!("a {} job needs an organization", job.kind))),
    }
}
