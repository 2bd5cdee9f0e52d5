//! `webhooks`: where events are told to other systems. A secret is shown once and never again.

use super::notification_channels::Accepted;
use crate::caller::Credential;
use crate::filters::{Asked, filters};
use crate::idempotency::HoldsSecret;
use crate::shape::{Noun, Shape, Shaping};
use crate::{ApiJson, ApiPath, ApiResult, AppState, Caller, IfMatch, ListQuery, Page, Problem, Search, etag};
use actions::webhooks::{self, NewWebhook, WebhookChange};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::{DateTime, TimeDelta, Utc};
use domain::{ApiTokenId, EventPattern, Permission, WebhookId, WebhookOff};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::webhooks::{FIELDS, LIST, Webhook};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// How long both secrets sign while one replaces the other, if nothing else is said: a day.
const OVERLAP: i64 = 86_400;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, change, remove))
        .routes(routes!(rotate_secret))
        .routes(routes!(test))
        .routes(routes!(replay))
        .routes(routes!(list_event_types))
}

#[derive(Debug, Serialize, ToSchema)]
struct WebhookView {
    #[schema(value_type = Uuid)]
    id: WebhookId,
    #[schema(example = "https://hooks.example.com/relaydesk")]
    url: String,
    description: String,
    #[schema(value_type = Vec<String>, example = json!(["incident.resolved", "sla.*"]))]
    event_types: Vec<EventPattern>,
    is_active: bool,
    created_by: Option<Uuid>,
    /// Who said last where it goes or what it is told: it hears what they may see.
    owner: Uuid,
    /// When the API token expires with which the owner said so: then it hears nothing any more.
    expires_at: Option<DateTime<Utc>>,
    /// Until then messages are signed with the secret before as well.
    previous_secret_until: Option<DateTime<Utc>>,
    disabled_at: Option<DateTime<Utc>>,
    /// `by_hand`, `gone` (the receiver answered 410), `failing` or `owner_deleted`.
    #[schema(value_type = Option<String>, example = "failing")]
    disabled_reason: Option<WebhookOff>,
    /// The first failure since something was delivered.
    failing_since: Option<DateTime<Utc>>,
    /// Failed attempts since then.
    failures: i32,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Webhook> for WebhookView {
    fn from(webhook: Webhook) -> Self {
        let (disabled_at, disabled_reason) = webhook.disabled.unzip();
        WebhookView {
            id: webhook.id,
            url: webhook.url,
            description: webhook.description,
            event_types: webhook.event_types,
            is_active: webhook.is_active,
            created_by: webhook.created_by.map(Into::into),
            owner: webhook.owner.into(),
            expires_at: webhook.expires_at,
            previous_secret_until: webhook.previous.map(|(_, until)| until),
            disabled_at,
            disabled_reason,
            failing_since: webhook.failing_since,
            failures: webhook.failures,
            created_at: webhook.created_at,
            updated_at: webhook.updated_at,
        }
    }
}

/// A webhook with its secret, which is not shown again.
#[derive(Serialize, ToSchema)]
struct WebhookWithSecret {
    #[serde(flatten)]
    #[schema(inline)]
    view: WebhookView,
    #[schema(example = "whsec_…")]
    secret: String,
}

fn with_secret(status: StatusCode, webhook: Webhook, secret: &SecretString) -> Response {
    let tag = etag::header(webhook.version);
    let location = format!("/api/v1/webhooks/{}", webhook.id);
    let body = WebhookWithSecret { view: webhook.into(), secret: secret.expose_secret().to_owned() };
    let location = [(axum::http::header::LOCATION, location)];
    (status, location, tag, Extension(HoldsSecret), Json(body)).into_response()
}

fn made_with(caller: &Caller) -> Option<ApiTokenId> {
    match caller.credential() {
        Credential::ApiToken(id) => Some(id),
        Credential::Login(_) => None,
    }
}

filters!(WebhookFilters, FIELDS);

const EXPANDABLE: [(&str, Noun); 2] = [("owner", Noun::Person), ("created_by", Noun::Person)];

/// List webhooks
///
/// Sorts by created_at, updated_at or url; the newest first, if nothing is named. Can expand owner and created_by.
#[utoipa::path(get, path = "/webhooks", tag = "webhooks", params(ListQuery, Search, Shaping, WebhookFilters),
    responses((status = 200, body = Page<WebhookView>),
        (status = 403, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::WebhooksRead)?;
    shape.check_with::<WebhookView>(&EXPANDABLE)?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    let rows = store::webhooks::list(&mut tx, &wanted).await?;
    let mut page = list.whole(rows, WebhookView::from)?;
    shape.expand(&mut tx, &caller, &mut page.items, &EXPANDABLE).await?;
    Ok(Json(page))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WebhookInput {
    #[schema(example = "https://hooks.example.com/relaydesk")]
    url: String,
    #[serde(default)]
    description: String,
    /// Types as `GET webhook-event-types` lists them, `NOUN.*`, or `*`.
    #[schema(example = json!(["incident.resolved"]))]
    event_types: Vec<String>,
    is_active: Option<bool>,
}

/// Make a webhook
///
/// The answer holds the secret that signs its messages. It is not shown again.
#[utoipa::path(post, path = "/webhooks", tag = "webhooks", request_body = WebhookInput,
    responses((status = 201, body = WebhookWithSecret), (status = 403, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn create(
    State(state): State<AppState>,
    caller: Caller,
    ApiJson(body): ApiJson<WebhookInput>,
) -> ApiResult<Response> {
    let new = NewWebhook {
        url: body.url,
        description: body.description,
        event_types: body.event_types,
        is_active: body.is_active.unwrap_or(true),
    };
    let mut tx = caller.begin(&state).await?;
    let made = webhooks::create(&mut tx, &caller.actor(), &state.secrets, made_with(&caller), &new).await?;
    tx.commit().await?;
    Ok(with_secret(StatusCode::CREATED, made.0, &made.1))
}

/// Show a webhook
#[utoipa::path(get, path = "/webhooks/{id}", tag = "webhooks", params(("id" = Uuid, Path)),
    responses((status = 200, body = WebhookView), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<WebhookId>,
) -> ApiResult<Response> {
    caller.require(Permission::WebhooksRead)?;
    let mut tx = caller.begin(&state).await?;
    let webhook = store::webhooks::get(&mut tx, id).await?;
    Ok(etag::ok(webhook.version, WebhookView::from(webhook)))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WebhookPatch {
    /// Whoever changes this or `event_types` becomes the owner.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    url: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    description: Option<String>,
    #[serde(default, deserialize_with = "crate::body::not_null")]
    event_types: Option<Vec<String>>,
    /// Also switches on again what was switched off by itself.
    #[serde(default, deserialize_with = "crate::body::not_null")]
    is_active: Option<bool>,
}

/// Change a webhook
#[utoipa::path(patch, path = "/webhooks/{id}", tag = "webhooks", params(("id" = Uuid, Path)), request_body = WebhookPatch,
    responses((status = 200, body = WebhookView), (status = 404, body = Problem), (status = 412, body = Problem),
        (status = 422, body = Problem)))]
async fn change(
    State(state): State<AppState>,
    caller: Caller,
    if_match: IfMatch,
    ApiPath(id): ApiPath<WebhookId>,
    ApiJson(body): ApiJson<WebhookPatch>,
) -> ApiResult<Response> {
    let change = WebhookChange {
        url: body.url,
        description: body.description,
        event_types: body.event_types,
        is_active: body.is_active,
    };
    let mut tx = caller.begin(&state).await?;
    let (actor, version) = (caller.actor(), if_match.version()?);
    let webhook = webhooks::update(&mut tx, &actor, made_with(&caller), id, version, change).await?;
    tx.commit().await?;
    Ok(etag::ok(webhook.version, WebhookView::from(webhook)))
}

/// Delete a webhook, with the log of its deliveries
#[utoipa::path(delete, path = "/webhooks/{id}", tag = "webhooks", params(("id" = Uuid, Path)),
    responses((status = 204), (status = 404, body = Problem), (status = 412, body = Problem)))]
async fn remove(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<WebhookId>,
    if_match: IfMatch,
) -> ApiResult<StatusCode> {
    caller.require(Permission::WebhooksManage)?;
    let mut tx = caller.begin(&state).await?;
    if_match.check(store::webhooks::lock(&mut tx, id).await?.version)?;
    webhooks::delete(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RotateInput {
    /// For so long messages are signed with both secrets: a day if left out, 0 for not at all.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 604_800)]
    overlap_seconds: Option<u32>,
}

/// Replace the secret
#[utoipa::path(post, path = "/webhooks/{id}/secret", tag = "webhooks", params(("id" = Uuid, Path)), request_body = Option<RotateInput>,
    responses((status = 200, body = WebhookWithSecret), (status = 404, body = Problem), (status = 422, body = Problem)))]
async fn rotate_secret(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<WebhookId>,
    body: Option<ApiJson<RotateInput>>,
) -> ApiResult<Response> {
    let wanted = body.and_then(|ApiJson(body)| body.overlap_seconds);
    let overlap = TimeDelta::seconds(wanted.map_or(OVERLAP, i64::from));
    let mut tx = caller.begin(&state).await?;
    let made = webhooks::rotate_secret(&mut tx, &caller.actor(), &state.secrets, id, overlap).await?;
    tx.commit().await?;
    Ok(with_secret(StatusCode::OK, made.0, &made.1))
}

/// A delivery was asked for.
#[derive(Debug, Serialize, ToSchema)]
struct TestAsked {
    delivery: Uuid,
    job: Uuid,
}

/// Send a test message
///
/// A signed `webhook.test`, tried once. What came of it is at `GET webhook-deliveries/{delivery}`.
#[utoipa::path(post, path = "/webhooks/{id}/test", tag = "webhooks", params(("id" = Uuid, Path)),
    responses((status = 202, body = TestAsked), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn test(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<WebhookId>,
) -> ApiResult<(StatusCode, Json<TestAsked>)> {
    let mut tx = caller.begin(&state).await?;
    let (delivery, job) = webhooks::test(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(TestAsked { delivery: delivery.0, job: job.0 })))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplayInput {
    #[serde(deserialize_with = "crate::moment::required")]
    since: DateTime<Utc>,
    /// Left out: now.
    #[serde(default, deserialize_with = "crate::moment::optional")]
    until: Option<DateTime<Utc>>,
    /// Also what was delivered; otherwise what failed and what was never tried.
    #[serde(default)]
    even_delivered: bool,
}

/// Tell a time that is past once more
///
/// All events of that time that the webhook wants and may hear of. The job's result says how many there were.
#[utoipa::path(post, path = "/webhooks/{id}/replay", tag = "webhooks", params(("id" = Uuid, Path)), request_body = ReplayInput,
    responses((status = 202, body = Accepted), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 422, body = Problem)))]
async fn replay(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<WebhookId>,
    ApiJson(body): ApiJson<ReplayInput>,
) -> ApiResult<(StatusCode, Json<Accepted>)> {
    let mut tx = caller.begin(&state).await?;
    let actor = caller.actor();
    let job = webhooks::replay_time(&mut tx, &actor, id, body.since, body.until, body.even_delivered).await?;
    tx.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { job: job.0 })))
}

/// List the types of events
///
/// All that a webhook can ask for by name.
#[utoipa::path(get, path = "/webhook-event-types", tag = "webhooks", params(ListQuery),
    responses((status = 200, body = Page<String>), (status = 403, body = Problem)))]
async fn list_event_types(caller: Caller, query: ListQuery) -> ApiResult<Json<Page<String>>> {
    caller.require(Permission::WebhooksRead)?;
    query.fixed_order("name")?;
    Ok(Json(query.page_of_all(domain::event_type::all(), String::clone)?))
}
