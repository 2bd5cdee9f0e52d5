//! Publishes messages on one channel that is kept open, each confirmed for itself. Who publishes never waits for a connection:
//! there is one, or it is told at once that there is none.

use super::{MESSAGES, Message, NotPublished, QueueSpec, layout};
use crate::BrokerConfig;
use crate::metrics;
use crate::transport::link::{BrokerError, Link, Sight, reply, rest};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// For the confirmation of a small message.
const CONFIRM: Duration = Duration::from_secs(3);
/// And so much longer for each of these.
const BYTES_A_SECOND: usize = 4 << 20;
/// On a line that may be slow.
const SLOW_BYTES_A_SECOND: usize = 128 << 10;
/// Larger bodies go on a channel of their own: one that the broker finds too large costs its channel.
const SMALL: usize = 256 << 10;
/// How often it is looked whether the channel is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Cheap to clone. Ends with the last clone, or with [`Publisher::close`].
#[derive(Clone, Debug)]
pub struct Publisher {
    inner: Arc<Inner>,
    _end: Arc<End>,
}

#[derive(Debug)]
struct Inner {
    link: Link,
    prefix: String,
    queues: Vec<QueueSpec>,
    /// Those without a queue of ours.
    exchanges: &'static [&'static str],
    channel: Mutex<Option<Channel>>,
    /// Connected when there is something large: nothing small waits behind it on a slow line.
    large: Option<Link>,
    bytes_a_second: usize,
    /// The channel is of no use any more.
    lost: Notify,
    opened: Notify,
    stop: CancellationToken,
}

#[derive(Debug)]
struct End(CancellationToken);

impl Drop for End {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Publisher {
    /// Returns at once, also while the broker is away. `name` is shown by the broker's tools, `purpose` is the value of a metric. The
    /// queues are declared whenever a channel is made.
    pub fn open(
        config: &BrokerConfig,
        name: &str,
        purpose: &'static str,
        queues: Vec<QueueSpec>,
    ) -> Publisher {
        Publisher::declaring(config, name, purpose, queues, &[])
    }

    /// Over a line that may be slow. Declares nothing.
    pub(crate) fn slow(
        config: &BrokerConfig,
        name: &str,
        purpose: &'static str,
        large: &'static str,
    ) -> Publisher {
        let large = Link::new(config, name, large, &Arc::default());
        Publisher::new(config, name, purpose, Vec::new(), &[], Some(large))
    }

    /// Also exchanges, for queues that others declare.
    pub(crate) fn declaring(
        config: &BrokerConfig,
        name: &str,
        purpose: &'static str,
        queues: Vec<QueueSpec>,
        exchanges: &'static [&'static str],
    ) -> Publisher {
        Publisher::new(config, name, purpose, queues, exchanges, None)
    }

    fn new(
        config: &BrokerConfig,
        name: &str,
        purpose: &'static str,
        queues: Vec<QueueSpec>,
        exchanges: &'static [&'static str],
        large: Option<Link>,
    ) -> Publisher {
        let inner = Arc::new(Inner {
            link: Link::new(config, name, purpose, &Arc::default()),
            prefix: config.prefix.clone(),
            queues,
            exchanges,
            channel: Mutex::default(),
            bytes_a_second: if large.is_some() { SLOW_BYTES_A_SECOND } else { BYTES_A_SECOND },
            large,
            lost: Notify::new(),
            opened: Notify::new(),
            stop: CancellationToken::new(),
        });
        tokio::spawn(keep_open(inner.clone()));
        let end = Arc::new(End(inner.stop.clone()));
        Publisher { inner, _end: end }
    }

    /// Whether the broker takes messages, as far as is known.
    pub fn is_open(&self) -> bool {
        self.inner.current().is_some() && self.inner.link.sight() == Sight::Connected
    }

    /// Until [`Publisher::is_open`]: for starts and tests, not on the way of a request.
    pub async fn opened(&self) {
        loop {
            let opened = self.inner.opened.notified();
            if self.is_open() {
                return;
            }
            let _ = tokio::time::timeout(LOOK, opened).await;
        }
    }

    /// When it returns `Ok`, the message is on the disks of the broker. Never takes longer than a few seconds, more for large
    /// messages.
    pub async fn publish(&self, queue: &str, message: &Message) -> Result<(), NotPublished> {
        self.publish_by(MESSAGES, queue, message).await
    }

    pub(crate) async fn publish_by(
        &self,
        exchange: &str,
        queue: &str,
        message: &Message,
    ) -> Result<(), NotPublished> {
        let published = self.inner.publish(exchange, queue, message).await;
        let outcome = match &published {
            Ok(()) => "confirmed",
            Err(NotPublished::Away) => "away",
            Err(NotPublished::Blocked) => "blocked",
            Err(NotPublished::Refused) => "refused",
            Err(NotPublished::NoQueue) => "no_queue",
            Err(NotPublished::Unconfirmed(_)) => "unconfirmed",
        };
        metrics::MESSAGES_PUBLISHED.with_label_values(&[label(queue), outcome]).inc();
        published
    }

    /// In order, if the broker answers.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        *self.inner.lock() = None;
        if let Some(large) = &self.inner.large {
            large.close().await;
        }
        self.inner.link.close().await;
    }
}

