//! A job as tests see it.

use crate::JobId;
use crate::admin::{JobState, UnknownState};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use sqlx::{PgConnection, Row};
use std::fmt;
use uuid::Uuid;

/// The same for a job in the database and one in [`Memory`](super::Memory).
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub id: JobId,
    pub kind: String,
    pub lane: String,
    pub state: JobState,
    pub organization: Option<Uuid>,
    pub priority: i16,
    pub attempt: i16,
    pub max_attempts: i16,
    pub due_at: DateTime<Utc>,
    /// From now; negative when it has been ready for so long.
    pub due_in: TimeDelta,
    /// While it has the key in its present state.
    pub unique_key: Option<String>,
    /// The last failure, or why it was cancelled.
    pub error: Option<String>,
    /// Null for a finished job whose arguments were large.
    pub args: Value,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in lane {}", self.state, self.kind, self.lane)?;
        if self.state == JobState::Scheduled {
            write!(f, ", due in {:.1} s", self.due_in.as_seconds_f64())?;
        }
        match self.organization {
            Some(organization) => write!(f, ", organization {organization}")?,
            None => write!(f, ", no organization")?,
        }
        if self.priority != 0 {
            write!(f, ", priority {}", self.priority)?;
        }
        if let Some(key) = &self.unique_key {
            write!(f, ", unique {key:?}")?;
        }
        if self.attempt > 0 {
            write!(f, ", attempt {} of {}", self.attempt, self.max_attempts)?;
        }
        if let Some(error) = &self.error {
            write!(f, ", error {error:?}")?;
        }
        write!(f, ", args {}", self.args)
    }
}

/// All jobs that this connection may see, those that are over included, in the order in which they were made.
pub async fn jobs(connection: &mut PgConnection) -> Result<Vec<Seen>, sqlx::Error> {
    let rows = sqlx::query(
        "select id, kind, lane, case when state = 'ready' and worker is not null then 'running' else state::text end, \
                organization_id, priority, attempt, max_attempts, due_at, clock_timestamp(), \
                case when unique_held or unique_while = 0 then unique_key end, last_error, args::text \
         from queue.jobs \
         union all \
         select id, kind, lane, outcome, organization_id, priority, attempt, max_attempts, due_at, clock_timestamp(), null, error, \
                args::text from queue.history \
         order by 1",
    )
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let (state, args): (String, Option<String>) = (row.try_get(3)?, row.try_get(12)?);
            let (due_at, now): (DateTime<Utc>, DateTime<Utc>) = (row.try_get(8)?, row.try_get(9)?);
            Ok(Seen {
                id: JobId(row.try_get(0)?),
                kind: row.try_get(1)?,
                lane: row.try_get(2)?,
                state: state.parse().map_err(|error: UnknownState| sqlx::Error::Decode(error.into()))?,
                organization: row.try_get(4)?,
                priority: row.try_get(5)?,
                attempt: row.try_get(6)?,
                max_attempts: row.try_get(7)?,
                due_at,
                due_in: due_at - now,
                unique_key: row.try_get(10)?,
                error: row.try_get(11)?,
                args: args.and_then(|args| serde_json::from_str(&args).ok()).unwrap_or_default(),
            })
        })
        .collect()
}
