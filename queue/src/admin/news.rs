//! What is new of the jobs that say how far they are: for a live stream.

use super::{JobState, UnknownState};
use crate::JobId;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

/// Of more, the newest.
const PAGE: i64 = 1000;

/// A job that has said how far it is, or ended with a result, as it is now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct News {
    pub job: JobId,
    pub organization: Option<Uuid>,
    pub lane: String,
    pub kind: String,
    pub state: JobState,
    /// Claims so far; `None` when nothing is kept of the job.
    pub attempt: Option<i16>,
    pub progress: Option<Value>,
    pub result: Option<Value>,
    /// The last failure, or why it was cancelled.
    pub error: Option<String>,
    pub changed_at: DateTime<Utc>,
}

impl News {
    /// Whether the same is told, maybe at another time.
    pub fn says_the_same(&self, other: &News) -> bool {
        let timeless = |news: &News| News { changed_at: DateTime::UNIX_EPOCH, ..news.clone() };
        timeless(self) == timeless(other)
    }
}

/// What has changed since then, the oldest first; without a time, in the last ten seconds. A change appears with its commit, which may be later than
/// what it is dated: so ask about the last ten seconds again and again, and compare.
pub async fn news(
    connection: &mut PgConnection,
    organization: Option<Uuid>,
    since: Option<DateTime<Utc>>,
) -> Result<Vec<News>, sqlx::Error> {
    let rows = sqlx::query(
        "select n.job_id, n.organization_id, n.lane, n.kind, \
                coalesce(case when j.state = 'ready' and j.worker is not null then 'running' else j.state::text end, h.outcome, 'done'), \
                coalesce(j.attempt, h.attempt), coalesce(j.progress, h.progress)::text, h.result::text, coalesce(j.last_error, h.error), \
                n.changed_at \
         from (select * from queue.news where changed_at > coalesce($2, now() - interval '10 seconds') \
                 and ($1 is null or organization_id = $1) order by changed_at desc limit $3) n \
         left join queue.jobs j on j.id = n.job_id \
         left join lateral (select * from queue.history o where o.id = n.job_id and j.id is null \
                            order by o.finished_at desc limit 1) h on true \
         order by n.changed_at",
    )
    .bind(organization)
    .bind(since)
    .bind(PAGE)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let json = |column| -> Result<Option<Value>, sqlx::Error> {
                let text: Option<&str> = row.try_get(column)?;
                text.map(serde_json::from_str).transpose().map_err(|error| sqlx::Error::Decode(error.into()))
            };
            let state: &str = row.try_get(4)?;
            Ok(News {
                job: JobId(row.try_get(0)?),
                organization: row.try_get(1)?,
                lane: row.try_get(2)?,
                kind: row.try_get(3)?,
                state: state.parse().map_err(|error: UnknownState| sqlx::Error::Decode(error.into()))?,
                attempt: row.try_get(5)?,
                progress: json(6)?,
                result: json(7)?,
                error: row.try_get(8)?,
                changed_at: row.try_get(9)?,
            })
        })
        .collect()
}
