//! Jobs: what waits, runs, is done or dead; with the attempts and their errors.

use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, Filters, ListQuery, Page, Problem};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::Permission;
use queue::JobId;
use queue::admin::{self, AttemptView, Cancelled, Death, JobDetail, JobState, JobView, Verb};
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
        .routes(routes!(manage_jobs))
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
    #[schema(value_type = Option<Value>)]
    progress: Option<Value>,
    #[schema(value_type = Option<Value>)]
    result: Option<Value>,
    /// Why it was cancelled, or the last failure.
    error: Option<String>,
    /// What a dead letter died of: gave_up, exhausted, timeout, panicked, undecodable, lost or rolled_back.
    reason: Option<String>,
    /// How long its present or last run had waited for a worker.
    queue_wait_ms: Option<i64>,
    /// Null for a finished job whose arguments were large.
    #[schema(value_type = Option<Value>)]
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
            reason: job.reason,
            queue_wait_ms: job.queue_wait_ms,
            args: job.args,
        }
    }
}

/// A run of a job, or somebody's hand in it.
#[derive(Serialize, ToSchema)]
struct JobAttempt {
    attempt: i16,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    /// running, done, cancelled, failed, timeout, panicked, undecodable, gave_up, lost, rolled_back or interrupted; or what somebody did:
    /// retried, edited (and retried), discarded or cancelled.
    outcome: String,
    /// Or the reason that somebody gave.
    error: Option<String>,
    /// Who stepped in.
    actor: Option<String>,
    /// The arguments before they were edited.
    #[schema(value_type = Option<Value>)]
    args: Option<Value>,
}

impl From<AttemptView> for JobAttempt {
    fn from(attempt: AttemptView) -> Self {
        JobAttempt {
            attempt: attempt.attempt,
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
            outcome: attempt.outcome,
            error: attempt.error,
            actor: attempt.actor,
            args: attempt.args,
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

/// All that is given must hold.
#[derive(Default, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct JobFilter {
    lane: Option<String>,
    kind: Option<String>,
    #[param(value_type = Option<String>, example = "dead")]
    #[schema(value_type = Option<String>, example = "dead")]
    state: Option<JobState>,
    /// What dead letters died of: gave_up, exhausted (failed at the last attempt), timeout, panicked, undecodable, lost (cost too many
    /// workers) or rolled_back.
    #[param(value_type = Option<String>, example = "exhausted")]
    #[schema(value_type = Option<String>, example = "exhausted")]
    reason: Option<Death>,
    /// A part of the last error, in either case.
    error: Option<String>,
    #[serde(default, deserialize_with = "crate::moment::optional")]
    enqueued_since: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "crate::moment::optional")]
    enqueued_until: Option<DateTime<Utc>>,
    /// When it was over; a dead letter: when it died.
    #[serde(default, deserialize_with = "crate::moment::optional")]
    finished_since: Option<DateTime<Utc>>,
    #[serde(default, deserialize_with = "crate::moment::optional")]
    finished_until: Option<DateTime<Utc>>,
}

impl From<JobFilter> for admin::Filter {
    fn from(filter: JobFilter) -> Self {
        admin::Filter {
            lane: filter.lane,
            kind: filter.kind,
            state: filter.state,
            reason: filter.reason,
            error: filter.error,
            enqueued_since: filter.enqueued_since,
            enqueued_until: filter.enqueued_until,
            finished_since: filter.finished_since,
            finished_until: filter.finished_until,
        }
    }
}

