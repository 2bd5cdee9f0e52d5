//! Limits of kinds of jobs. They bind all tenants, so only the operator's organization changes them.

use crate::filters::filters;
use crate::shape::Shaping;
use crate::whole::WholeQuery;
use crate::{ApiJson, ApiResult, AppState, Caller, ListQuery, Page, Problem};
use actions::operations;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use queue::admin::{LimitChange, LimitView};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::listing::{Field, Key, Kind, List, field};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_limits)).routes(routes!(change_limit))
}

/// A limit: so many at once, or a rate. What is set is in force instead of what the program declares.
#[derive(Serialize, ToSchema)]
struct Limit {
    #[schema(example = "notify_channel/key")]
    name: String,
    at_once: Option<i32>,
    per_second: Option<f64>,
    burst: i32,
    set_at_once: Option<i32>,
    set_per_second: Option<f64>,
    set_burst: Option<i32>,
    /// Jobs of the organization that hold a place now.
    held: i64,
    /// Jobs of the organization that wait for it, counted up to 5,000.
    waiting: i64,
}

impl From<LimitView> for Limit {
    fn from(limit: LimitView) -> Self {
        Limit {
            name: limit.name,
            at_once: limit.at_once,
            per_second: limit.per_second,
            burst: limit.burst,
            set_at_once: limit.set_at_once,
            set_per_second: limit.set_per_second,
            set_burst: limit.set_burst,
            held: limit.held,
            waiting: limit.waiting,
        }
    }
}

const FIELDS: &[Field] = &[
    field("name", Kind::Text, "name").by("name", "text"),
    field("at_once", Kind::Number, "at_once").or_null(),
    field("per_second", Kind::Number, "per_second").or_null(),
    field("held", Kind::Number, "held").by("held", "bigint"),
    field("waiting", Kind::Number, "waiting").by("waiting", "bigint"),
];
const LIST: List = List { from: "", fields: FIELDS, usual: "name", id: Key { sql: "name", cast: "text" } };

filters!(LimitFilters, FIELDS);

/// The limits of kinds, with the organization's jobs
///
/// Sorts by name, held or waiting; by name, if nothing is named.
#[utoipa::path(get, path = "/limits", tag = "jobs", params(ListQuery, Shaping, LimitFilters), responses((status = 200, body = Page<Limit>)))]
async fn list_limits(
    State(state): State<AppState>,
    caller: Caller,
    query: WholeQuery,
) -> ApiResult<Json<Page<Value>>> {
    let picked = query.of::<Limit>(&LIST, &caller)?;
    let mut tx = caller.begin(&state).await?;
    let limits = operations::limits(&mut tx, &caller.actor()).await?;
    Ok(Json(picked.page(limits.into_iter().map(Limit::from))?))
}

/// Without a number, what the program declares is in force again.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Change {
    #[schema(example = "notify_channel/key")]
    name: String,
    /// Of a limit of so many at once.
    at_once: Option<u32>,
    /// Of a rate: starts a second.
    per_second: Option<f64>,
    /// Of a rate: how many may start together after a rest.
    #[schema(minimum = 1)]
    burst: Option<u32>,
}

/// Put other numbers in force, in all processes and for all tenants (operator's organization only)
#[utoipa::path(patch, path = "/limits", tag = "jobs", request_body = Change,
    responses((status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn change_limit(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<Change>,
) -> ApiResult<StatusCode> {
    let change = LimitChange { at_once: body.at_once, per_second: body.per_second, burst: body.burst };
    let mut tx = caller.begin(&state).await?;
    operations::change_limit(&mut tx, &caller.actor(), &body.name, change).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
