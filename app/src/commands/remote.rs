//! `relaydesk worker --remote`: no database, and nobody to connect to but the broker and those it works for.

use crate::cli::Worker;
use crate::config::Config;
use crate::config::remote::REMOTE;
use crate::{say, wiring};
use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus::{Encoder, TextEncoder};
use queue::remote::Station;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use workers::outward::Tools;

/// Requests of each lane at a time, if it is not said.
const USUAL: u16 = 16;

pub async fn run(config: &Config, worker: &Worker, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    for name in super::config::unknown_names() {
        warn!(name, "set in the environment, but no setting of Relaydesk");
    }
    let keys = config.require_remote()?.clone();
    let broker = wiring::broker(config).context("AMQP_URL")?;
    if let Some(wrong) = worker.lanes.iter().find(|lane| !REMOTE.contains(&lane.as_str())) {
        anyhow::bail!("the lane {wrong:?} has no work for remote workers: expected {}", REMOTE.join(", "));
    }
    let named = match worker.lanes.as_slice() {
        [] => REMOTE.map(str::to_owned).to_vec(),
        lanes => lanes.to_vec(),
    };
    let lanes: Vec<_> = named.into_iter().map(|lane| (lane, worker.concurrency.unwrap_or(USUAL))).collect();
    let listener = match worker.listen {
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.with_context(|| format!("cannot listen for HTTP on {address}"))?)
        }
        None => None,
    };
    info!(?lanes, "working for platforms behind the broker");
    let work = (workers::outward::performers(), wiring::tools(config)?);
    let station = Station::open(&broker, &wiring::process_name(), keys, lanes, work);
    match listener {
        Some(listener) => {
            say!("ready: http://{}", listener.local_addr()?);
            let router = about(station.clone());
            tokio::spawn(async move {
                if let Err(error) = axum::serve(listener, router).await {
                    tracing::error!(%error, "the HTTP server ended");
                }
            });
        }
        None => say!("ready: working"),
    }
    let end = CancellationToken::new();
    let work = station.run(end.clone(), config.shutdown_grace);
    tokio::pin!(work);
    tokio::select! {
        () = &mut work => {}
        () = stop => {
            end.cancel();
            work.await;
        }
    }
    info!("stopped");
    Ok(())
}

/// How it is, for those who look after it.
fn about(station: Station<Tools>) -> Router {
    let ready = move || {
        let is_connected = station.is_connected();
        async move {
            if is_connected {
                (StatusCode::OK, "ok\n")
            } else {
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no requests: the broker is away, or no platform asks for these lanes\n",
                )
            }
        }
    };
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

async fn metrics() -> impl IntoResponse {
    let (encoder, mut text) = (TextEncoder::new(), Vec::new());
    match encoder.encode(&prometheus::gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