/// Queues of one process each share a label.
pub(super) fn label(queue: &str) -> &str {
    queue.split_once('/').map_or(queue, |(family, _)| family)
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Option<Channel>> {
        self.channel.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Option<Channel> {
        self.lock().clone().filter(|channel| channel.status().connected())
    }

    async fn publish(&self, exchange: &str, queue: &str, message: &Message) -> Result<(), NotPublished> {
        if !layout::fits(&self.prefix, queue) {
            return Err(NotPublished::NoQueue);
        }
        let shared = self.current().ok_or(NotPublished::Away)?;
        if self.link.sight() == Sight::Blocked {
            return Err(NotPublished::Blocked);
        }
        let is_small = message.body.len() <= SMALL;
        let patience = CONFIRM + Duration::from_secs((message.body.len() / self.bytes_a_second) as u64);
        let publish = async {
            let own;
            let channel = if is_small {
                &shared
            } else {
                own = self.large.as_ref().unwrap_or(&self.link).channel().await?;
                reply(own.confirm_select(ConfirmSelectOptions::default())).await?;
                &own
            };
            let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let sent = channel
                .basic_publish(
                    layout::named(&self.prefix, exchange),
                    layout::named(&self.prefix, queue),
                    mandatory,
                    &message.body,
                    message.properties(),
                )
                .await?;
            let confirmation = sent.await?;
            if !is_small {
                let _ = tokio::time::timeout(CONFIRM, channel.close(200, "done".into())).await;
            }
            Ok::<_, BrokerError>(confirmation)
        };
        let started = Instant::now();
        let unconfirmed = match tokio::time::timeout(patience, publish).await {
            Ok(Ok(Confirmation::Ack(None))) => {
                metrics::AMQP_CONFIRM.observe(started.elapsed().as_secs_f64());
                return Ok(());
            }
            Ok(Ok(Confirmation::Nack(None))) => return Err(NotPublished::Refused),
            Ok(Ok(_)) => {
                // One of ours is declared again on a new channel.
                if self.queues.iter().any(|ours| ours.name == queue) {
                    self.give_up(&shared, "its queue is gone");
                }
                return Err(NotPublished::NoQueue);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {patience:?}"),
        };
        if is_small {
            self.give_up(&shared, &unconfirmed);
        }
        Err(NotPublished::Unconfirmed(unconfirmed))
    }

    /// Who comes next does not wait for a channel that has been silent once.
    fn give_up(&self, channel: &Channel, why: &str) {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|current| current.id() == channel.id()) {
            *current = None;
            self.lost.notify_one();
            warn!(why, "a message was not confirmed; a new channel is opened");
        }
    }

    async fn open(&self) -> Result<Channel, BrokerError> {
        let channel = self.link.channel().await?;
        reply(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        for exchange in self.exchanges {
            layout::declare_exchange(&channel, &self.prefix, exchange).await?;
        }
        layout::declare(&channel, &self.prefix, &self.queues).await?;
        Ok(channel)
    }
}

async fn keep_open(inner: Arc<Inner>) {
    let mut failures = 0;
    while !inner.stop.is_cancelled() {
        let opened = tokio::select! {
            () = inner.stop.cancelled() => break,
            opened = inner.open() => opened,
        };
        match opened {
            Ok(channel) => {
                failures = 0;
                *inner.lock() = Some(channel);
                inner.opened.notify_waiters();
                while inner.current().is_some() {
                    tokio::select! {
                        () = inner.stop.cancelled() => break,
                        () = inner.lost.notified() => {}
                        () = tokio::time::sleep(LOOK) => {}
                    }
                }
                *inner.lock() = None;
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    warn!(%error, prefix = inner.prefix, "no messages can be put into the broker; trying again");
                } else {
                    debug!(%error, failures, "no messages can be put into the broker");
                }
                if !rest(failures, &inner.stop).await {
                    break;
                }
            }
        }
    }
    *inner.lock() = None;
    inner.link.close().await;
}
