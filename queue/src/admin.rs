//! What people do with jobs: look, retry, cancel, discard; look at lanes, pause and resume them.
//!
//! Every function takes an organization: with one, only its jobs exist.

mod keys;
mod lanes;
mod limits;
mod state;

pub use keys::sealed_jobs;
pub(crate) use lanes::pause_drained;
pub use lanes::{LaneView, drain, know_lanes, lanes, pause, resume, set_aging, set_weight};
pub use limits::{LimitChange, LimitView, limit_lane, limits, reconcile_limits, set_limit};
pub use state::{JobState, UnknownState};

use crate::JobId;
use crate::enqueue::{CHANNEL, rank};
use crate::listener::CANCELLATIONS;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row};
use uuid::Uuid;

pub const PAGE_LIMIT: i64 = 200;

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
    Database(#[from] sqlx::Error),
}

#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub lane: Option<String>,
    pub kind: Option<String>,
    pub state: Option<JobState>,
}

#[derive(Clone, Debug, Serialize)]
pub struct JobView {
    pub id: JobId,
    pub lane: String,
    pub kind: String,
    pub state: JobState,
    pub organization: Option<Uuid>,
    pub priority: i16,
    /// Claims so far.
    pub attempt: i16,
    pub max_attempts: i16,
    pub created_at: DateTime<Utc>,
    pub due_at: DateTime<Utc>,
    /// Of the present or last run.
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    pub worker: Option<Uuid>,
    pub cancel_requested: bool,
    pub unique_key: Option<String>,
    pub trace_parent: Option<String>,
    pub progress: Option<Value>,
    pub result: Option<Value>,
    /// Why it was cancelled, or the last failure.
    pub error: Option<String>,
    /// Null for a finished job whose arguments were large, "(encrypted)" for one whose arguments are.
    pub args: Option<Value>,
}

/// One attempt that did not end well, or the one that did.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptView {
    pub attempt: i16,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    /// running, done, cancelled, failed, timeout, panicked, undecodable, gave_up, lost, rolled_back, interrupted
    pub outcome: String,
    pub error: Option<String>,
    pub worker: Option<Uuid>,
}

#[derive(Clone, Debug, Serialize)]
pub struct JobDetail {
    #[serde(flatten)]
    pub job: JobView,
    /// Oldest first.
    pub attempts: Vec<AttemptView>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Page {
    /// Newest first.
    pub items: Vec<JobView>,
    /// The cursor of the next page.
    pub next: Option<JobId>,
}

const LIVE: &str = "select id, lane, kind, \
    case when state = 'ready' and worker is not null then 'running' else state::text end as state, \
    organization_id, priority, attempt, max_attempts, due_at, claimed_at as started_at, null::timestamptz as finished_at, worker, \
    cancel_requested, unique_key, trace_parent, progress::text, null::text as result, last_error as error, \
    case when args_key is null then args::text else to_json('(encrypted)'::text)::text end as args \
    from queue.jobs j where true";

const OVER: &str = "select id, lane, kind, outcome as state, organization_id, priority, attempt, max_attempts, due_at, started_at, \
    finished_at, worker, false as cancel_requested, null::text as unique_key, trace_parent, progress::text, result::text, error, \
    case when args_key is null then args::text else to_json('(encrypted)'::text)::text end as args from queue.history j where true";

fn read(row: &PgRow) -> Result<JobView, sqlx::Error> {
    let id: Uuid = row.try_get("id")?;
    let json = |column| -> Result<Option<Value>, sqlx::Error> {
        let text: Option<String> = row.try_get(column)?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| sqlx::Error::Decode(error.into()))
    };
    let state: String = row.try_get("state")?;
    Ok(JobView {
        id: JobId(id),
        lane: row.try_get("lane")?,
        kind: row.try_get("kind")?,
        state: state.parse().map_err(|error: UnknownState| sqlx::Error::Decode(error.into()))?,
        organization: row.try_get("organization_id")?,
        priority: row.try_get("priority")?,
        attempt: row.try_get("attempt")?,
        max_attempts: row.try_get("max_attempts")?,
        created_at: created_at(id),
        due_at: row.try_get("due_at")?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
        worker: row.try_get("worker")?,
        cancel_requested: row.try_get("cancel_requested")?,
        unique_key: row.try_get("unique_key")?,
        trace_parent: row.try_get("trace_parent")?,
        progress: json("progress")?,
        result: json("result")?,
        error: row.try_get("error")?,
        args: json("args")?,
    })
}

