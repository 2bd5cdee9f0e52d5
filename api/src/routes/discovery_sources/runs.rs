//! Runs and previews of a discovery source.

use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiPath, ApiResult, AppState, Caller, ListQuery, Page, Problem};
use actions::discovery;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::Permission;
use domain::cmdb::{RunMode, RunStatus};
use serde::Serialize;
use serde_json::Value;
use store::discovery_runs::{DiscoveryRun, FIELDS, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(run))
        .routes(routes!(preview))
        .routes(routes!(list))
        .routes(routes!(show))
}

/// Under way: follow the run at `/discovery-sources/{id}/runs/{run}`.
#[derive(Serialize, ToSchema)]
struct DiscoveryStarted {
    job: Uuid,
    run: Uuid,
}

#[derive(Serialize, ToSchema)]
struct DiscoveryRunView {
    id: Uuid,
    source: Uuid,
    /// run or preview.
    #[schema(value_type = String)]
    mode: RunMode,
    /// queued, running, succeeded or failed.
    #[schema(value_type = String)]
    status: RunStatus,
    job: Option<Uuid>,
    counts: DiscoveryCounts,
    /// The first items with what changes, or would change.
    #[schema(value_type = Vec<Object>)]
    sample: Value,
    /// Rows that could not be used, and why.
    #[schema(value_type = Vec<Object>)]
    errors: Value,
    /// Why the whole run failed.
    error: Option<String>,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

/// read = created + updated + unchanged + failed.
#[derive(Serialize, ToSchema)]
struct DiscoveryCounts {
    read: u64,
    created: u64,
    updated: u64,
    unchanged: u64,
    /// Listed before and not now.
    missing: u64,
    /// Missing since an earlier run.
    still_missing: u64,
    failed: u64,
}

impl From<DiscoveryRun> for DiscoveryRunView {
    fn from(run: DiscoveryRun) -> Self {
        DiscoveryRunView {
            id: run.id.0,
            source: run.source.0,
            mode: run.mode,
            status: run.status,
            job: run.job,
            counts: DiscoveryCounts {
                read: run.counts.read,
                created: run.counts.created,
                updated: run.counts.updated,
                unchanged: run.counts.unchanged,
                missing: run.counts.missing,
                still_missing: run.counts.still_missing,
                failed: run.counts.failed,
            },
            sample: run.sample,
            errors: run.errors,
            error: run.error,
            created_at: run.created_at,
            started_at: run.started_at,
            finished_at: run.finished_at,
        }
    }
}

async fn start(
    state: &AppState,
    caller: &Caller,
    source: Uuid,
    mode: RunMode,
) -> ApiResult<(StatusCode, Json<DiscoveryStarted>)> {
    let mut tx = caller.begin(state).await?;
    let started = discovery::start(&mut tx, &caller.actor(), source.into(), mode).await?;
    tx.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(DiscoveryStarted { job: started.job.0, run: started.run.0 })))
}

/// Read the inventory and change the configuration items
#[utoipa::path(post, path = "/discovery-sources/{id}/run", tag = "cmdb", params(("id" = Uuid, Path)),
    responses((status = 202, body = DiscoveryStarted)))]
async fn run(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<(StatusCode, Json<DiscoveryStarted>)> {
    start(&state, &caller, id, RunMode::Run).await
}

/// Read the inventory and say what a run would change
#[utoipa::path(post, path = "/discovery-sources/{id}/preview", tag = "cmdb", params(("id" = Uuid, Path)),
    responses((status = 202, body = DiscoveryStarted)))]
async fn preview(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<(StatusCode, Json<DiscoveryStarted>)> {
    start(&state, &caller, id, RunMode::Preview).await
}

filters!(DiscoveryRunFilters, FIELDS);

/// List runs
///
/// Sorts by created_at; the newest first, if nothing is named.
#[utoipa::path(get, path = "/discovery-sources/{id}/runs", tag = "cmdb", params(("id" = Uuid, Path), ListQuery, Shaping, DiscoveryRunFilters),
    responses((status = 200, body = Page<DiscoveryRunView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::DiscoveryRun)?;
    shape.check::<DiscoveryRunView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let source = store::discovery_sources::get(&mut tx, id.into()).await?;
    let rows = store::discovery_runs::list(&mut tx, source.id, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, DiscoveryRunView::from)?))
}

/// Show a run
#[utoipa::path(get, path = "/discovery-sources/{id}/runs/{run}", tag = "cmdb",
    params(("id" = Uuid, Path), ("run" = Uuid, Path)), responses((status = 200, body = DiscoveryRunView)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((id, run)): ApiPath<(Uuid, Uuid)>,
) -> ApiResult<Json<DiscoveryRunView>> {
    caller.require(Permission::DiscoveryRun)?;
    let mut tx = caller.begin(&state).await?;
    let run = store::discovery_runs::get(&mut tx, run.into()).await?;
    if run.source.0 == id { Ok(Json(run.into())) } else { Err(Problem::not_found()) }
}
