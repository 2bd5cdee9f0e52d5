//! The web pages: signing in, the board (tickets, jobs by lane and deliveries, live), webhooks, one's own account; and a small one that the link
//! in a report's mail opens. They are clients of the public API and hold no state of their own, so they can do nothing that the API would not
//! allow the same person.

use axum::Router;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

/// Scripts, styles and connections from this origin only; nothing inline, no frames.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Where each is, its media type, and what it says.
const PAGES: [(&str, &str, &str); 10] = [
    ("/", "text/html; charset=utf-8", include_str!("../assets/console.html")),
    ("/console.css", "text/css; charset=utf-8", include_str!("../assets/console.css")),
    ("/console.js", SCRIPT, include_str!("../assets/console.js")),
    ("/client.js", SCRIPT, include_str!("../assets/client.js")),
    ("/sign_in.js", SCRIPT, include_str!("../assets/sign_in.js")),
    ("/webhooks.js", SCRIPT, include_str!("../assets/webhooks.js")),
    ("/account.js", SCRIPT, include_str!("../assets/account.js")),
    ("/report", "text/html; charset=utf-8", include_str!("../assets/report.html")),
    ("/report.js", SCRIPT, include_str!("../assets/report.js")),
    ("/icon.svg", "image/svg+xml; charset=utf-8", include_str!("../assets/icon.svg")),
];

pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    PAGES.iter().fold(Router::new(), |router, &(path, media_type, body)| {
        router.route(path, get(move || async move { page(body, media_type) }))
    })
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