/// A UUIDv7 carries its time of creation, in milliseconds.
fn created_at(id: Uuid) -> DateTime<Utc> {
    let time = id.get_timestamp().map(|time| time.to_unix()).unwrap_or_default();
    DateTime::from_timestamp(time.0 as i64, time.1).unwrap_or_default()
}

fn conditions(
    query: &mut QueryBuilder<Postgres>,
    filter: &Filter,
    organization: Option<Uuid>,
    before: Option<JobId>,
) {
    if let Some(lane) = &filter.lane {
        query.push(" and lane = ").push_bind(lane.clone());
    }
    if let Some(kind) = &filter.kind {
        query.push(" and kind = ").push_bind(kind.clone());
    }
    if let Some(organization) = organization {
        query.push(" and organization_id = ").push_bind(organization);
    }
    if let Some(before) = before {
        query.push(" and id < ").push_bind(before.0);
    }
}

/// Jobs, newest first: those that are to be done and those that are over.
pub async fn list(
    connection: &mut PgConnection,
    filter: &Filter,
    organization: Option<Uuid>,
    cursor: Option<JobId>,
    limit: i64,
) -> Result<Page, sqlx::Error> {
    let limit = limit.clamp(1, PAGE_LIMIT);
    let mut query = QueryBuilder::<Postgres>::new("select * from (");
    let live = filter.state.is_none_or(|state| !state.is_over());
    let over = filter.state.is_none_or(JobState::is_over);
    if live {
        query.push("(").push(LIVE);
        match filter.state {
            Some(JobState::Running) => query.push(" and state = 'ready' and worker is not null"),
            Some(JobState::Ready) => query.push(" and state = 'ready' and worker is null"),
            Some(JobState::Dead) => query.push(" and state = 'dead'"),
            Some(JobState::Limited) => query.push(" and state = 'limited'"),
            Some(JobState::Suspended) => query.push(" and state = 'suspended'"),
            Some(JobState::Scheduled) => query.push(" and state = 'scheduled'"),
            _ => &mut query,
        };
        conditions(&mut query, filter, organization, cursor);
        query.push(" order by id desc limit ").push_bind(limit + 1).push(")");
    }
    if live && over {
        query.push(" union all ");
    }
    if over {
        query.push("(").push(OVER);
        if let Some(state) = filter.state {
            query.push(" and outcome = ").push_bind(state.as_str());
        }
        conditions(&mut query, filter, organization, cursor);
        query.push(" order by id desc limit ").push_bind(limit + 1).push(")");
    }
    query.push(") jobs order by id desc limit ").push_bind(limit + 1);
    let rows = query.build().fetch_all(connection).await?;
    let mut items = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let more = items.len() as i64 > limit;
    items.truncate(limit as usize);
    let next = if more { items.last().map(|job| job.id) } else { None };
    Ok(Page { items, next })
}

