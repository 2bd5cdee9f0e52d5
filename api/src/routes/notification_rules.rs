//! `notification-rules`: which event goes to which channel.

use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, Search, etag};
use actions::rules::{self, NewRule, RuleChange};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::{ChannelId, Permission, RuleId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::rules::{FIELDS, LIST, Rule};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(show, change, remove))
}

#[derive(Debug, Serialize, ToSchema)]
struct RuleView {
    #[schema(value_type = Uuid)]
    id: RuleId,
    name: String,
    #[schema(example = "incident.opened")]
    event: String,
    #[schema(value_type = Uuid)]
    channel: ChannelId,
    #[schema(value_type = Object, example = json!({"priority": ["critical", "high"]}))]
    conditions: Value,
    is_active: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Rule> for RuleView {
    fn from(rule: Rule) -> Self {
        RuleView {
            id: rule.id,
            name: rule.name,
            event: rule.event,
            channel: rule.channel,
            conditions: rule.conditions.to_value(),
            is_active: rule.is_active,
            created_at: rule.created_at,
            updated_at: rule.updated_at,
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RuleInput {
    name: Option<String>,
    /// For example `incident.opened`, `incident.resolved`, `sla.warning`, `sla.breached`.
    #[schema(example = "incident.opened")]
    event: String,
    #[schema(value_type = Uuid)]
    channel: ChannelId,
    /// Field → value or list of values; all fields must match. Fields: kind, priority, impact, urgency, status, source, team,
    /// assignee, requester, tag, metric, visibility.
    #[schema(value_type = Option<Object>, example = json!({"priority": ["critical", "high"]}))]
    conditions: Option<Value>,
    is_active: Option<bool>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RulePatch {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    event: Option<String>,
    #[schema(value_type = Option<Uuid>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    channel: Option<ChannelId>,
    #[schema(value_type = Option<Object>)]
    conditions: Option<Value>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    is_active: Option<bool>,
}

filters!(RuleFilters, FIELDS);

/// List notification rules
///
/// Sorts by created_at, updated_at, name or event; the newest first, if nothing is named.
#[utoipa::path(get, path = "/notification-rules", tag = "notifications", params(ListQuery, Search, Shaping, RuleFilters),
    responses((status = 200, body = Page<RuleView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::NotificationsRead)?;
    shape.check::<RuleView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::rules::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, RuleView::from)?))
}

/// Create a notification rule
#[utoipa::path(post, path = "/notification-rules", tag = "notifications", request_body = RuleInput,
    responses((status = 201, body = RuleView), (status = 422, body = Problem)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<RuleInput>,
) -> ApiResult<Response> {
    let new = NewRule {
        name: body.name,
        event: body.event,
        channel: body.channel,
        conditions: body.conditions.unwrap_or_default(),
        is_active: body.is_active.unwrap_or(true),
    };
    let mut tx = caller.begin(&state).await?;
    let rule = rules::create(&mut tx, &caller.actor(), new).await?;
    tx.commit().await?;
    let location = format!("/api/v1/notification-rules/{}", rule.id);
    Ok(etag::created(&location, rule.version, RuleView::from(rule)))
}

/// Show a notification rule
#[utoipa::path(get, path = "/notification-rules/{id}", tag = "notifications", params(("id" = Uuid, Path)),
    responses((status = 200, body = RuleView), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<RuleId>,
) -> ApiResult<Response> {
    caller.require(Permission::NotificationsRead)?;
    let mut tx = caller.begin(&state).await?;
    let rule = store::rules::get(&mut tx, id).await?;
    Ok(etag::ok(rule.version, RuleView::from(rule)))
}

/// Change a notification rule
#[utoipa::path(patch, path = "/notification-rules/{id}", tag = "notifications", params(("id" = Uuid, Path)),
    request_body = RulePatch, responses((status = 200, body = RuleView), (status = 422, body = Problem)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    if_match: IfMatch,
    ApiPath(id): ApiPath<RuleId>,
    ApiJson(body): ApiJson<RulePatch>,
) -> ApiResult<Response> {
    let change = RuleChange {
        name: body.name,
        event: body.event,
        channel: body.channel,
        conditions: body.conditions,
        is_active: body.is_active,
    };
    let mut tx = caller.begin(&state).await?;
    let rule = rules::update(&mut tx, &caller.actor(), id, if_match.version()?, change).await?;
    tx.commit().await?;
    Ok(etag::ok(rule.version, RuleView::from(rule)))
}

/// Delete a notification rule
#[utoipa::path(delete, path = "/notification-rules/{id}", tag = "notifications", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<RuleId>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::NotificationsManage)?;
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::rules::lock(&mut tx, id).await?.version)?;
    rules::delete(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
