//! `notification-channels`: where messages go. Secrets go in and never come out.

use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, Search, etag};
use actions::channels::{self, ChannelChange, NewChannel};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use chrono::{DateTime, Utc};
use domain::{ChannelId, ChannelKind, Permission};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::channels::{Channel, FIELDS, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
        .routes(routes!(test))
}

#[derive(Debug, Serialize, ToSchema)]
struct ChannelView {
    #[schema(value_type = Uuid)]
    id: ChannelId,
    #[schema(value_type = String, example = "slack")]
    kind: ChannelKind,
    name: String,
    /// Secrets are masked.
    #[schema(value_type = Object, example = json!({"webhook_url": "********"}))]
    config: Value,
    is_active: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Channel> for ChannelView {
    fn from(channel: Channel) -> Self {
        ChannelView {
            id: channel.id,
            kind: channel.kind(),
            config: channel.config.masked(),
            name: channel.name,
            is_active: channel.is_active,
            created_at: channel.created_at,
            updated_at: channel.updated_at,
        }
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChannelInput {
    /// `slack`, `teams` or `email`.
    #[schema(value_type = String, example = "slack")]
    kind: ChannelKind,
    #[schema(example = "#operations")]
    name: String,
    /// Slack: `{"webhook_url"}`, or `{"bot_token", "channel"}` and for a Slack-compatible server also `"api_url"`; Teams:
    /// `{"webhook_url"}` of a workflow; e-mail: `{"to": ["address"]}`.
    #[schema(value_type = Object, example = json!({"webhook_url": "https://hooks.slack.com/services/T000/B000/XXXX"}))]
    config: Value,
    is_active: Option<bool>,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChannelPatch {
    #[serde(default, deserialize_with = "crate::body::not_null")]
    name: Option<String>,
    /// The whole configuration; a field that is sent back masked keeps its secret.
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    is_active: Option<bool>,
}

/// Long work was taken on: its job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accepted {
    pub job: Uuid,
}

filters!(ChannelFilters, FIELDS);

/// List notification channels
///
/// Sorts by created_at, updated_at or name; the newest first, if nothing is named.
#[utoipa::path(get, path = "/notification-channels", tag = "notifications", params(ListQuery, Search, Shaping, ChannelFilters),
    responses((status = 200, body = Page<ChannelView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::NotificationsRead)?;
    shape.check::<ChannelView>(&[])?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::channels::list(&mut tx, &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, ChannelView::from)?))
}

/// Create a notification channel
#[utoipa::path(post, path = "/notification-channels", tag = "notifications", request_body = ChannelInput,
    responses((status = 201, body = ChannelView), (status = 422, body = Problem)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<ChannelInput>,
) -> ApiResult<Response> {
    let new = NewChannel {
        kind: body.kind,
        name: body.name,
        config: body.config,
        is_active: body.is_active.unwrap_or(true),
    };
    let mut tx = caller.begin(&state).await?;
    let channel = channels::create(&mut tx, &caller.actor(), &state.secrets, new).await?;
    tx.commit().await?;
    let location = format!("/api/v1/notification-channels/{}", channel.id);
    Ok(etag::created(&location, channel.version, ChannelView::from(channel)))
}

/// Show a notification channel
#[utoipa::path(get, path = "/notification-channels/{id}", tag = "notifications", params(("id" = Uuid, Path)),
    responses((status = 200, body = ChannelView), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ChannelId>,
) -> ApiResult<Response> {
    caller.require(Permission::NotificationsRead)?;
    let mut tx = caller.begin(&state).await?;
    let channel = store::channels::get(&mut tx, id).await?;
    Ok(etag::ok(channel.version, ChannelView::from(channel)))
}

/// Change a notification channel
#[utoipa::path(patch, path = "/notification-channels/{id}", tag = "notifications", params(("id" = Uuid, Path)),
    request_body = ChannelPatch, responses((status = 200, body = ChannelView), (status = 422, body = Problem)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    if_match: IfMatch,
    ApiPath(id): ApiPath<ChannelId>,
    ApiJson(body): ApiJson<ChannelPatch>,
) -> ApiResult<Response> {
    let change = ChannelChange { name: body.name, config: body.config, is_active: body.is_active };
    let mut tx = caller.begin(&state).await?;
    let channel =
        channels::update(&mut tx, &caller.actor(), &state.secrets, id, if_match.version()?, change).await?;
    tx.commit().await?;
    Ok(etag::ok(channel.version, ChannelView::from(channel)))
}

/// Delete a notification channel
///
/// Refused (409) while rules or escalation chains name it. What it was sent stays in the ledger.
#[utoipa::path(delete, path = "/notification-channels/{id}", tag = "notifications", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ChannelId>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::NotificationsManage)?;
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::channels::lock(&mut tx, id).await?.version)?;
    channels::delete(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Send a test message
///
/// A real message, now. What came of it is in the ledger: `GET /notifications?channel={id}`.
#[utoipa::path(post, path = "/notification-channels/{id}/test", tag = "notifications", params(("id" = Uuid, Path)),
    responses((status = 202, body = Accepted), (status = 404, body = Problem)))]
async fn test(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<ChannelId>,
) -> ApiResult<(StatusCode, Json<Accepted>)> {
    let mut tx = caller.begin(&state).await?;
    let job = channels::test(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { job: job.0 })))
}