/// A job with its attempts and their errors.
pub async fn show(
    connection: &mut PgConnection,
    id: JobId,
    organization: Option<Uuid>,
) -> Result<JobDetail, AdminError> {
    let mut job = None;
    for part in [LIVE, OVER] {
        let mut query = QueryBuilder::<Postgres>::new(part);
        query.push(" and id = ").push_bind(id.0);
        if let Some(organization) = organization {
            query.push(" and organization_id = ").push_bind(organization);
        }
        if let Some(row) = query.build().fetch_optional(&mut *connection).await? {
            job = Some(read(&row)?);
            break;
        }
    }
    let job = job.ok_or(AdminError::NotFound)?;
    let rows = sqlx::query(
        "select attempt, started_at, finished_at, outcome, error, worker from queue.attempts \
         where job_id = $1 order by finished_at, run",
    )
    .bind(id.0)
    .fetch_all(&mut *connection)
    .await?;
    let mut attempts = rows
        .iter()
        .map(|row| {
            Ok(AttemptView {
                attempt: row.try_get(0)?,
                started_at: row.try_get(1)?,
                finished_at: row.try_get(2)?,
                outcome: row.try_get(3)?,
                error: row.try_get(4)?,
                worker: row.try_get(5)?,
            })
        })
        .collect::<Result<Vec<_>, sqlx::Error>>()?;
    // The present run, and the last of a finished job, stand in the job's own row.
    if job.started_at.is_some()
        && matches!(job.state, JobState::Running | JobState::Done | JobState::Cancelled)
    {
        attempts.push(AttemptView {
            attempt: job.attempt,
            started_at: job.started_at,
            finished_at: job.finished_at,
            outcome: job.state.as_str().to_owned(),
            error: if job.state == JobState::Cancelled { job.error.clone() } else { None },
            worker: job.worker,
        });
    }
    Ok(JobDetail { job, attempts })
}

/// What it is now, when it could not be done.
async fn refuse(
    connection: &mut PgConnection,
    id: JobId,
    organization: Option<Uuid>,
    hint: &'static str,
) -> Result<AdminError, AdminError> {
    let job = show(connection, id, organization).await?;
    Ok(AdminError::WrongState { state: job.job.state, hint })
}

/// Whether another job has the unique key of row `j` by now.
macro_rules! key_holder {
    () => {
        "(select o.id from queue.jobs o where o.kind = j.kind and o.unique_key = j.unique_key and o.unique_held and o.id <> j.id \
            and o.organization_id is not distinct from j.organization_id)"
    };
}

/// A dead letter runs again, with all its attempts before it; a scheduled job runs now. A dead letter whose unique key another job has
/// by now stays one.
pub async fn retry(
    connection: &mut PgConnection,
    id: JobId,
    organization: Option<Uuid>,
) -> Result<(), AdminError> {
    let retried: Option<(String, bool)> = sqlx::query_as(concat!(
        "update queue.jobs j set state = 'ready', due_at = clock_timestamp(), rank = ",
        rank!("clock_timestamp()", "j"),
        ", run = run + 1, \
                attempt = case when state = 'dead' then 0 else attempt end, \
                crashes = case when state = 'dead' then 0 else crashes end, cancel_requested = false \
         where id = $1 and state in ('dead', 'scheduled') and ($2::uuid is null or organization_id = $2) \
           and (state <> 'dead' or ",
        key_holder!(),
        " is null) \
         returning lane, unique_key is not null and not unique_held"
    ))
    .bind(id.0)
    .bind(organization)
    .fetch_optional(&mut *connection)
    .await?;
    let Some((lane, let_go)) = retried else {
        let holder: Option<Option<Uuid>> = sqlx::query_scalar(concat!(
            "select ",
            key_holder!(),
            " from queue.jobs j where id = $1 and state = 'dead' and ($2::uuid is null or organization_id = $2)"
        ))
        .bind(id.0)
        .bind(organization)
        .fetch_optional(&mut *connection)
        .await?;
        return Err(match holder.flatten() {
            Some(by) => AdminError::KeyTaken { by: JobId(by) },
            None => {
                refuse(connection, id, organization, "only a dead or a scheduled job can be retried").await?
            }
        });
    };
    if let_go {
        hold_again(connection, &[id.0]).await?;
    }
    Ok(notify(connection, &format!("~{lane}")).await?)
}

