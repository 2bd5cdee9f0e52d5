//! What happens around every handler: the trace, the log line, the duration, the time limit, panics, and the promise that every
//! error is a problem document.

use crate::client::ClientAddress;
use crate::{AppState, Problem, metrics};
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use queue::trace::{self, TraceContext};
use std::net::SocketAddr;
use std::time::Instant;
use tower_http::timeout::TimeoutBody;
use tracing::Instrument;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost layer.
pub async fn wrap(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let context = trace_context(request.headers());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let id = request_id(request.headers());
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let client = peer.map(|peer| state.settings.proxies.client(peer.0.ip(), request.headers()));
    request.extensions_mut().insert(ClientAddress(client));
    let address = client.map(|address| address.to_string()).unwrap_or_default();
    let span = tracing::info_span!("request", trace_id = %context.trace_id_hex(), request_id = id, client.address = address,
        user.id = tracing::field::Empty, http.method = %method, http.route = %route);
    let known = store::context::Context::request(client, &id, context.trace_id_hex());

    // In a task of its own: a handler runs to its end (and to its commit) although the client hangs up.
    let work = store::context::scope(known, next.run(request));
    let task = tokio::spawn(trace::scope(context, work).instrument(span.clone()));
    let mut response = match task.await {
        Ok(response) => response,
        Err(error) => {
            let failed =
                async { Problem::internal(&format!("handler of {route} ended: {error}")).into_response() };
            trace::scope(context, failed).instrument(span.clone()).await
        }
    };

    let seconds = started.elapsed().as_secs_f64();
    metrics::observe_request(&route, &method, response.status(), seconds);
    span.in_scope(|| log(&route, response.status(), seconds));
    finish_headers(response.headers_mut(), context, id);
    if state.settings.base_url.starts_with("https:") {
        let year = HeaderValue::from_static("max-age=31536000; includeSubDomains");
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    response
}

/// Inside of [`wrap`] and of what allows other origins: the time that a request may take, how its body comes, and that errors
/// are problem documents.
pub async fn bound(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let encoding = request.headers().get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Problem::unsupported_encoding().into_response();
    }
    let pause = state.settings.body_pause;
    let request = request.map(|body| Body::new(TimeoutBody::new(pause, body)));
    match tokio::time::timeout(state.settings.request_timeout, next.run(request)).await {
        Ok(response) => with_problem_body(response).await,
        Err(_) => Problem::unavailable("this took too long: try again in a moment", 5).into_response(),
    }
}

/// The name that the caller gave the request, if it can be one, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_name = |id: &&str| {
        (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    given.filter(is_name).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

fn log(route: &str, status: StatusCode, seconds: f64) {
    let duration_ms = (seconds * 1000.0).round();
    match route {
        "/livez" | "/readyz" | "/metrics" => {
            tracing::debug!(http.status = status.as_u16(), duration_ms, "answered")
        }
        _ => tracing::info!(http.status = status.as_u16(), duration_ms, "answered"),
    }
}

/// W3C Trace Context: goes on in the caller's trace, or starts one.
fn trace_context(headers: &HeaderMap) -> TraceContext {
    let parent =
        headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    parent.map_or_else(TraceContext::new_root, TraceContext::child)
}

/// Errors without a document of their own (405 of the router, 413 of the body limit …) get one.
async fn with_problem_body(response: Response) -> Response {
    let status = response.status();
    let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let bare = media_type.is_none_or(|media_type| media_type.starts_with("text/plain"));
    if !(status.is_client_error() || status.is_server_error()) || !bare {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = axum::body::to_bytes(body, 4096).await.unwrap_or_default();
    let mut problem = Problem::of_status(status, &String::from_utf8_lossy(&text)).into_response();
    for (name, value) in parts.headers {
        if let Some(name) = name.filter(|name| ![header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name))
        {
            problem.headers_mut().insert(name, value);
        }
    }
    problem
}

fn finish_headers(headers: &mut HeaderMap, context: TraceContext, request_id: String) {
    let mut set = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    };
    set(HeaderName::from_static("traceparent"), context.to_string());
    set(HeaderName::from_static("x-trace-id"), context.trace_id_hex());
    set(REQUEST_ID, request_id);
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; base-uri 'none'; frame-ancestors 'none'"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        // Pages and assets know better.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// Every path works with and without a slash at its end. Runs before the router looks at the path.
pub fn without_trailing_slash(mut request: Request<Body>) -> Request<Body> {
    let uri = request.uri();
    let path = uri.path();
    let trimmed = path.trim_end_matches('/');
    if path.len() > 1 && trimmed.len() != path.len() {
        let trimmed = if trimmed.is_empty() { "/" } else { trimmed };
        let path_and_query = match uri.query() {
            Some(query) => format!("{trimmed}?{query}"),
            None => trimmed.to_owned(),
        };
        let mut parts = uri.clone().into_parts();
        if let Ok(path_and_query) = path_and_query.parse() {
            parts.path_and_query = Some(path_and_query);
            if let Ok(uri) = axum::http::Uri::from_parts(parts) {
                *request.uri_mut() = uri;
            }
        }
    }
    request
}
