//! `inbox`: mail and payloads as they arrived, and what became of them.

use crate::filters::{Asked, filters};
use crate::shape::{Shape, Shaping};

use crate::{ApiPath, ApiResult, AppState, Caller, ListQuery, Page, scanning};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::{Permission, TicketId};
use serde::Serialize;
use serde_json::Value;
use store::Tx;
use store::inbox::{Entry, FIELDS, LIST};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(raw))
        .routes(routes!(replay))
}

#[derive(Serialize, ToSchema)]
struct InboxView {
    id: Uuid,
    /// mail, alertmanager, generic …
    source: String,
    /// The mailbox or alert source through which it came.
    channel: Uuid,
    content_type: String,
    size_bytes: i64,
    /// What was said around it: SMTP envelope, HTTP headers.
    #[schema(value_type = Object)]
    envelope: serde_json::Value,
    received_at: DateTime<Utc>,
    /// pending, processed, ignored or failed.
    status: &'static str,
    /// Why it was ignored, or what was wrong with it.
    reason: Option<String>,
    ticket: Option<Uuid>,
    processed_at: Option<DateTime<Utc>>,
    replays: i32,
}

impl From<Entry> for InboxView {
    fn from(entry: Entry) -> Self {
        InboxView {
            id: entry.id.0,
            source: entry.source,
            channel: entry.channel_id,
            content_type: entry.content_type,
            size_bytes: entry.size_bytes,
            envelope: entry.headers,
            received_at: entry.received_at,
            status: entry.status.as_str(),
            reason: entry.reason,
            ticket: entry.ticket.map(|ticket| ticket.0),
            processed_at: entry.processed_at,
            replays: entry.replays,
        }
    }
}

filters!(InboxFilters, FIELDS);

/// List what came in
///
/// Sorts by received_at; newest first, if nothing is named.
#[utoipa::path(get, path = "/inbox", tag = "inbox", params(ListQuery, Shaping, InboxFilters),
    responses((status = 200, body = Page<InboxView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    shape: Shape,
    asked: Asked,
) -> ApiResult<Json<Page<Value>>> {
    caller.require(Permission::InboxRead)?;
    shape.check::<InboxView>(&[])?;
    let mut tx = caller.begin(&state).await?;
    let asked = asked.with_tickets(&mut tx, &caller.actor(), &LIST).await?;
    let wanted = list.wanted(&LIST, &asked, caller.user_id())?;
    let rows = store::inbox::list(&mut tx, &caller.reach(), &wanted).await?;
    Ok(Json(list.shaped(rows, &shape, InboxView::from)?))
}

/// What became of a ticket is as visible as that.
async fn see_what_it_became(tx: &mut Tx, caller: &Caller, ticket: Option<TicketId>) -> ApiResult<()> {
    if let Some(ticket) = ticket {
        actions::tickets::see(tx, &caller.actor(), ticket).await?;
    }
    Ok(())
}

/// Show what came in, without its bytes
#[utoipa::path(get, path = "/inbox/{id}", tag = "inbox", params(("id" = Uuid, Path)), responses((status = 200, body = InboxView)))]
async fn show(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<Json<InboxView>> {
    caller.require(Permission::InboxRead)?;
    let mut tx = caller.begin(&state).await?;
    let entry = store::inbox::entry(&mut tx, id.into()).await?;
    see_what_it_became(&mut tx, &caller, entry.ticket).await?;
    Ok(Json(entry.into()))
}

/// Download it as it arrived
///
/// Where the operator has a scanner, only when that found nothing in it: otherwise 403 (`infected-file`), or 503 when it cannot be asked.
#[utoipa::path(get, path = "/inbox/{id}/raw", tag = "inbox", params(("id" = Uuid, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = [u8])))]
async fn raw(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<Response> {
    caller.require(Permission::InboxRead)?;
    let mut tx = caller.begin(&state).await?;
    let inbox = store::inbox::get(&mut tx, id.into()).await?;
    see_what_it_became(&mut tx, &caller, inbox.entry.ticket).await?;
    drop(tx);
    let bytes = scanning::kept(&state, &caller, inbox).await?;
    // Never shown in a browser, whatever it says it is: it was written by strangers.
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, bytes).into_response())
}

/// A job that works on it.
#[derive(Serialize, ToSchema)]
struct Replayed {
    job: Uuid,
}

/// Work on it again
///
/// For what failed or was ignored, after the cause was mended. What has become a ticket is not worked twice: 409.
#[utoipa::path(post, path = "/inbox/{id}/replay", tag = "inbox", params(("id" = Uuid, Path)), responses((status = 202, body = Replayed)))]
async fn replay(
    State(state): State<AppState>,
    caller: Caller,
    ApiPath(id): ApiPath<Uuid>,
) -> ApiResult<(StatusCode, Json<Replayed>)> {
    let mut tx = caller.begin(&state).await?;
    let (_, job) = actions::inbox::replay(&mut tx, &caller.actor(), id.into()).await?;
    tx.commit().await?;
    Ok((StatusCode::ACCEPTED, Json(Replayed { job: job.0 })))
}
