//! The actions on an incident. Each answers with the incident as it is afterwards.

use super::input;
use super::view::IncidentView;
use super::{answer, guarded};
use crate::body::nullable;
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch};
use actions::tickets::{self, Assignment, Escalation};
use axum::extract::State;
use axum::response::Response;
use domain::Permission::{TicketsAssign, TicketsEscalate};
use domain::TeamId;
use domain::ticket::Priority;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(assign))
        .routes(routes!(escalate))
        .routes(routes!(resolve))
        .routes(routes!(close))
        .routes(routes!(reopen))
        .routes(routes!(cancel))
}

/// To a person, a team, or both; null takes it away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AssignBody {
    /// Id or e-mail address of an agent, manager or admin.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<String>)]
    assignee: Option<Option<String>>,
    /// A team that the assignee is not in takes the ticket away from them, unless an assignee is named too.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<uuid::Uuid>)]
    team: Option<Option<TeamId>>,
    reason: Option<String>,
}

/// Assign an incident
#[utoipa::path(post, path = "/incidents/{id}/assign", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    request_body = AssignBody, responses((status = 200, body = IncidentView)))]
async fn assign(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<AssignBody>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let ticket = guarded(&mut tx, &caller, &key, &if_match).await?;
    let actor = caller.actor();
    let assignee = match body.assignee {
        Some(Some(text)) => {
            Some(input::person(&mut tx, &actor, TicketsAssign, "/assignee", Some(&text)).await?)
        }
        Some(None) => Some(None),
        None => None,
    };
    let assignment = Assignment { assignee, team: body.team, reason: body.reason };
    let ticket = tickets::assign(&mut tx, &actor, ticket.id, assignment).await?;
    answer(tx, ticket).await
}

/// With nothing but the reason, the priority is raised by one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EscalateBody {
    reason: String,
    #[schema(value_type = Option<String>, example = "critical")]
    priority: Option<Priority>,
    #[schema(value_type = Option<uuid::Uuid>)]
    team: Option<TeamId>,
    /// Id or e-mail address of an agent, manager or admin.
    assignee: Option<String>,
}

/// Escalate an incident
#[utoipa::path(post, path = "/incidents/{id}/escalate", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    request_body = EscalateBody, responses((status = 200, body = IncidentView)))]
async fn escalate(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<EscalateBody>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let ticket = guarded(&mut tx, &caller, &key, &if_match).await?;
    let actor = caller.actor();
    let named = body.assignee.as_deref();
    let assignee = input::person(&mut tx, &actor, TicketsEscalate, "/assignee", named).await?;
    let escalation = Escalation { reason: body.reason, priority: body.priority, team: body.team, assignee };
    let ticket = tickets::escalate(&mut tx, &actor, ticket.id, escalation).await?;
    answer(tx, ticket).await
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ResolveBody {
    /// How it was resolved: the requester reads it.
    resolution: String,
}

/// Resolve an incident
#[utoipa::path(post, path = "/incidents/{id}/resolve", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    request_body = ResolveBody, responses((status = 200, body = IncidentView)))]
async fn resolve(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<ResolveBody>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let ticket = guarded(&mut tx, &caller, &key, &if_match).await?;
    let ticket = tickets::resolve(&mut tx, &caller.actor(), ticket.id, &body.resolution).await?;
    answer(tx, ticket).await
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReasonBody {
    reason: Option<String>,
}

fn reason(body: Option<ApiJson<ReasonBody>>) -> Option<String> {
    body.and_then(|ApiJson(body)| body.reason)
}

/// Close a resolved incident
#[utoipa::path(post, path = "/incidents/{id}/close", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    request_body = Option<ReasonBody>, responses((status = 200, body = IncidentView)))]
async fn close(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    if_match: IfMatch,
    body: Option<ApiJson<ReasonBody>>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let ticket = guarded(&mut tx, &caller, &key, &if_match).await?;
    let ticket = tickets::close(&mut tx, &caller.actor(), ticket.id, reason(body).as_deref()).await?;
    answer(tx, ticket).await
}

/// Reopen a resolved or closed incident
///
/// Also its requester may.
#[utoipa::path(post, path = "/incidents/{id}/reopen", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    request_body = Option<ReasonBody>, responses((status = 200, body = IncidentView)))]
async fn reopen(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    if_match: IfMatch,
    body: Option<ApiJson<ReasonBody>>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let ticket = guarded(&mut tx, &caller, &key, &if_match).await?;
    let ticket = tickets::reopen(&mut tx, &caller.actor(), ticket.id, reason(body).as_deref()).await?;
    answer(tx, ticket).await
}

/// Cancel an open incident
///
/// For what was withdrawn or never a case. Final: incidents are not deleted.
#[utoipa::path(post, path = "/incidents/{id}/cancel", tag = "incidents", params(("id" = String, Path, description = "id or number")),
    request_body = Option<ReasonBody>, responses((status = 200, body = IncidentView)))]
async fn cancel(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(key): ApiPath<String>,
    if_match: IfMatch,
    body: Option<ApiJson<ReasonBody>>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let ticket = guarded(&mut tx, &caller, &key, &if_match).await?;
    let ticket = tickets::cancel(&mut tx, &caller.actor(), ticket.id, reason(body).as_deref()).await?;
    answer(tx, ticket).await
}
