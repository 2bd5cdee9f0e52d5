//! What the API measures, and `/metrics` (Prometheus text format).

use crate::{AppState, Problem};
use axum::extract::State;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use prometheus::{
    Encoder, HistogramVec, IntGaugeVec, TextEncoder, register_histogram_vec, register_int_gauge_vec,
};
use std::sync::LazyLock;
use store::Db;

static REQUESTS: LazyLock<HistogramVec> = LazyLock::new(|| {
    register_histogram_vec!(
        "relaydesk_http_request_duration_seconds",
        "how long requests took, by route, method and status",
        &["route", "method", "status"],
        vec![0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]
    )
    .expect("registered once")
});

static CONNECTIONS: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!(
        "relaydesk_db_pool_connections",
        "connections to the database, by state",
        &["state"]
    )
    .expect("registered once")
});

static BUILD: LazyLock<IntGaugeVec> = LazyLock::new(|| {
    register_int_gauge_vec!("relaydesk_build_info", "always 1; the version is in the label", &["version"])
        .expect("registered once")
});

pub fn observe_request(route: &str, method: &Method, status: StatusCode, seconds: f64) {
    // A caller may invent methods; labels must stay few.
    let known = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
    ];
    let method = if known.contains(method) { method.as_str() } else { "other" };
    REQUESTS.with_label_values(&[route, method, status.as_str()]).observe(seconds);
}

pub async fn show(State(state): State<AppState>) -> Response {
    if state.settings.metrics_elsewhere { Problem::not_found().into_response() } else { gathered(&state.db) }
}

pub fn gathered(db: &Db) -> Response {
    let (size, idle) = (i64::from(db.pool().size()), db.pool().num_idle() as i64);
    CONNECTIONS.with_label_values(&["idle"]).set(idle);
    CONNECTIONS.with_label_values(&["used"]).set((size - idle).max(0));
    BUILD.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    match encoder.encode(&prometheus::gather(), &mut text) {
        Ok(()) => {
            let media_type = format!("{}; charset=utf-8", encoder.format_type());
            ([(header::CONTENT_TYPE, media_type)], text).into_response()
        }
        Err(error) => Problem::internal(&error).into_response(),
    }
}
