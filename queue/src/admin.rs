//! What people do with jobs: look, retry (with other arguments), cancel, discard, one or many; look at lanes, pause and resume
//! them; change limits, and how long history is kept.
//!
//! Every function takes an organization: with one, only its jobs exist.

mod bulk;
mod filter;
mod keys;
mod kinds;
mod lanes;
mod limits;
mod lines;
mod mend;
mod news;
mod state;
mod view;

pub use bulk::{Bulk, Cursor, Matches, Step, Verb, WrongFilter};
pub use filter::Filter;
pub use keys::sealed_jobs;
pub use kinds::{KindView, kinds, set_retention};
pub(crate) use lanes::pause_drained;
pub use lanes::{
    LaneView, WeightView, drain, know_lanes, lanes, pause, resume, set_aging, set_weight, weights,
};
pub use limits::{LimitChange, LimitView, limit_lane, limits, reconcile_limits, set_limit};
pub use mend::{Cancelled, cancel, discard, edit, retry};
pub use news::{News, news};
pub use state::{Death, JobState, UnknownDeath, UnknownState};
pub use view::{AttemptView, JobDetail, JobView, PAGE_LIMIT, Page, list, show};

use crate::JobId;
use crate::catalogue::ArgsError;
use crate::enqueue::CHANNEL;
use sqlx::PgConnection;

/// Who steps in, and why: kept in the trail of the job, among its attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Note {
    pub actor: Option<String>,
    pub why: Option<String>,
}

impl Note {
    pub fn by(actor: impl Into<String>) -> Self {
        Note { actor: Some(actor.into()), why: None }
    }

    #[must_use]
    pub fn because(self, why: Option<String>) -> Self {
        Note { why, ..self }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    #[error("no such job")]
    NotFound,
    /// The job is there, but not in a state in which this can be done.
    #[error("the job is {state}; {hint}")]
    WrongState { state: JobState, hint: &'static str },
    #[error("job {by} has its unique key by now; retry it when that one is over, or discard it")]
    KeyTaken { by: JobId },
    #[error(transparent)]
    Args(#[from] ArgsError),
    #[error(transparent)]
    WrongFilter(#[from] WrongFilter),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// By the clock that jobs are judged by.
pub async fn now(connection: &mut PgConnection) -> Result<chrono::DateTime<chrono::Utc>, sqlx::Error> {
    sqlx::query_scalar("select clock_timestamp()").fetch_one(connection).await
}

/// Whether another job has the unique key of row `j` by now.
macro_rules! key_holder {
    () => {
        "(select o.id from queue.jobs o where o.kind = j.kind and o.unique_key = j.unique_key and o.unique_held and o.id <> j.id \
            and o.organization_id is not distinct from j.organization_id)"
    };
}
use key_holder;

/// They wait again: so they take the unique keys that they had let go.
async fn hold_again(connection: &mut PgConnection, ids: &[uuid::Uuid]) -> Result<(), sqlx::Error> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query("select queue.hold_again($1)").bind(ids).execute(connection).await?;
    Ok(())
}

async fn notify(connection: &mut PgConnection, payload: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_notify($1, $2)").bind(CHANNEL).bind(payload).execute(connection).await?;
    Ok(())
}
