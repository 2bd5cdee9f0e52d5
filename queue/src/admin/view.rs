//! Jobs as people see them: one with its trail, or a page of them.

use super::filter::{Filter, Table};
use super::lines::{self, Shelf, tenant};
use super::{AdminError, JobState, UnknownState};
use crate::JobId;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Postgres, QueryBuilder, Row};
use uuid::Uuid;

pub const PAGE_LIMIT: i64 = 200;
/// Of what waits for a worker, a list of one organization reaches so far into each lane: what is newest in its line.
const DEPTH: i64 = 10_000;

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
    /// Of a dead letter: what it died of.
    pub reason: Option<String>,
    /// How long its present or last run had waited for a worker.
    pub queue_wait_ms: Option<i64>,
    /// Null for a finished job whose arguments were large, "(encrypted)" for one whose arguments are.
    pub args: Option<Value>,
}

/// One attempt that did not end well, or the one that did; or somebody stepped in.
#[derive(Clone, Debug, Serialize)]
pub struct AttemptView {
    pub attempt: i16,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
    /// running, done, cancelled, failed, timeout, panicked, undecodable, gave_up, lost, rolled_back, interrupted; or what somebody did:
    /// retried, edited (and retried), discarded, cancelled
    pub outcome: String,
    /// Or the reason that somebody gave.
    pub error: Option<String>,
    pub worker: Option<Uuid>,
    /// Who stepped in.
    pub actor: Option<String>,
    /// The arguments as they were before they were edited.
    pub args: Option<Value>,
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

const LIVE: &str = "select j.id, j.lane, j.kind, \
    case when j.state = 'ready' and j.worker is not null then 'running' else j.state::text end as state, \
    j.organization_id, j.priority, j.attempt, j.max_attempts, j.due_at, j.claimed_at as started_at, null::timestamptz as finished_at, \
    j.worker, j.cancel_requested, j.unique_key, j.trace_parent, j.progress::text, null::text as result, j.last_error as error, \
    j.died_of as reason, \
    case when j.args_key is null then j.args::text else to_json('(encrypted)'::text)::text end as args from queue.jobs j where true";

const OVER: &str = "select j.id, j.lane, j.kind, j.outcome as state, j.organization_id, j.priority, j.attempt, j.max_attempts, j.due_at, \
    j.started_at, j.finished_at, j.worker, false as cancel_requested, null::text as unique_key, j.trace_parent, j.progress::text, \
    j.result::text, j.error, null::text as reason, \
    case when j.args_key is null then j.args::text else to_json('(encrypted)'::text)::text end as args from queue.history j where true";

fn read(row: &PgRow) -> Result<JobView, sqlx::Error> {
    let id: Uuid = row.try_get("id")?;
    let json = |column| -> Result<Option<Value>, sqlx::Error> {
        let text: Option<String> = row.try_get(column)?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| sqlx::Error::Decode(error.into()))
    };
    let state: String = row.try_get("state")?;
    let due_at: DateTime<Utc> = row.try_get("due_at")?;
    let started_at: Option<DateTime<Utc>> = row.try_get("started_at")?;
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
        due_at,
        started_at,
        finished_at: row.try_get("finished_at")?,
        worker: row.try_get("worker")?,
        cancel_requested: row.try_get("cancel_requested")?,
        unique_key: row.try_get("unique_key")?,
        trace_parent: row.try_get("trace_parent")?,
        progress: json("progress")?,
        result: json("result")?,
        error: row.try_get("error")?,
        reason: row.try_get("reason")?,
        queue_wait_ms: started_at.map(|started| (started - due_at).num_milliseconds().max(0)),
        args: json("args")?,
    })
}

/// A UUIDv7 carries its time of creation, in milliseconds.
fn created_at(id: Uuid) -> DateTime<Utc> {
    let time = id.get_timestamp().map(|time| time.to_unix()).unwrap_or_default();
    DateTime::from_timestamp(time.0 as i64, time.1).unwrap_or_default()
}

