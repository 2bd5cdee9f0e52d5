//! `events/ws`: what `events/stream` tells, over a WebSocket (RFC 6455).
//!
//! Pages cannot send headers with a WebSocket, so the token may come among the subprotocols: in no address, which would stand in logs, and in no
//! cookie, which a foreign page could use. A page of an origin that is not listed is refused all the same.

use super::events::last_event_id;
use crate::listener::{self, Over, Said};
use crate::server::Place;
use crate::{ApiResult, AppState, Caller, Filters, Problem, Settings, caller};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::Response;
use domain::Permission;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What the server speaks; a client that names subprotocols names it.
const PROTOCOL: &str = "relaydesk.v1";
/// Nobody has anything to say here: control frames are small (RFC 6455, 5.5).
const LARGEST_INBOUND: usize = 1024;
/// The library would take 128 KiB for each connection.
const READ_BUFFER: usize = 1024;
const WRITE_BUFFER: usize = 16 * 1024;
/// One message is written at a time, and none is as large: what events hold came in bodies of 1 MiB.
const LARGEST_WRITE_BUFFER: usize = 4 * 1024 * 1024;
/// A line that is silent is asked whether somebody is there …
const PING: Duration = Duration::from_secs(15);
/// … and cut when nothing was heard for so long, or when it does not take a message.
const SILENCE: Duration = Duration::from_secs(45);
/// Both sides have so long to say goodbye.
const FAREWELL: Duration = Duration::from_secs(3);
/// Frames of a client between two pings.
const MOST_INBOUND: u32 = 100;

// Reasons for an end that a client can act on (RFC 6455, 7.4; those above 4000 are ours).
const GOING_AWAY: u16 = 1001;
const POLICY: u16 = 1008;
const LOGGED_OUT: u16 = 4401;
const TOO_SLOW: u16 = 4429;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(follow_events))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Resume {
    /// The id of the last message received: as the header `Last-Event-ID`, for browsers.
    last_event_id: Option<i64>,
}

/// Follow what happens over a WebSocket
///
/// Each text message is `{"id", "event", "data"}`, as `GET events/stream` tells it. Pages send the token as a subprotocol: `new WebSocket(url,
/// ["relaydesk.v1", "bearer." + token])`. The end has a code: 1001 the server stops, 4401 the login has ended, 4429 too slow (come back with the last
/// id), 1008 the client said something.
#[utoipa::path(get, path = "/events/ws", tag = "events",
    params(Resume, ("Last-Event-ID" = Option<i64>, Header, description = "the id of the last message received"),
        ("Sec-WebSocket-Protocol" = Option<String>, Header, description = "of pages: relaydesk.v1, bearer.TOKEN")),
    responses((status = 101, description = "what happens, as it happens"), (status = 400, body = Problem, description = "no WebSocket handshake"),
        (status = 401, body = Problem), (status = 403, body = Problem, description = "a page of another origin, or not permitted"),
        (status = 429, body = Problem, description = "too many requests, or streams of one account")))]
async fn follow_events(
    State(state): State<AppState>,
    mut parts: Parts,
    Filters(resume): Filters<Resume>,
) -> ApiResult<Response> {
    if !is_allowed_origin(&parts.headers, &state.settings) {
        return Err(Problem::forbidden(
            "pages of another origin may not follow events: list it in RELAYDESK_CORS_ORIGINS",
        ));
    }
    let token = caller::bearer_of_socket(&parts.headers).map(str::to_owned);
    let token = token.ok_or_else(|| {
        let how = "send a token: Authorization: Bearer …, or Sec-WebSocket-Protocol: relaydesk.v1, bearer.…";
        Problem::unauthorized(how)
    })?;
    let caller = Caller::enter(&state, &token, &parts).await?;
    caller.require(Permission::EventsFollow)?;
    let last = last_event_id(&parts)?.or(resume.last_event_id);
    let place = parts.extensions.get::<Place>().cloned();
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &state).await;
    let upgrade = upgrade.map_err(|error| Problem::bad_request(error.body_text()))?;
    let stop = state.draining().clone();
    let (messages, why) = listener::follow(state, caller, token, last).await?;
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .max_message_size(LARGEST_INBOUND)
        .max_frame_size(LARGEST_INBOUND)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(LARGEST_WRITE_BUFFER);
    Ok(upgrade.on_upgrade(async move |socket| {
        serve(socket, messages, why, stop).await;
        drop(place);
    }))
}