/// Newest first. Of the jobs that wait for a worker the newest 10,000 of each lane
#[utoipa::path(get, path = "/jobs", tag = "jobs", params(ListQuery, JobFilter), responses((status = 200, body = Page<Job>)))]
async fn list_jobs(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    Filters(filter): Filters<JobFilter>,
) -> ApiResult<Json<Page<Job>>> {
    list.fixed_order("-created_at")?;
    let after = list.after::<Uuid>()?.map(JobId);
    let mut tx = caller.begin(&state).await?;
    let found =
        actions::operations::list(&mut tx, &caller.actor(), &filter.into(), after, i64::from(list.page_size))
            .await?;
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

/// Why it is done; kept in the job's trail and in the log of events.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Because {
    #[schema(max_length = 500, example = "the relay is back")]
    reason: Option<String>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Retry {
    /// Other arguments. They are checked: the kind must be able to read them. The old ones stay in the job's trail.
    #[schema(value_type = Option<Value>)]
    args: Option<Value>,
    #[schema(max_length = 500, example = "the address was misspelt")]
    reason: Option<String>,
}

/// A dead or scheduled job runs now, if wanted with other arguments
#[utoipa::path(post, path = "/jobs/{id}/retry", tag = "jobs", params(("id" = Uuid, Path)), request_body = Option<Retry>,
    responses((status = 204), (status = 409, body = Problem), (status = 422, body = Problem)))]
async fn retry_job(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    body: Option<ApiJson<Retry>>,
) -> ApiResult<StatusCode> {
    let Retry { args, reason } = body.map(|body| body.0).unwrap_or_default();
    let mut tx = caller.begin(&state).await?;
    actions::operations::retry(&mut tx, &caller.actor(), JobId(id), args.as_ref(), reason.as_deref()).await?;
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
#[utoipa::path(post, path = "/jobs/{id}/cancel", tag = "jobs", params(("id" = Uuid, Path)), request_body = Option<Because>,
    responses((status = 200, body = Cancellation), (status = 409, body = Problem)))]
async fn cancel_job(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    body: Option<ApiJson<Because>>,
) -> ApiResult<Json<Cancellation>> {
    let reason = body.and_then(|body| body.0.reason);
    let mut tx = caller.begin(&state).await?;
    let cancelled =
        actions::operations::cancel(&mut tx, &caller.actor(), JobId(id), reason.as_deref()).await?;
    tx.commit().await?;
    Ok(Json(Cancellation { over: cancelled == Cancelled::Now }))
}

/// Put a dead job away
#[utoipa::path(post, path = "/jobs/{id}/discard", tag = "jobs", params(("id" = Uuid, Path)), request_body = Option<Because>,
    responses((status = 204), (status = 409, body = Problem)))]
async fn discard_job(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    body: Option<ApiJson<Because>>,
) -> ApiResult<StatusCode> {
    let reason = body.and_then(|body| body.0.reason);
    let mut tx = caller.begin(&state).await?;
    actions::operations::discard(&mut tx, &caller.actor(), JobId(id), reason.as_deref()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is to be done to which jobs.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Management {
    /// retry (dead letters, or scheduled jobs when the filter says so), cancel (what waits or runs) or discard (dead letters).
    #[schema(value_type = String, example = "retry")]
    action: Verb,
    #[serde(default)]
    filter: JobFilter,
    #[schema(max_length = 500, example = "the relay is back")]
    reason: Option<String>,
    /// Only count.
    #[serde(default)]
    dry_run: bool,
}

/// What would be done.
#[derive(Serialize, ToSchema)]
struct Matching {
    jobs: i64,
    /// There may be more: counting ended after 200,000 rows.
    more: bool,
}

/// The job that does it.
#[derive(Serialize, ToSchema)]
struct Managing {
    job: Uuid,
}

/// Retry, cancel or discard all jobs that a filter finds: a job does it, a piece at a time. What is enqueued or dies later is left alone
#[utoipa::path(post, path = "/jobs/manage", tag = "jobs", request_body = Management,
    responses((status = 200, body = Matching, description = "of a dry run"), (status = 202, body = Managing), (status = 422, body = Problem)))]
async fn manage_jobs(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<Management>,
) -> ApiResult<Response> {
    let (actor, filter) = (caller.actor(), body.filter.into());
    let mut tx = caller.begin(&state).await?;
    if body.dry_run {
        let found = actions::operations::count(&mut tx, &actor, body.action, filter).await?;
        return Ok(Json(Matching { jobs: found.jobs, more: found.more }).into_response());
    }
    let id =
        actions::operations::manage(&mut tx, &actor, body.action, filter, body.reason.as_deref()).await?;
    tx.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(Managing { job: id.0 })).into_response())
}
