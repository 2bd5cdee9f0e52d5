//! Lanes: the queues, with the organization's jobs in them. Pausing is for the operator's organization.

use crate::{ApiPath, ApiResult, AppState, Caller, ListQuery, Page};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::Permission;
use queue::admin::{self, LaneView};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_lanes)).routes(routes!(pause_lane)).routes(routes!(resume_lane))
}

/// A lane; the counts are of the caller's organization.
#[derive(Serialize, ToSchema)]
struct Lane {
    #[schema(example = "outbound")]
    name: String,
    #[schema(example = "postgres")]
    transport: String,
    /// How its workers see the broker, the worst of what they say: connected, blocked (it takes no messages for now) or away;
    /// null for a lane on Postgres, and without a worker.
    #[schema(example = "connected")]
    broker: Option<String>,
    paused: bool,
    ready: i64,
    /// Of those that are ready: not handed to the broker yet.
    unpublished: i64,
    scheduled: i64,
    running: i64,
    dead: i64,
    /// How long the job at the head has waited; 0 when none waits.
    oldest_ready_age_seconds: f64,
}

impl From<LaneView> for Lane {
    fn from(lane: LaneView) -> Self {
        Lane {
            name: lane.name,
            transport: lane.transport,
            broker: lane.broker,
            paused: lane.paused,
            ready: lane.ready,
            unpublished: lane.unpublished,
            scheduled: lane.scheduled,
            running: lane.running,
            dead: lane.dead,
            oldest_ready_age_seconds: lane.oldest_ready_age_seconds,
        }
    }
}

#[utoipa::path(get, path = "/lanes", tag = "jobs", params(ListQuery), responses((status = 200, body = Page<Lane>)))]
async fn list_lanes(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
) -> ApiResult<Json<Page<Lane>>> {
    list.fixed_order("name")?;
    caller.require(Permission::LanesRead)?;
    let mut tx = caller.begin(&state).await?;
    let lanes = admin::lanes(&mut tx, Some(caller.organization().0)).await.map_err(store::Error::from)?;
    let lanes = lanes.into_iter().map(Lane::from).collect();
    Ok(Json(list.page_of_all(lanes, |lane| lane.name.clone())?))
}

/// Begin no more jobs of this lane, in no process (operator's organization only)
#[utoipa::path(post, path = "/lanes/{name}/pause", tag = "jobs", params(("name" = String, Path)), responses((status = 204)))]
async fn pause_lane(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(name): ApiPath<String>,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    actions::operations::pause_lane(&mut tx, &caller.actor(), &name).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Go on with a paused lane (operator's organization only)
#[utoipa::path(post, path = "/lanes/{name}/resume", tag = "jobs", params(("name" = String, Path)), responses((status = 204)))]
async fn resume_lane(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(name): ApiPath<String>,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    actions::operations::resume_lane(&mut tx, &caller.actor(), &name).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