/// They wait again: so they take the unique keys that they had let go.
async fn hold_again(connection: &mut PgConnection, ids: &[Uuid]) -> Result<(), sqlx::Error> {
    sqlx::query("select queue.hold_again($1)").bind(ids).execute(connection).await?;
    Ok(())
}

/// Retries up to `limit` dead letters of a kind, oldest first, except those whose unique key another job has by now; answers how many.
pub async fn retry_all(
    connection: &mut PgConnection,
    kind: &str,
    organization: Option<Uuid>,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let retried: Vec<(Uuid, String, bool)> = sqlx::query_as(concat!(
        "update queue.jobs j set state = 'ready', due_at = clock_timestamp(), rank = ",
        rank!("clock_timestamp()", "j"),
        ", run = run + 1, attempt = 0, crashes = 0, \
                cancel_requested = false \
         where id = any(array(select id from queue.jobs j where state = 'dead' and kind = $1 \
                                and ($2::uuid is null or organization_id = $2) and ",
        key_holder!(),
        " is null order by due_at limit $3 for update skip locked)) \
         returning id, lane, unique_key is not null and not unique_held"
    ))
    .bind(kind)
    .bind(organization)
    .bind(limit)
    .fetch_all(&mut *connection)
    .await?;
    let let_go: Vec<Uuid> = retried.iter().filter(|job| job.2).map(|job| job.0).collect();
    if !let_go.is_empty() {
        hold_again(connection, &let_go).await?;
    }
    let count = retried.len() as u64;
    for lane in std::collections::BTreeSet::from_iter(retried.into_iter().map(|job| job.1)) {
        notify(connection, &format!("~{lane}")).await?;
    }
    Ok(count)
}

/// How far a cancellation got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cancelled {
    /// It had not started, and will not.
    Now,
    /// It runs; its handler has been told.
    Requested,
}

/// A waiting job is over at once; a running one is told to stop, wherever it runs. A suspended one takes the jobs that it waits for with it.
pub async fn cancel(
    connection: &mut PgConnection,
    id: JobId,
    organization: Option<Uuid>,
) -> Result<Cancelled, AdminError> {
    let over = finish_waiting(
        connection,
        id,
        organization,
        "cancelled",
        &["ready", "scheduled", "limited", "suspended"],
        Some("cancelled by request"),
    )
    .await?;
    if over {
        return Ok(Cancelled::Now);
    }
    let running = sqlx::query(
        "update queue.jobs set cancel_requested = true \
         where id = $1 and state = 'ready' and worker is not null and ($2::uuid is null or organization_id = $2)",
    )
    .bind(id.0)
    .bind(organization)
    .execute(&mut *connection)
    .await?;
    if running.rows_affected() == 0 {
        return Err(
            refuse(connection, id, organization, "only a job that waits or runs can be cancelled").await?
        );
    }
    notify(connection, CANCELLATIONS).await?;
    Ok(Cancelled::Requested)
}

/// Puts a dead letter away; it stays in the history.
pub async fn discard(
    connection: &mut PgConnection,
    id: JobId,
    organization: Option<Uuid>,
) -> Result<(), AdminError> {
    if finish_waiting(connection, id, organization, "discarded", &["dead"], None).await? {
        return Ok(());
    }
    Err(refuse(connection, id, organization, "only a dead job can be discarded").await?)
}

async fn finish_waiting(
    connection: &mut PgConnection,
    id: JobId,
    organization: Option<Uuid>,
    outcome: &str,
    states: &[&str],
    why: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let finished = sqlx::query(
        "select queue.put_away(array(select id from queue.jobs where id = $1 and ($2::uuid is null or organization_id = $2)), $3, $4, $5)",
    )
    .bind(id.0)
    .bind(organization)
    .bind(states)
    .bind(outcome)
    .bind(why)
    .fetch_all(connection)
    .await?;
    Ok(finished.len() == 1)
}

async fn notify(connection: &mut PgConnection, payload: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_notify($1, $2)").bind(CHANNEL).bind(payload).execute(connection).await?;
    Ok(())
}
