//! What operators do with jobs and lanes: try again, cancel, put away; pause and resume.
//!
//! Jobs belong to an organization (or to none: those are for the command line). Lanes are shared by all tenants, so only the
//! organization that operates the installation touches them (docs/adr/0071-operator-organization.md).

use crate::organizations::require_operator;
use crate::{Error, Result};
use domain::{Actor, Permission, Who, permission};
use queue::JobId;
use queue::admin::{self, AdminError, Cancelled};
use store::Tx;

impl From<AdminError> for Error {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::NotFound => Error::NotFound,
            AdminError::WrongState { .. } | AdminError::KeyTaken { .. } => Error::Conflict(error.to_string()),
            AdminError::Database(error) => Error::Store(error.into()),
        }
    }
}

/// A dead or scheduled job runs now.
pub async fn retry(tx: &mut Tx, actor: &Actor, job: JobId) -> Result<()> {
    permission::check(actor, Permission::JobsManage)?;
    let organization = Some(actor.organization.0);
    Ok(admin::retry(tx, job, organization).await?)
}

/// A waiting job is over at once, a running one is told to stop.
pub async fn cancel(tx: &mut Tx, actor: &Actor, job: JobId) -> Result<Cancelled> {
    permission::check(actor, Permission::JobsManage)?;
    let organization = Some(actor.organization.0);
    Ok(admin::cancel(tx, job, organization).await?)
}

/// A dead job is put away.
pub async fn discard(tx: &mut Tx, actor: &Actor, job: JobId) -> Result<()> {
    permission::check(actor, Permission::JobsManage)?;
    let organization = Some(actor.organization.0);
    Ok(admin::discard(tx, job, organization).await?)
}

/// Running jobs of the lane go on, no new ones are begun, in no process.
pub async fn pause_lane(tx: &mut Tx, actor: &Actor, lane: &str) -> Result<()> {
    set_lane(tx, actor, lane, true).await
}

pub async fn resume_lane(tx: &mut Tx, actor: &Actor, lane: &str) -> Result<()> {
    set_lane(tx, actor, lane, false).await
}

async fn set_lane(tx: &mut Tx, actor: &Actor, lane: &str, paused: bool) -> Result<()> {
    permission::check(actor, Permission::LanesManage)?;
    if matches!(actor.who, Who::User { .. }) {
        require_operator(tx).await?;
    }
    let known = match paused {
        true => admin::pause(tx, lane).await,
        false => admin::resume(tx, lane).await,
    };
    if !known.map_err(store::Error::from)? {
        return Err(Error::NotFound);
    }
    tracing::warn!(lane, paused, actor = actor.label(), "lane");
    Ok(())
}
