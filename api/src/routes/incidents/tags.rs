//! Tags of an incident.

use super::view::IncidentView;
use super::{answer, guarded};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch};
use actions::tickets;
use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(add)).routes(routes!(remove))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TagBody {
    /// Kept in lower case.
    #[schema(min_length = 1, max_length = 64, example = "network")]
    tag: String,
}

/// Tag an incident
#[utoipa::path(post, path = "/incidents/{id}/tags", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    request_body = TagBody, responses((status = 200, body = IncidentView)))]
async fn add(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<TagBody>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let ticket = guarded(&mut tx, &caller, &key, &if_match).await?;
    tickets::add_tag(&mut tx, &caller.actor(), ticket.id, &body.tag).await?;
    answer(tx, ticket).await
}

/// Take a tag off an incident
#[utoipa::path(delete, path = "/incidents/{id}/tags/{tag}", tag = "incidents",
    params(("id" = String, Path, description = "id or number"), ("tag" = String, Path)), responses((status = 200, body = IncidentView)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath((key, tag)): ApiPath<(String, String)>,
    if_match: IfMatch,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let ticket = guarded(&mut tx, &caller, &key, &if_match).await?;
    tickets::remove_tag(&mut tx, &caller.actor(), ticket.id, &tag).await?;
    answer(tx, ticket).await
}
