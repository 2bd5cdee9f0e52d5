//! `notifications`: the ledger of what was sent, to whom, and what the peer said.

use super::notification_channels::Accepted;
use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};
use crate::{ApiPath, ApiResult, AppState, Caller, ListQuery, Page, Problem};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use domain::{ChannelId, ChannelKind, DeliveryId, EventId, Permission, RuleId, TicketId};
use serde::Serialize;
use serde_json::Value;
use store::deliveries::{Delivery, FIELDS, LIST, Status};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show)).routes(routes!(retry))
}

#[derive(Debug, Serialize, ToSchema)]
struct DeliveryView {
    #[schema(value_type = Uuid)]
    id: DeliveryId,
    /// `pending`, `sent` or `given_up`.
    #[schema(value_type = String, example = "sent")]
    status: Status,
    #[schema(value_type = String, example = "slack")]
    kind: ChannelKind,
    /// The notification channel, if it went through one.
    #[schema(value_type = Option<Uuid>)]
    channel: Option<ChannelId>,
    #[schema(value_type = Option<Uuid>)]
    rule: Option<RuleId>,
    #[schema(value_type = Option<Uuid>)]
    event: Option<EventId>,
    #[schema(value_type = Option<Uuid>)]
    ticket: Option<TicketId>,
    /// What it is about: the kind of an event, `report`, `test`.
    #[schema(example = "incident.opened")]
    message: String,
    /// An e-mail address, or the name of the channel.
    recipient: String,
    subject: Option<String>,
    attempts: i32,
    last_attempt_at: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
    /// HTTP status or SMTP reply code of the last attempt.
    last_status: Option<i32>,
    last_response: Option<String>,
    /// Why the last attempt failed.
    last_error: Option<String>,
    job: Option<Uuid>,
    sent_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        DeliveryView {
            id: delivery.id,
            status: delivery.status,
            kind: delivery.channel,
            channel: delivery.channel_id,
            rule: delivery.rule,
            event: delivery.event,
            ticket: delivery.ticket,
            message: delivery.message_kind,
            recipient: delivery.recipient,
            subject: delivery.subject,
            attempts: delivery.attempts,
            last_attempt_at: delivery.last_attempt_at,
            next_attempt_at: delivery.next_attempt_at,
            last_status: delivery.last_status,
            last_response: delivery.last_response,
            last_error: delivery.last_error,
            job: delivery.job,
            sent_at: delivery.sent_at,
            created_at: delivery.created_at,
            updated_at: delivery.updated_at,
        }
    }
}

filters!(DeliveryFilters, FIELDS);

/// List notifications
///
/// Every message that was or will be sent. Sorts by created_at; newest first, if nothing is named.
#[utoipa::path(get, path = "/notifications", tag = "notifications", params(ListQuery, Shaping, DeliveryFilters),
    responses((status = 200, body = Page<DeliveryView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::NotificationsRead)?;
    shape.check::<DeliveryView>(&[])?;
    let mut tx = caller.begin(&state).await?;
    let asked = asked.with_tickets(&mut tx, &caller.actor(), &LIST).await?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let rows = store::deliveries::list(&mut tx, &caller.reach(), &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, DeliveryView::from)?))
}

/// Show a notification
#[utoipa::path(get, path = "/notifications/{id}", tag = "notifications", params(("id" = Uuid, Path)),
    responses((status = 200, body = DeliveryView), (status = 404, body = Problem)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<DeliveryId>,
) -> ApiResult<Json<DeliveryView>> {
    caller.require(Permission::NotificationsRead)?;
    let mut tx = caller.begin(&state).await?;
    let delivery = store::deliveries::get(&mut tx, id).await?;
    if let Some(ticket) = delivery.ticket {
        actions::tickets::see(&mut tx, &caller.actor(), ticket).await?;
    }
    Ok(Json(delivery.into()))
}

/// Try a notification again
///
/// Only one that was given up.
#[utoipa::path(post, path = "/notifications/{id}/retry", tag = "notifications", params(("id" = Uuid, Path)),
    responses((status = 202, body = Accepted), (status = 409, body = Problem)))]
async fn retry(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<DeliveryId>,
) -> ApiResult<(StatusCode, Json<Accepted>)> {
    let mut tx = caller.begin(&state).await?;
    let job = actions::deliveries::retry(&mut tx, &caller.actor(), id).await?;
    tx.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { job: job.0 })))
}
