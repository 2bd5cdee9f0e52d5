//! `webhook-deliveries`: what was told to which webhook, and what its receiver answered.

use super::notification_channels::Accepted;
use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiPath, ApiResult, AppState, Caller, ListQuery, Page, Problem};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::{Permission, WebhookDeliveryId, WebhookId, WebhookStatus};
use serde::Serialize;
use serde_json::Value;
use store::Tx;
use store::webhook_deliveries::{
    self as deliveries, ATTEMPT_FIELDS, ATTEMPTS, FIELDS, LIST, WebhookAttempt, WebhookDelivery,
};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(list_attempts))
        .routes(routes!(replay))
}

#[derive(Debug, Serialize, ToSchema)]
struct WebhookDeliveryView {
    #[schema(value_type = Uuid)]
    id: WebhookDeliveryId,
    /// As the receiver gets it in the header `webhook-id`, at every attempt.
    #[schema(example = "msg_0195f3a4000070008000000000000000")]
    webhook_id: String,
    #[schema(value_type = Uuid)]
    webhook: WebhookId,
    /// Null of a test.
    event: Option<Uuid>,
    #[schema(example = "incident.resolved")]
    event_type: String,
    ticket: Option<Uuid>,
    /// `pending`, `delivered` or `failed`.
    #[schema(value_type = String, example = "delivered")]
    status: WebhookStatus,
    attempts: i32,
    /// How often somebody wanted it again.
    replays: i32,
    last_attempt_at: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
    /// HTTP status of the last answer.
    last_status: Option<i32>,
    /// Why the last attempt failed.
    last_error: Option<String>,
    delivered_at: Option<DateTime<Utc>>,
    job: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<WebhookDelivery> for WebhookDeliveryView {
    fn from(delivery: WebhookDelivery) -> Self {
        WebhookDeliveryView {
            id: delivery.id,
            webhook_id: format!("msg_{}", delivery.id.0.simple()),
            webhook: delivery.webhook,
            event: delivery.event.map(Into::into),
            event_type: delivery.event_type,
            ticket: delivery.ticket.map(Into::into),
            status: delivery.status,
            attempts: delivery.attempts,
            replays: delivery.replays,
            last_attempt_at: delivery.last_attempt_at,
            next_attempt_at: delivery.next_attempt_at,
            last_status: delivery.last_status,
            last_error: delivery.last_error,
            delivered_at: delivery.delivered_at,
            job: delivery.job,
            created_at: delivery.created_at,
            updated_at: delivery.updated_at,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
struct WebhookAttemptView {
    number: i32,
    started_at: DateTime<Utc>,
    /// Null while it runs, or when nobody knows how it ended.
    duration_ms: Option<i32>,
    /// HTTP status of the answer.
    status: Option<i32>,
    /// How the answer begins.
    response: Option<String>,
    error: Option<String>,
}

impl From<WebhookAttempt> for WebhookAttemptView {
    fn from(attempt: WebhookAttempt) -> Self {
        let WebhookAttempt { number, started_at, duration_ms, status, response, error } = attempt;
        WebhookAttemptView { number, started_at, duration_ms, status, response, error }
    }
}

filters!(WebhookDeliveryFilters, FIELDS);

/// List deliveries of webhooks
///
/// Without those about tickets that the caller does not see. Sorts by created_at; newest first, if nothing is named.
#[utoipa::path(get, path = "/webhook-deliveries", tag = "webhooks", params(ListQuery, Shaping, WebhookDeliveryFilters),
    responses((status = 200, body = Page<WebhookDeliveryView>), (status = 403, body = Problem)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::WebhooksRead)?;
    shape.check::<WebhookDeliveryView>(&[])?;
    let mut tx = caller.begin(&state).await?;
    let asked = asked.with_tickets(&mut tx, &caller.actor(), &LIST).await?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let rows = deliveries::list(&mut tx, &caller.reach(), &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, WebhookDeliveryView::from)?))
}

/// One that the caller may know of.
async fn seen(tx: &mut Tx, caller: &Caller, id: WebhookDeliveryId) -> ApiResult<WebhookDelivery> {
    caller.require(Permission::WebhooksRead)?;
    let delivery = deliveries::get(tx, id).await?;
    if let Some(ticket) = delivery.ticket {
        actions::tickets::see(tx, &caller.actor(), ticket).await?;
    }
    Ok(delivery)
}

/// Show a delivery of a webhook
#[utoipa::path(get, path = "/webhook-deliveries/{id}", tag = "webhooks", params(("id" = Uuid, Path)),
    responses((status = 200, body = WebhookDeliveryView), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<WebhookDeliveryId>,
) -> ApiResult<Json<WebhookDeliveryView>> {
    let mut tx = caller.begin(&state).await?;
    Ok(Json(seen(&mut tx, &caller, id).await?.into()))
}

filters!(WebhookAttemptFilters, ATTEMPT_FIELDS);

/// List the attempts of a delivery
///
/// Sorts by number; the newest first, if nothing is named.
#[utoipa::path(get, path = "/webhook-deliveries/{id}/attempts", tag = "webhooks",
    params(("id" = Uuid, Path), ListQuery, Shaping, WebhookAttemptFilters),
    responses((status = 200, body = Page<WebhookAttemptView>), (status = 404, body = Problem)))]
async fn list_attempts(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<WebhookDeliveryId>,
    query: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    shape.check::<WebhookAttemptView>(&[])?;
    let wanted = query.wanted(&ATTEMPTS, &asked, caller.user_id())?;
    let mut tx = caller.begin(&state).await?;
    seen(&mut tx, &caller, id).await?;
    let rows = deliveries::attempts(&mut tx, id, &wanted).await?;
    Ok(Json(query.shaped(rows, &shape, WebhookAttemptView::from)?))
}

/// Tell it once more
///
/// Whatever came of it before, under the same `webhook-id`. Not while it waits for its next attempt (409).
#[utoipa::path(post, path = "/webhook-deliveries/{id}/replay", tag = "webhooks", params(("id" = Uuid, Path)),
    responses((status = 202, body = Accepted), (status = 404, body = Problem), (status = 409, body = Problem)))]
async fn replay(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<WebhookDeliveryId>,
) -> ApiResult<(StatusCode, Json<Accepted>)> {
    let mut tx = caller.begin(&state).await?;
    let job = actions::webhooks::replay(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { job: job.0 })))
}
