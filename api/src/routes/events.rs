//! `events/stream`: what happens, as it happens (Server-Sent Events).
//!
//! Who hears of what is decided by [`actions::hearing`]. Who may see jobs also hears how far those are that say so, and how they ended.

use crate::listener::{self, Said, StreamMessage};
use crate::{ApiResult, AppState, Caller, Problem};
use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Sse;
use axum::response::sse::{Event as Message, KeepAlive};
use domain::Permission;
use futures::{Stream, StreamExt};
use std::convert::Infallible;
use std::time::Duration;
use tokio_stream::wrappers::ReceiverStream;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(stream_events))
}

/// The header with the last id that the client has.
pub(super) fn last_event_id(parts: &Parts) -> ApiResult<Option<i64>> {
    let Some(value) = parts.headers.get("last-event-id") else { return Ok(None) };
    let last = value.to_str().ok().and_then(|text| text.trim().parse::<i64>().ok());
    let wrong = || Problem::bad_request("Last-Event-ID is the id of a message of this stream");
    last.ok_or_else(wrong).map(Some)
}

/// Follow what happens, and how far jobs are. Send `Last-Event-ID` to get what was missed
#[utoipa::path(get, path = "/events/stream", tag = "events",
    params(("Last-Event-ID" = Option<i64>, Header, description = "the id of the last message received")),
    responses((status = 200, body = StreamMessage, content_type = "text/event-stream")))]
async fn stream_events(
    State(state): State<AppState>,
    caller: Caller,
    parts: Parts,
) -> ApiResult<Sse<impl Stream<Item = Result<Message, Infallible>>>> {
    caller.require(Permission::EventsFollow)?;
    let last = last_event_id(&parts)?;
    let token = crate::caller::bearer(&parts).unwrap_or_default().to_owned();
    let (messages, _) = listener::follow(state, caller, token, last).await?;
    let messages = ReceiverStream::new(messages).filter_map(async |said| message(said).map(Ok));
    Ok(Sse::new(messages).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

fn message(said: Said) -> Option<Message> {
    let message = Message::default().event(said.event);
    let message = match said.id {
        Some(id) => message.id(id.to_string()),
        None => message,
    };
    message.json_data(said.data).ok()
}
