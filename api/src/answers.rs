//! What is done to answers on their way out: compression, and leave for pages of other origins.

use crate::Settings;
use crate::idempotency::HoldsSecret;
use axum::http::{HeaderName, HeaderValue, Method, Response, header};
use http_body::Body;
use std::time::Duration;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::Predicate;
use tower_http::cors::{AllowOrigin, CorsLayer};

/// Shorter answers gain nothing.
const WORTHWHILE: u64 = 1024;

/// Texts that are there as a whole. Streams are not compressed (their messages would wait in the compressor), nor is
/// what was compressed before, nor answers that hold a secret: their length would tell of it (BREACH).
#[derive(Clone, Copy, Debug)]
pub struct Worthwhile;

impl Predicate for Worthwhile {
    fn should_compress<B: Body>(&self, response: &Response<B>) -> bool {
        let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let essence = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let is_text = matches!(
            essence,
            "application/json"
                | "application/problem+json"
                | "application/javascript"
                | "text/javascript"
                | "text/css"
                | "text/html"
                | "text/plain"
                | "image/svg+xml"
        );
        let whole = response.body().size_hint().exact().is_some_and(|size| size >= WORTHWHILE);
        is_text && whole && response.extensions().get::<HoldsSecret>().is_none()
    }
}

pub fn compression() -> CompressionLayer<Worthwhile> {
    // Quick rather than small: at the usual level compressing a page of a list takes longer than making it.
    CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest).compress_when(Worthwhile)
}

/// Pages of the origins that are listed may call the API; without a list none may. No cookies are involved, so credentials are not
/// allowed: such a page brings a token of its own.
pub fn origins(settings: &Settings) -> Option<CorsLayer> {
    if settings.cors_origins.is_empty() {
        return None;
    }
    let own = HeaderName::from_static;
    let sent = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        own("idempotency-key"),
        own("last-event-id"),
        own("traceparent"),
        own("x-request-id"),
    ];
    let read = [
        header::ETAG,
        header::LOCATION,
        header::LINK,
        header::RETRY_AFTER,
        own("deprecation"),
        own("idempotent-replayed"),
        own("ratelimit"),
        own("ratelimit-policy"),
        own("sunset"),
        own("x-request-id"),
        own("x-trace-id"),
    ];
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(settings.cors_origins.iter().cloned()))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(sent)
        .expose_headers(read)
        .max_age(Duration::from_secs(600));
    Some(layer)
}

/// An origin as browsers send it: scheme and host, a port if it is not the usual one, nothing behind.
pub fn origin(text: &str) -> Option<HeaderValue> {
    let url: url::Url = text.parse().ok()?;
    let is_one = matches!(url.scheme(), "http" | "https") && url.origin().ascii_serialization() == text;
    is_one.then(|| HeaderValue::from_str(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_do() {
        for (text, good) in [
            ("https://portal.example.org", true),
            ("http://localhost:5173", true),
            ("https://portal.example.org/", false),
            ("https://portal.example.org:443", false),
            ("https://Portal.example.org", false),
            ("*", false),
            ("null", false),
            ("portal.example.org", false),
            ("ftp://portal.example.org", false),
        ] {
            assert_eq!(origin(text).is_some(), good, "{text}");
        }
    }
}