/// Jobs, newest first: those that are to be done and those that are over. One organization's are read from its own lines in the lanes that
/// are known (to a worker, or by [`know_lanes`](super::know_lanes)): of what waits for a worker the newest 10,000 of each lane.
pub async fn list(
    connection: &mut PgConnection,
    filter: &Filter,
    organization: Option<Uuid>,
    cursor: Option<JobId>,
    limit: i64,
) -> Result<Page, sqlx::Error> {
    let limit = limit.clamp(1, PAGE_LIMIT);
    let list = List { filter, organization, cursor, limit };
    let mut query = QueryBuilder::<Postgres>::new("select * from (");
    let mut parts = 0;
    let mut next = |query: &mut QueryBuilder<Postgres>| {
        query.push(if parts == 0 { "(" } else { " union all (" });
        parts += 1;
    };
    let shelf = filter.state.map(Shelf::of);
    let shelves = match (shelf, organization) {
        // Newest first is the order of the primary key, and of all jobs most are wanted.
        (None | Some(Some(Shelf::Ready)), None) => {
            next(&mut query);
            list.live(&mut query);
            vec![]
        }
        (None, Some(_)) => ["s", "l", "u", "d"].map(Shelf::Aside).into_iter().chain([Shelf::Ready]).collect(),
        (Some(shelf), _) => shelf.into_iter().collect(),
    };
    for shelf in shelves {
        let lines = lines::all(connection, shelf, organization, filter.lane.as_deref()).await?;
        next(&mut query);
        list.shelf(&mut query, shelf, lines);
    }
    if filter.state.is_none_or(JobState::is_over) {
        next(&mut query);
        list.over(&mut query);
    }
    query.push(") jobs order by id desc limit ").push_bind(limit + 1);
    let rows = query.build().fetch_all(connection).await?;
    let mut items = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let more = items.len() as i64 > limit;
    items.truncate(limit as usize);
    let next = if more { items.last().map(|job| job.id) } else { None };
    Ok(Page { items, next })
}

/// What a list is asked for.
struct List<'a> {
    filter: &'a Filter,
    organization: Option<Uuid>,
    cursor: Option<JobId>,
    limit: i64,
}

impl List<'_> {
    /// All of the table, in the order of the primary key.
    fn live(&self, query: &mut QueryBuilder<Postgres>) {
        query.push(LIVE);
        self.conditions(query, Table::Jobs);
    }

    fn shelf(&self, query: &mut QueryBuilder<Postgres>, shelf: Shelf, lines: Vec<lines::Line>) {
        let (lanes, tenants): (Vec<_>, Vec<_>) = lines.into_iter().unzip();
        query.push("select found.* from unnest(").push_bind(lanes).push("::text[], ").push_bind(tenants);
        query.push("::uuid[]) as line(lane, tenant) cross join lateral (");
        let mine = concat!(" and j.lane = line.lane and ", tenant!("j"), " = line.tenant and j.");
        if shelf == Shelf::Ready {
            // By rank, as the index has it; what is newest by its id is among these.
            query.push(LIVE.replace("queue.jobs j where true", "(select * from queue.jobs j where true"));
            query.push(mine).push(shelf.condition()).push(" order by j.rank desc limit ").push_bind(DEPTH);
            query.push(") j where true");
        } else {
            query.push(LIVE).push(mine).push(shelf.condition());
        }
        self.conditions(query, Table::Jobs);
        query.push(" found order by id desc limit ").push_bind(self.limit + 1).push(")");
    }

    fn over(&self, query: &mut QueryBuilder<Postgres>) {
        query.push(OVER);
        if let Some(state) = self.filter.state {
            query.push(" and j.outcome = ").push_bind(state.as_str());
        }
        self.conditions(query, Table::History);
    }

    /// And the end of the part.
    fn conditions(&self, query: &mut QueryBuilder<Postgres>, table: Table) {
        match (self.filter.state, table) {
            (Some(JobState::Running), Table::Jobs) => {
                query.push(" and j.state = 'ready' and j.worker is not null")
            }
            (Some(JobState::Ready), Table::Jobs) => query.push(" and j.state = 'ready' and j.worker is null"),
            _ => query,
        };
        if let Some(lane) = &self.filter.lane {
            query.push(" and j.lane = ").push_bind(lane.clone());
        }
        if let Some(organization) = self.organization {
            query.push(" and j.organization_id = ").push_bind(organization);
        }
        if let Some(cursor) = self.cursor {
            query.push(" and j.id < ").push_bind(cursor.0);
        }
        self.filter.push(query, table);
        query.push(" order by j.id desc limit ").push_bind(self.limit + 1).push(")");
    }
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
        query.push(" and j.id = ").push_bind(id.0);
        if let Some(organization) = organization {
            query.push(" and j.organization_id = ").push_bind(organization);
        }
        if let Some(row) = query.build().fetch_optional(&mut *connection).await? {
            job = Some(read(&row)?);
            break;
        }
    }
    let job = job.ok_or(AdminError::NotFound)?;
    let rows = sqlx::query(
        "select attempt, started_at, finished_at, outcome, nullif(error, ''), worker, actor, \
                case when args_key is null then args::text else to_json('(encrypted)'::text)::text end from queue.attempts \
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
                actor: row.try_get(6)?,
                args: row.try_get::<Option<&str>, _>(7)?.and_then(|args| serde_json::from_str(args).ok()),
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
            actor: None,
            args: None,
        });
    }
    Ok(JobDetail { job, attempts })
}