/// Browsers always say whose page it is that asks; programs say nothing. Ours and those that may call the API are taken.
fn is_allowed_origin(headers: &HeaderMap, settings: &Settings) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let own = settings.base_url.parse::<Url>().ok().map(|url| url.origin().ascii_serialization());
    own.is_some_and(|own| origin.as_bytes() == own.as_bytes()) || settings.cors_origins.contains(origin)
}

async fn serve(
    socket: WebSocket,
    mut messages: mpsc::Receiver<Said>,
    why: JoinHandle<Over>,
    stop: CancellationToken,
) {
    let (mut out, mut inward) = socket.split();
    let stopped = async {
        stop.cancelled().await;
        tokio::time::sleep(FAREWELL).await;
    };
    let end = tokio::select! {
        end = tell(&mut out, &mut messages) => end,
        end = hear(&mut inward) => end,
        // It does not even take that the process stops.
        () = stopped => End::Lost,
    };
    // The listener sees that nobody takes its messages any more.
    drop(messages);
    let (code, reason) = match end {
        End::Lost => return,
        End::Said => (POLICY, "nothing is to be said here"),
        End::Over => match why.await.unwrap_or(Over::Stopping) {
            Over::Gone => return,
            Over::LoggedOut => (LOGGED_OUT, "the login has ended"),
            Over::TooSlow => (TOO_SLOW, "too slow: come back with the last id"),
            Over::Stopping => (GOING_AWAY, "come back with the last id"),
        },
    };
    let farewell = async {
        let _ = out.send(Message::Close(Some(CloseFrame { code, reason: reason.into() }))).await;
        // Until the client has it too: what it still says would reset the connection, and the code with it.
        while let Some(Ok(_)) = inward.next().await {}
    };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

enum End {
    /// The listener says why.
    Over,
    /// The client says what it has no business to say, or too much.
    Said,
    /// It is gone, or does not take what it is told.
    Lost,
}

async fn tell(out: &mut SplitSink<WebSocket, Message>, messages: &mut mpsc::Receiver<Said>) -> End {
    let mut ping = tokio::time::interval(PING);
    loop {
        let message = tokio::select! {
            said = messages.recv() => match said.map(|said| serde_json::to_string(&said)) {
                Some(Ok(text)) => Message::Text(text.into()),
                Some(Err(_)) => continue,
                None => return End::Over,
            },
            _ = ping.tick() => Message::Ping(Default::default()),
        };
        match tokio::time::timeout(SILENCE, out.send(message)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return End::Lost,
        }
    }
}

async fn hear(inward: &mut SplitStream<WebSocket>) -> End {
    let (mut frames, mut since) = (0, tokio::time::Instant::now());
    loop {
        let frame = match tokio::time::timeout(SILENCE, inward.next()).await {
            Ok(Some(Ok(frame))) => frame,
            // Larger than it may be, or against the protocol. Is the line broken, nobody will hear why.
            Ok(Some(Err(_))) => return End::Said,
            Ok(None) | Err(_) => return End::Lost,
        };
        match frame {
            Message::Close(_) => return End::Lost,
            Message::Text(_) | Message::Binary(_) => return End::Said,
            Message::Ping(_) | Message::Pong(_) => {}
        }
        if since.elapsed() > PING {
            (frames, since) = (0, tokio::time::Instant::now());
        }
        frames += 1;
        if frames > MOST_INBOUND {
            return End::Said;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_pages_that_are_listed_follow() {
        let settings = Settings {
            base_url: "https://desk.example.org".into(),
            cors_origins: vec![HeaderValue::from_static("https://portal.example.org")],
            ..Settings::default()
        };
        let asked = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("evil.example"));
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            is_allowed_origin(&headers, &settings)
        };
        for ours in ["https://desk.example.org", "https://portal.example.org"] {
            assert!(asked(ours), "{ours}");
        }
        for foreign in [
            // What the host is called says nothing: a name can be bound to our address (DNS rebinding).
            "https://evil.example",
            "null",
            "",
            "http://desk.example.org",
            "https://desk.example.org.evil.example",
            "https://desk.example.org:8443",
            "https://evil.example/https://desk.example.org",
        ] {
            assert!(!asked(foreign), "{foreign}");
        }
        assert!(is_allowed_origin(&HeaderMap::new(), &settings), "programs have none");
    }
}
