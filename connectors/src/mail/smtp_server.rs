//! The SMTP listener (RFC 5321): takes mail for the addresses that its [`Deliver`] accepts, says 250 when it is kept.
//!
//! Extensions: PIPELINING (2920), SIZE (1870), 8BITMIME (6152), SMTPUTF8 (6531), CHUNKING (3030), ENHANCEDSTATUSCODES
//! (2034). It relays nothing and knows no AUTH; put a mail server in front of it where it faces the internet.
//!
//! A message ends at CR LF . CR LF and nowhere else, so a bare LF smuggles no second message in.

mod data;
mod session;

pub use data::DataReader;

use domain::EmailAddress;
use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where the mail goes.
pub trait Deliver: Send + Sync + 'static {
    /// Whether mail to this address is taken.
    fn accepts(&self, recipient: &EmailAddress) -> impl Future<Output = Verdict> + Send;
    /// Keeps the message for all recipients of the envelope, durably, or for none.
    fn deliver(&self, envelope: &Envelope, message: Vec<u8>) -> impl Future<Output = Verdict> + Send;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    /// 4yz: the sender keeps it and tries again.
    NotNow(String),
    /// 5yz: the sender tells its author.
    Never(String),
}

/// What was said before the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// How the sender called itself; cut to what a header can hold.
    pub helo: String,
    pub peer: IpAddr,
    /// `None`: the null sender `<>` of bounces and automatic answers.
    pub sender: Option<String>,
    pub recipients: Vec<EmailAddress>,
    /// `ESMTP` or `SMTP`, for the Received header.
    pub protocol: &'static str,
    pub smtputf8: bool,
}

impl Envelope {
    /// The trace headers of final delivery (RFC 5321, 4.4), to stand before the message.
    pub fn trace(&self, hostname: &str, id: &str, now: chrono::DateTime<chrono::Utc>) -> String {
        let (helo, peer, protocol) = (&self.helo, self.peer, self.protocol);
        let sender = self.sender.as_deref().unwrap_or_default();
        let date = now.to_rfc2822();
        format!(
            "Return-Path: <{sender}>\r\nReceived: from {helo} ([{peer}])\r\n\tby {hostname} with {protocol} id {id};\r\n\t{date}\r\n"
        )
    }
}

#[derive(Clone, Debug)]
pub struct Limits {
    /// How we call ourselves.
    pub hostname: String,
    /// Bytes of one message.
    pub message: usize,
    pub recipients: usize,
    pub connections: usize,
    pub connections_per_peer: usize,
    /// Bytes of all messages that are being received at once.
    pub memory: usize,
    /// Silence after which a client is sent away (RFC 5321, 4.5.3.2: five minutes).
    pub idle: Duration,
    /// The longest time one message may take to arrive.
    pub message_time: Duration,
    /// Wrong commands after which a client is sent away.
    pub errors: usize,
    /// How long a message that is being received may take to finish after the stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            hostname: "localhost".into(),
            message: 30 * 1024 * 1024,
            recipients: 100,
            connections: 200,
            connections_per_peer: 50,
            memory: 128 * 1024 * 1024,
            idle: Duration::from_secs(300),
            message_time: Duration::from_secs(600),
            errors: 20,
            grace: Duration::from_secs(10),
        }
    }
}

/// What all sessions share.
struct Server<D> {
    deliver: D,
    limits: Limits,
    stop: CancellationToken,
    open: AtomicUsize,
    peers: Mutex<HashMap<IpAddr, usize>>,
    memory: AtomicUsize,
}

/// Serves until `stop`; then lets sessions finish the message they are in the middle of, and returns.
pub async fn serve<D: Deliver>(listener: TcpListener, deliver: D, limits: Limits, stop: CancellationToken) {
    let server = Arc::new(Server {
        deliver,
        limits,
        stop: stop.clone(),
        open: AtomicUsize::new(0),
        peers: Mutex::new(HashMap::new()),
        memory: AtomicUsize::new(0),
    });
    let sessions = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let server = server.clone();
                sessions.spawn(async move {
                    let seat = server.seat(peer.ip());
                    if let Err(error) = session::run(&server, stream, peer.ip(), seat.is_some()).await {
                        tracing::debug!(peer.ip = %peer.ip(), %error, "SMTP session ended");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors: others must end first.
                tracing::warn!(%error, "cannot accept an SMTP connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    sessions.close();
    if tokio::time::timeout(server.limits.grace, sessions.wait()).await.is_err() {
        tracing::warn!(sessions = sessions.len(), "SMTP sessions did not end in time");
    }
}

/// A place among the connections; given back when dropped.
struct Seat<'a, D> {
    server: &'a Server<D>,
    peer: IpAddr,
}

impl<D> Server<D> {
    fn seat(&self, peer: IpAddr) -> Option<Seat<'_, D>> {
        let seat = Seat { server: self, peer };
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = peers.entry(peer).or_default();
        *of_peer += 1;
        let fits = open <= self.limits.connections && *of_peer <= self.limits.connections_per_peer;
        drop(peers);
        fits.then_some(seat)
    }
}

/// Memory taken from the common budget for one message; given back when dropped.
struct Room<'a, D> {
    server: &'a Server<D>,
    bytes: usize,
}

impl<'a, D> Room<'a, D> {
    fn new(server: &'a Server<D>) -> Self {
        Room { server, bytes: 0 }
    }

    /// Takes as much as is needed for `bytes` in all; false when there is not enough.
    fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let before = self.server.memory.fetch_add(more, Ordering::Relaxed);
        let fits = before + more <= self.server.limits.memory;
        if fits {
            self.bytes += more;
        } else {
            self.server.memory.fetch_sub(more, Ordering::Relaxed);
        }
        fits
    }

    fn clear(&mut self) {
        self.server.memory.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl<D> Drop for Room<'_, D> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<D> Drop for Seat<'_, D> {
    fn drop(&mut self) {
        self.server.open.fetch_sub(1, Ordering::Relaxed);
        let mut peers = self.server.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
#[path = "smtp_server/tests.rs"]
mod tests;
