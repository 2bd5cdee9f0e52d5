//! `alert-sources`: the monitoring systems that may send alerts, each with a hook URL of its own.

use crate::body::nullable;
use crate::filters::{Asked, filters};
use crate::idempotency::HoldsSecret;
use crate::shape::{Noun, Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Search, etag};
use actions::alert_sources::{self, AlertSourcePatch, NewAlertSource, WithToken};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::alert::{AlertSourceKind, Grouping, SeverityMap};
use domain::{Permission, TeamId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::alert_sources::{AlertSource, FIELDS, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
        .routes(routes!(rotate))
}

#[derive(Serialize, ToSchema)]
struct AlertSourceView {
    id: Uuid,
    /// alertmanager or generic.
    #[schema(value_type = String)]
    kind: AlertSourceKind,
    name: String,
    /// The beginning of the token, to tell tokens apart.
    token_prefix: String,
    /// The team that takes the incidents.
    team: Option<Uuid>,
    /// Severity (lower case) to impact and urgency; `*` for all others.
    #[schema(value_type = Object)]
    severity_map: SeverityMap,
    /// group: alerts that the sender groups share an incident; alert: each has its own.
    #[schema(value_type = String)]
    grouping: Grouping,
    auto_resolve: bool,
    reopen_within_seconds: i32,
    max_per_minute: Option<i32>,
    is_active: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// A source with its secret, which is shown this one time.
#[derive(Serialize, ToSchema)]
struct AlertSourceSecret {
    #[serde(flatten)]
    source: AlertSourceView,
    token: String,
    /// What to enter in the monitoring system.
    hook_url: String,
}

impl From<AlertSource> for AlertSourceView {
    fn from(source: AlertSource) -> Self {
        AlertSourceView {
            id: source.id.0,
            kind: source.kind,
            name: source.name,
            token_prefix: source.token_prefix,
            team: source.team.map(|team| team.0),
            severity_map: source.severity_map,
            grouping: source.grouping,
            auto_resolve: source.auto_resolve,
            reopen_within_seconds: source.reopen_within_seconds,
            max_per_minute: source.max_per_minute,
            is_active: source.is_active,
            created_at: source.created_at,
            updated_at: source.updated_at,
        }
    }
}

fn secret(state: &AppState, made: WithToken) -> AlertSourceSecret {
    let hook_url = format!("{}/hooks/{}/{}", state.settings.base_url, made.source.kind, made.token);
    AlertSourceSecret { source: made.source.into(), token: made.token, hook_url }
}

filters!(AlertSourceFilters, FIELDS);

const EXPANDABLE: [(&str, Noun); 1] = [("team", Noun::Team)];

/// List alert sources
///
/// Sorts by created_at, updated_at or name; the newest first, if nothing is named. Can expand team.
#[utoipa::path(get, path = "/alert-sources", tag = "alerts", params(ListQuery, Search, Shaping, AlertSourceFilters),
    responses((status = 200, body = Page<AlertSourceView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::AlertsRead)?;
    shape.check_with::<AlertSourceView>(&EXPANDABLE)?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::alert_sources::list(&mut tx, &wanted).await?;
    let mut page = list.whole(rows, AlertSourceView::from)?;
    shape.expand(&mut tx, &caller, &mut page.items, &EXPANDABLE).await?;
    Ok(Json(page))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewAlertSourceBody {
    /// alertmanager or generic.
    #[schema(value_type = String, example = "alertmanager")]
    kind: AlertSourceKind,
    #[schema(min_length = 1, max_length = 200, example = "Prometheus Berlin")]
    name: String,
    #[schema(value_type = Option<Uuid>)]
    team: Option<TeamId>,
    #[schema(value_type = Option<Object>)]
    severity_map: Option<SeverityMap>,
    /// group (default) or alert.
    #[schema(value_type = Option<String>)]
    grouping: Option<Grouping>,
    /// Default: true.
    auto_resolve: Option<bool>,
    /// Default: 0, what fires again opens a new incident.
    reopen_within_seconds: Option<i32>,
    max_per_minute: Option<i32>,
}

/// Make an alert source
///
/// The answer holds the token and the hook URL; they cannot be shown again.
#[utoipa::path(post, path = "/alert-sources", tag = "alerts", request_body = NewAlertSourceBody,
    responses((status = 201, body = AlertSourceSecret)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<NewAlertSourceBody>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let new = NewAlertSource {
        kind: body.kind,
        name: body.name,
        team: body.team,
        severity_map: body.severity_map,
        grouping: body.grouping,
        auto_resolve: body.auto_resolve,
        reopen_within_seconds: body.reopen_within_seconds,
        max_per_minute: body.max_per_minute,
    };
    let made = alert_sources::create(&mut tx, &caller.actor(), new).await?;
    tx.commit().await?;
    let (location, version) = (format!("/api/v1/alert-sources/{}", made.source.id), made.source.version);
    let mut response = etag::created(&location, version, secret(&state, made));
    response.extensions_mut().insert(HoldsSecret);
    Ok(response)
}

/// Show an alert source
#[utoipa::path(get, path = "/alert-sources/{id}", tag = "alerts", params(("id" = Uuid, Path)),
    responses((status = 200, body = AlertSourceView)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<Response> {
    caller.require(Permission::AlertsRead)?;
    let mut tx = caller.begin(&state).await?;
    let source = store::alert_sources::get(&mut tx, id.into()).await?;
    Ok(etag::ok(source.version, AlertSourceView::from(source)))
}

/// What is left out stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AlertSourceChange {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<Uuid>)]
    team: Option<Option<TeamId>>,
    #[schema(value_type = Option<Object>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    severity_map: Option<SeverityMap>,
    #[schema(value_type = Option<String>)]
    #[serde(default, deserialize_with = "crate::body::not_null")]
    grouping: Option<Grouping>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    auto_resolve: Option<bool>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    reopen_within_seconds: Option<i32>,
    #[serde(default, deserialize_with = "nullable")]
    #[schema(value_type = Option<i32>)]
    max_per_minute: Option<Option<i32>>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    is_active: Option<bool>,
}

/// Change an alert source
#[utoipa::path(patch, path = "/alert-sources/{id}", tag = "alerts", params(("id" = Uuid, Path)),
    request_body = AlertSourceChange, responses((status = 200, body = AlertSourceView)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    if_match: IfMatch,
    ApiJson(body): ApiJson<AlertSourceChange>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let patch = AlertSourcePatch {
        name: body.name,
        team: body.team,
        severity_map: body.severity_map,
        grouping: body.grouping,
        auto_resolve: body.auto_resolve,
        reopen_within_seconds: body.reopen_within_seconds,
        max_per_minute: body.max_per_minute,
        is_active: body.is_active,
    };
    let source =
        alert_sources::update(&mut tx, &caller.actor(), id.into(), if_match.version()?, patch).await?;
    tx.commit().await?;
    Ok(etag::ok(source.version, AlertSourceView::from(source)))
}

/// Make a new token
///
/// The old hook URL stops working at once.
#[utoipa::path(post, path = "/alert-sources/{id}/rotate_token", tag = "alerts", params(("id" = Uuid, Path)),
    responses((status = 200, body = AlertSourceSecret)))]
async fn rotate(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<Response> {
    let mut tx = caller.begin(&state).await?;
    let made = alert_sources::rotate_token(&mut tx, &caller.actor(), id.into()).await?;
    tx.commit().await?;
    let mut response = etag::ok(made.source.version, secret(&state, made));
    response.extensions_mut().insert(HoldsSecret);
    Ok(response)
}

/// Delete an alert source
///
/// Its alerts go with it, its incidents stay.
#[utoipa::path(delete, path = "/alert-sources/{id}", tag = "alerts", params(("id" = Uuid, Path)), responses((status = 204)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::AlertSourcesManage)?;
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::alert_sources::lock(&mut tx, id.into()).await?.version)?;
    alert_sources::delete(&mut tx, &caller.actor(), id.into()).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}
