//! Lanes: the queues, with the organization's jobs in them. Pausing and limiting are for the operator's organization.

use crate::filters::filters;
use crate::shape::Shaping;
use crate::whole::WholeQuery;
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, ListQuery, Page, Problem};
use actions::operations;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use queue::admin::LaneView;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use store::listing::{Field, Key, Kind, List, field};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_lanes))
        .routes(routes!(change_lane))
        .routes(routes!(pause_lane))
        .routes(routes!(resume_lane))
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
    /// What was there is worked off; then it is paused.
    draining: bool,
    ready: i64,
    /// Of those that are ready: not handed to the broker yet.
    unpublished: i64,
    scheduled: i64,
    running: i64,
    /// Waiting for a limit.
    limited: i64,
    /// Waiting for the end of a batch.
    suspended: i64,
    dead: i64,
    /// Numbers above 5,000 (above 500, when many lanes are full) are estimates.
    approximate: bool,
    /// How long the job at the head has waited; 0 when none waits.
    oldest_ready_age_seconds: f64,
    /// Jobs of all tenants that run at once in all processes; null: as many as the workers have places for.
    at_once: Option<i32>,
    /// Waiting time that one point of priority is worth.
    aging_seconds: f64,
}

impl From<LaneView> for Lane {
    fn from(lane: LaneView) -> Self {
        Lane {
            name: lane.name,
            transport: lane.transport,
            broker: lane.broker,
            paused: lane.paused,
            draining: lane.draining,
            ready: lane.ready,
            unpublished: lane.unpublished,
            scheduled: lane.scheduled,
            running: lane.running,
            limited: lane.limited,
            suspended: lane.suspended,
            approximate: lane.approximate,
            dead: lane.dead,
            oldest_ready_age_seconds: lane.oldest_ready_age_seconds,
            at_once: lane.at_once,
            aging_seconds: lane.aging_seconds,
        }
    }
}

const FIELDS: &[Field] = &[
    field("name", Kind::Text, "name").by("name", "text"),
    field("transport", Kind::Text, "transport"),
    field("broker", Kind::Text, "broker").or_null(),
    field("paused", Kind::Flag, "paused"),
    field("draining", Kind::Flag, "draining"),
    field("ready", Kind::Number, "ready").by("ready", "bigint"),
    field("unpublished", Kind::Number, "unpublished"),
    field("scheduled", Kind::Number, "scheduled").by("scheduled", "bigint"),
    field("running", Kind::Number, "running").by("running", "bigint"),
    field("limited", Kind::Number, "limited"),
    field("suspended", Kind::Number, "suspended"),
    field("dead", Kind::Number, "dead").by("dead", "bigint"),
    field("oldest_ready_age_seconds", Kind::Number, "oldest_ready_age_seconds"),
    field("at_once", Kind::Number, "at_once").or_null(),
];
const LIST: List = List { from: "", fields: FIELDS, usual: "name", id: Key { sql: "name", cast: "text" } };

filters!(LaneFilters, FIELDS);

/// List lanes
///
/// Sorts by name, ready, scheduled, running or dead; by name, if nothing is named.
#[utoipa::path(get, path = "/lanes", tag = "jobs", params(ListQuery, Shaping, LaneFilters), responses((status = 200, body = Page<Lane>)))]
async fn list_lanes(
    State(state): State<AppState>,
    caller: Caller,
    query: WholeQuery,
) -> ApiResult<Json<Page<Value>>> {
    let picked = query.of::<Lane>(&LIST, &caller)?;
    let mut tx = caller.begin(&state).await?;
    let lanes = operations::lanes(&mut tx, &caller.actor()).await?;
    Ok(Json(picked.page(lanes.into_iter().map(Lane::from))?))
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LaneChange {
    /// Jobs that run at once in all processes; null: as the program says.
    #[serde(default, deserialize_with = "crate::body::nullable")]
    #[schema(value_type = Option<u32>, example = 6)]
    at_once: Option<Option<u32>>,
    /// Waiting time that one point of priority is worth: a day at most; 0 switches priorities off.
    #[schema(maximum = 86400, example = 60)]
    aging_seconds: Option<u32>,
}

/// Limit a lane, or change what priorities are worth in it (operator's organization only)
#[utoipa::path(patch, path = "/lanes/{name}", tag = "jobs", params(("name" = String, Path)), request_body = LaneChange,
    responses((status = 204), (status = 403, body = Problem), (status = 422, body = Problem)))]
async fn change_lane(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(name): ApiPath<String>,
    ApiJson(body): ApiJson<LaneChange>,
) -> ApiResult<StatusCode> {
    let aging = body.aging_seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let change = operations::LaneChange { at_once: body.at_once, aging };
    let mut tx = caller.begin(&state).await?;
    operations::change_lane(&mut tx, &caller.actor(), &name, change).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Begin no more jobs of this lane, in no process (operator's organization only)
#[utoipa::path(post, path = "/lanes/{name}/pause", tag = "jobs", params(("name" = String, Path)), responses((status = 204)))]
async fn pause_lane(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(name): ApiPath<String>,
) -> ApiResult<StatusCode> {
    let mut tx = caller.begin(&state).await?;
    operations::pause_lane(&mut tx, &caller.actor(), &name).await?;
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
    operations::resume_lane(&mut tx, &caller.actor(), &name).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
