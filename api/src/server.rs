//! The listener: HTTP/1.1 connections that have so long to say what they want, and no more of them than the process can bear.
//!
//! `axum::serve` has no such limits. HTTP/2 without TLS is left to proxies: they end it, and speak HTTP/1.1 to us.

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Of one listener.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// At a time; others wait until one closes.
    pub most: u32,
    /// How long a client may take for the head of a request, and how long a connection may rest between two.
    pub header_timeout: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Connections { most: 4096, header_timeout: Duration::from_secs(10) }
    }
}

/// Request line and headers of a request, bytes. More is 431.
const LARGEST_HEAD: usize = 64 * 1024;

/// A connection's place, among the extensions of its requests: what goes on after an upgrade keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Serves until `stop`, then lets what was begun come to its end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Connections,
    stop: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(limits.most as usize));
    let stopping = CancellationToken::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(LARGEST_HEAD);
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = async {
            let permit = places.clone().acquire_owned().await.expect("the semaphore is never closed");
            (Place { _permit: Arc::new(permit) }, accept(&listener).await)
        };
        let (place, (socket, peer)) = tokio::select! {
            next = next => next,
            () = &mut stop => break,
        };
        let of_requests = place.clone();
        let service = router.clone().map_request(move |request: Request<hyper::body::Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(of_requests.clone());
            request
        });
        let connection =
            http.serve_connection(TokioIo::new(socket), TowerToHyperService::new(service)).with_upgrades();
        let stopping = stopping.clone();
        tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stopping.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, %peer, "a connection ended early");
            }
            drop(place);
        });
    }
    drop(listener);
    stopping.cancel();
    // All places are free again when all connections have ended.
    let _ = places.acquire_many(limits.most).await;
}

/// The next connection. Without descriptors or memory for one it waits until others are closed.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                let _ = socket.set_nodelay(true);
                return (socket, peer);
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                tracing::error!(%error, "no connection can be accepted");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

fn is_the_clients(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
