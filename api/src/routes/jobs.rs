//! Jobs: what waits, runs, is done or dead; with the attempts and their errors.

use crate::{ApiPath, ApiResult, AppState, Caller, Filters, ListQuery, Page, Problem};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::Permission;
use queue::JobId;
use queue::admin::{self, AttemptView, Cancelled, JobDetail, JobState, JobView};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_jobs))
        .routes(routes!(show_job))
        .routes(routes!(retry_job))
        .routes(routes!(cancel_job))
        .routes(routes!(discard_job))
}

/// A job of the organization.
#[derive(Serialize, ToSchema)]
struct Job {
    id: Uuid,
    #[schema(example = "outbound")]
    lane: String,
    #[schema(example = "send_mail")]
    kind: String,
    /// scheduled, ready, running, limited, suspended, dead, done, cancelled or discarded.
    #[schema(example = "done")]
    state: &'static str,
    priority: i16,
    /// Claims so far.
    attempt: i16,
    max_attempts: i16,
    created_at: DateTime<Utc>,
    due_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    cancel_requested: bool,
    trace_parent: Option<String>,
    #[schema(value_type = Option<Object>)]
    progress: Option<Value>,
    #[schema(value_type = Option<Object>)]
    result: Option<Value>,
    /// Why it was cancelled, or the last failure.
    error: Option<String>,
    /// Null for a finished job whose arguments were large.
    #[schema(value_type = Option<Object>)]
    args: Option<Value>,
}

impl From<JobView> for Job {
    fn from(job: JobView) -> Self {
        Job {
            id: job.id.0,
            lane: job.lane,
            kind: job.kind,
            state: job.state.as_str(),
            priority: job.priority,
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            created_at: job.created_at,
            due_at: job.due_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            cancel_requested: job.cancel_requested,
            trace_parent: job.trace_parent,
            progress: job.progress,
            result: job.result,
            error: job.error,
            args: job.args,
        }
    }
}

/// A run of a job.
#[derive(Serialize, ToSchema)]
struct JobAttempt {
    attempt: i16,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    /// running, done, cancelled, failed, timeout, panicked, undecodable, gave_up, lost, rolled_back or interrupted.
    outcome: String,
    error: Option<String>,
}

impl From<AttemptView> for JobAttempt {
    fn from(attempt: AttemptView) -> Self {
        JobAttempt {
            attempt: attempt.attempt,
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
            outcome: attempt.outcome,
            error: attempt.error,
        }
    }
}

/// A job with its attempts, oldest first.
#[derive(Serialize, ToSchema)]
struct JobWithAttempts {
    #[serde(flatten)]
    job: Job,
    attempts: Vec<JobAttempt>,
}

impl From<JobDetail> for JobWithAttempts {
    fn from(detail: JobDetail) -> Self {
        JobWithAttempts {
            job: detail.job.into(),
            attempts: detail.attempts.into_iter().map(Into::into).collect(),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct JobFilter {
    lane: Option<String>,
    kind: Option<String>,
    #[param(value_type = Option<String>, example = "dead")]
    state: Option<JobState>,
}

/// Newest first
#[utoipa::path(get, path = "/jobs", tag = "jobs", params(ListQuery, JobFilter), responses((status = 200, body = Page<Job>)))]
async fn list_jobs(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    Filters(filter): Filters<JobFilter>,
) -> ApiResult<Json<Page<Job>>> {
    caller.require(Permission::JobsRead)?;
    list.fixed_order("-created_at")?;
    let filter = admin::Filter { lane: filter.lane, kind: filter.kind, state: filter.state };
    let organization = Some(caller.organization().0);
    let after = list.after::<Uuid>()?.map(JobId);
    let mut tx = caller.begin(&state).await?;
    let found = admin::list(&mut tx, &filter, organization, after, i64::from(list.page_size)).await;
    let found = found.map_err(store::Error::from)?;
    let next_cursor = found.next.map(|id| list.cursor_of(&id.0)).transpose()?;
    Ok(Json(Page { items: found.items.into_iter().map(Job::from).collect(), next_cursor }))
}

#[utoipa::path(get, path = "/jobs/{id}", tag = "jobs", params(("id" = Uuid, Path)),
    responses((status = 200, body = JobWithAttempts), (status = 404, body = Problem)))]
async fn show_job(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<Json<JobWithAttempts>> {
    caller.require(Permission::JobsRead)?;
    let mut tx = caller.begin(&state).await?;
    let found = admin::show(&mut tx, JobId(id), Some(caller.organization().0)).await;
    Ok(Json(found.map_err(actions::Error::from)?.into()))
}

/// A dead or scheduled job runs now
#[utoipa::path(post, path = "/jobs/{id}/retry", tag = "jobs", params(("id" = Uuid, Path)), responses((status = 204)))]
async fn retry_job(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    actions::operations::retry(&mut tx, &caller.actor(), JobId(id)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How far a cancellation got.
#[derive(Serialize, ToSchema)]
struct Cancellation {
    /// True: it had not started, and will not. False: it runs and was told to stop.
    over: bool,
}

/// A waiting job is over at once, a running one is told to stop
#[utoipa::path(post, path = "/jobs/{id}/cancel", tag = "jobs", params(("id" = Uuid, Path)),
    responses((status = 200, body = Cancellation), (status = 409, body = Problem)))]
async fn cancel_job(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<Json<Cancellation>> {
    let mut tx = caller.begin(&state).await?;
    let cancelled = actions::operations::cancel(&mut tx, &caller.actor(), JobId(id)).await?;
    tx.commit().await?;
    Ok(Json(Cancellation { over: cancelled == Cancelled::Now }))
}

/// Put a dead job away
#[utoipa::path(post, path = "/jobs/{id}/discard", tag = "jobs", params(("id" = Uuid, Path)), responses((status = 204)))]
async fn discard_job(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    actions::operations::discard(&mut tx, &caller.actor(), JobId(id)).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
