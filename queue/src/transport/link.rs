//! The connections to the broker: one to publish, one to consume, because a broker in need stops reading from those that
//! publish. Made when they are first needed and made again when they are lost, with growing pauses.

use crate::config::BrokerConfig;
use crate::metrics;
use crate::plumbing::jittered;
use futures::StreamExt;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties, Event};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Nothing in the protocol takes longer on a broker that is well.
const REPLY: Duration = Duration::from_secs(5);
const CONNECT: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum BrokerError {
    #[error(transparent)]
    Amqp(#[from] lapin::Error),
    #[error("no answer from the broker within {0:?}")]
    Silent(Duration),
    #[error("{0}")]
    Url(String),
    #[error("the broker ended the delivery of messages")]
    Cancelled,
    #[error("the broker did not take a message ({0})")]
    NotTaken(&'static str),
}

/// Waits for an answer of the broker, but not for ever.
pub(crate) async fn reply<T>(answer: impl Future<Output = lapin::Result<T>>) -> Result<T, BrokerError> {
    match tokio::time::timeout(REPLY, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(BrokerError::Silent(REPLY)),
    }
}

/// How the broker is seen from this process. In the order of the words, the worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    Away,
    Blocked,
    Connected,
}

impl Sight {
    pub fn as_str(self) -> &'static str {
        match self {
            Sight::Away => "away",
            Sight::Blocked => "blocked",
            Sight::Connected => "connected",
        }
    }
}

/// Both connections.
#[derive(Debug)]
pub(crate) struct Broker {
    pub config: BrokerConfig,
    pub publishing: Link,
    pub consuming: Link,
}

impl Broker {
    /// `changed` is told when the broker is seen differently.
    pub fn new(config: BrokerConfig, name: &str, changed: &Arc<Notify>) -> Broker {
        let link = |purpose| Link::new(&config, name, purpose, changed);
        Broker { publishing: link("publishing"), consuming: link("consuming"), config }
    }

    pub fn sight(&self) -> Sight {
        match (self.publishing.sight(), self.consuming.sight()) {
            (Sight::Away, _) | (_, Sight::Away) => Sight::Away,
            (Sight::Blocked, _) => Sight::Blocked,
            _ => Sight::Connected,
        }
    }

    /// In order, if the broker answers.
    pub async fn close(&self) {
        futures::future::join(self.publishing.close(), self.consuming.close()).await;
    }
}

pub(crate) struct Link {
    url: String,
    /// Seconds.
    heartbeat: u16,
    /// Shown by the broker's tools.
    name: String,
    purpose: &'static str,
    changed: Arc<Notify>,
    slot: Mutex<Slot>,
    /// The connection that `slot` holds, for those who only look.
    seen: std::sync::Mutex<Option<Arc<Connection>>>,
}

/// Without the address: it has the password.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("name", &self.name)
            .field("purpose", &self.purpose)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Slot {
    connection: Option<(Arc<Connection>, Listener)>,
    failures: u32,
    /// The last failure, and when to try again.
    failed: Option<(BrokerError, Instant)>,
}

