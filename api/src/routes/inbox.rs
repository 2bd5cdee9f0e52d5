//! `inbox`: mail and payloads as they arrived, and what became of them.

use crate::{ApiPath, ApiResult, AppState, Caller, Filters, ListQuery, Page};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::{InboxId, Permission};
use serde::{Deserialize, Serialize};
use store::inbox::{Entry, Filter, Status};
use utoipa::{IntoParams, ToSchema};
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

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct InboxFilters {
    /// pending, processed, ignored or failed.
    #[param(value_type = Option<String>)]
    #[serde(default, deserialize_with = "status")]
    status: Option<Status>,
    source: Option<String>,
    /// Id of the mailbox or alert source.
    channel: Option<Uuid>,
    /// Id or number of the ticket.
    #[param(example = "INC0000123")]
    ticket: Option<String>,
}

fn status<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Status>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

/// List what came in, newest first
#[utoipa::path(get, path = "/inbox", tag = "inbox", params(ListQuery, InboxFilters),
    responses((status = 200, body = Page<InboxView>)))]
async fn list(
    State(state): State<AppState>,
    caller: Caller,
    list: ListQuery,
    Filters(filters): Filters<InboxFilters>,
) -> ApiResult<Json<Page<InboxView>>> {
    caller.require(Permission::InboxRead)?;
    list.fixed_order("-received_at")?;
    let mut tx = caller.begin(&state).await?;
    let filter = Filter {
        status: filters.status,
        source: filters.source,
        channel_id: filters.channel,
        ticket: match filters.ticket {
            None => None,
            Some(key) => match actions::tickets::find(&mut tx, &caller.actor(), &key).await {
                Ok(ticket) => Some(ticket.id),
                Err(actions::Error::NotFound) => return Ok(Json(Page::empty())),
                Err(error) => return Err(error.into()),
            },
        },
        after: list.after::<(DateTime<Utc>, Uuid)>()?.map(|(at, id)| (at, InboxId(id))),
    };
    let rows = store::inbox::list(&mut tx, &filter, list.limit()).await?;
    Ok(Json(list.page(rows, |row| (row.received_at, row.id.0), InboxView::from)?))
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
    Ok(Json(store::inbox::entry(&mut tx, id.into()).await?.into()))
}

/// Download it as it arrived
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
    // Never shown in a browser, whatever it says it is: it was written by strangers.
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, inbox.raw).into_response())
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
