//! The web pages: tickets, jobs by lane and deliveries, live; and a small one that the link in a report's mail opens. They are
//! clients of the public API and hold no state of their own, so they can do nothing that the API would not allow the same person.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Scripts, styles and connections from this origin only; nothing inline, no frames.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route(
            "/",
            get(|| async { page(include_str!("../assets/console.html"), "text/html; charset=utf-8") }),
        )
        .route(
            "/console.css",
            get(|| async { page(include_str!("../assets/console.css"), "text/css; charset=utf-8") }),
        )
        .route(
            "/console.js",
            get(|| async { page(include_str!("../assets/console.js"), "text/javascript; charset=utf-8") }),
        )
        .route(
            "/report",
            get(|| async { page(include_str!("../assets/report.html"), "text/html; charset=utf-8") }),
        )
        .route(
            "/report.js",
            get(|| async { page(include_str!("../assets/report.js"), "text/javascript; charset=utf-8") }),
        )
        .route(
            "/icon.svg",
            get(|| async { page(include_str!("../assets/icon.svg"), "image/svg+xml; charset=utf-8") }),
        )
}

fn page(body: &'static str, media_type: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("content-security-policy"), CONTENT_SECURITY_POLICY),
    ];
    (headers, body).into_response()
}