/// Ends the task with its connection.
#[derive(Debug)]
struct Listener(AbortHandle);

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Link {
    /// `changed` is told when the broker is seen differently; `purpose` is the value of a metric.
    pub fn new(config: &BrokerConfig, name: &str, purpose: &'static str, changed: &Arc<Notify>) -> Link {
        Link {
            url: config.url.clone(),
            heartbeat: u16::try_from(config.heartbeat.as_secs()).unwrap_or(u16::MAX),
            name: format!("{name} {purpose}"),
            purpose,
            changed: changed.clone(),
            slot: Mutex::default(),
            seen: std::sync::Mutex::default(),
        }
    }

    /// A channel on a living connection; fails at once while a pause after a failure lasts.
    pub async fn channel(&self) -> Result<Channel, BrokerError> {
        let mut slot = self.slot.lock().await;
        if let Some((connection, _)) = &slot.connection {
            if connection.status().connected() {
                return reply(connection.create_channel()).await;
            }
            self.see(None);
            slot.connection = None;
        }
        if let Some((error, again)) = &slot.failed
            && Instant::now() < *again
        {
            return Err(error.clone());
        }
        match self.connect().await {
            Ok(connection) => {
                info!(attempts = slot.failures + 1, "connected to the broker for {}", self.purpose);
                (slot.failures, slot.failed) = (0, None);
                let connection = Arc::new(connection);
                self.see(Some(connection.clone()));
                slot.connection = Some((connection.clone(), self.listen(&connection)));
                reply(connection.create_channel()).await
            }
            Err(error) => {
                slot.failures += 1;
                if slot.failures == 1 {
                    warn!(%error, "no connection to the broker for {}; what would go there waits", self.purpose);
                } else {
                    debug!(%error, failures = slot.failures, "no connection to the broker for {}", self.purpose);
                }
                slot.failed = Some((error.clone(), Instant::now() + pause(slot.failures)));
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<Connection, BrokerError> {
        let mut uri: AMQPUri = self.url.parse().map_err(BrokerError::Url)?;
        uri.query.heartbeat.get_or_insert(self.heartbeat);
        uri.query.connection_timeout.get_or_insert(REPLY.as_millis() as u64);
        let properties = ConnectionProperties::default().with_connection_name(self.name.as_str().into());
        match tokio::time::timeout(CONNECT, Connection::connect_uri(uri, properties)).await {
            Ok(connection) => Ok(connection?),
            Err(_) => Err(BrokerError::Silent(CONNECT)),
        }
    }

    /// Says what the broker tells about the connection.
    fn listen(&self, connection: &Connection) -> Listener {
        let mut events = Box::pin(connection.events_listener());
        let (purpose, changed) = (self.purpose, self.changed.clone());
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match event {
                    Event::ConnectionBlocked(reason) => {
                        warn!(reason, "the broker takes no messages for now; what would go there waits");
                        metrics::AMQP_BLOCKED.with_label_values(&[purpose]).set(1);
                    }
                    Event::ConnectionUnblocked => {
                        info!("the broker takes messages again");
                        metrics::AMQP_BLOCKED.with_label_values(&[purpose]).set(0);
                    }
                    Event::Error(error) => {
                        warn!(%error, "the connection to the broker for {purpose} is lost")
                    }
                    _ => {}
                }
                changed.notify_one();
            }
        });
        Listener(task.abort_handle())
    }

    fn see(&self, connection: Option<Arc<Connection>>) {
        let connected = connection.is_some();
        *self.lock_seen() = connection;
        metrics::AMQP_CONNECTED.with_label_values(&[self.purpose]).set(connected.into());
        // The broker says so anew on each connection.
        metrics::AMQP_BLOCKED.with_label_values(&[self.purpose]).set(0);
        self.changed.notify_one();
    }

    fn lock_seen(&self) -> std::sync::MutexGuard<'_, Option<Arc<Connection>>> {
        self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn sight(&self) -> Sight {
        match &*self.lock_seen() {
            Some(connection) if connection.status().connected() => {
                if connection.status().blocked() {
                    Sight::Blocked
                } else {
                    Sight::Connected
                }
            }
            _ => Sight::Away,
        }
    }

    pub async fn close(&self) {
        let connection = self.slot.lock().await.connection.take();
        self.see(None);
        if let Some((connection, _)) = connection {
            let closed = connection.close(200, "the worker stops".into());
            let _ = tokio::time::timeout(Duration::from_secs(1), closed).await;
        }
    }
}

/// Doubling from 100 ms, ± 25 %: processes that lost the broker together do not come back together.
fn pause(failures: u32) -> Duration {
    jittered(Duration::from_millis(50 << failures.min(8)).min(LONGEST_PAUSE))
}

/// Waits a moment after a failure; false when the end came meanwhile.
pub(crate) async fn rest(failures: u32, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(pause(failures).min(Duration::from_secs(1))) => true,
    }
}
