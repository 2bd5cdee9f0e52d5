//! Hands messages over in batches. A batch is acknowledged after it was taken; while it cannot be, it is held.

use super::{Dead, Message, QueueSpec, layout, publisher};
use crate::BrokerConfig;
use crate::metrics;
use crate::plumbing::jittered;
use crate::transport::link::{self, BrokerError, Link, Sight, rest};
use futures::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use uuid::Uuid;

/// From the begin of one batch to that of the next. A lone message waits for nobody; of a storm, this many batches a second.
const PACE: Duration = Duration::from_millis(20);
/// Messages in one batch.
const BATCH: usize = 200;
/// And what their bodies come to, about.
const BYTES: usize = 8 << 20;
/// A batch that cannot be taken is held for so long (well below the broker's own patience of half an hour), and then given
/// back. Each giving back counts against the messages, so nothing is consumed again before a copy of them was taken.
const HOLD: Duration = Duration::from_secs(600);
/// Who takes a batch has answered long before, or is cut off from what it needs and will never know.
const PATIENCE: Duration = Duration::from_secs(60);
/// For the batch at hand when the end comes.
const GRACE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often it is counted what waits, and when first.
const COUNT: Duration = Duration::from_secs(15);
const FIRST_COUNT: Duration = Duration::from_secs(1);

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The broker may forget it. The word is the value of a metric.
    Taken(&'static str),
    /// It never will be: to the dead letters.
    Dead,
}

/// Nothing of a batch was taken, and it is worth another try.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct NotNow(#[from] pub anyhow::Error);

/// Takes messages over. What returns is durable before the broker forgets the messages.
pub trait Receive: Send + Sync {
    /// One fate for each message, in their order. The same messages may have come before. Dropped when it takes too long.
    fn receive(&self, batch: &[Message]) -> impl Future<Output = Result<Vec<Fate>, NotNow>> + Send;
}

/// Consumes from queues on one connection.
#[derive(Debug)]
pub struct Subscriber {
    link: Link,
    prefix: String,
    patience: Duration,
    hold: Duration,
    consuming: AtomicBool,
}

enum End {
    Stopped,
    /// These could not be taken for long.
    Held(Vec<Message>),
    Lost(BrokerError),
}

impl From<BrokerError> for End {
    fn from(error: BrokerError) -> Self {
        End::Lost(error)
    }
}

impl From<lapin::Error> for End {
    fn from(error: lapin::Error) -> Self {
        End::Lost(error.into())
    }
}

impl Subscriber {
    /// `name` is shown by the broker's tools, `purpose` is the value of a metric.
    pub fn new(config: &BrokerConfig, name: &str, purpose: &'static str) -> Subscriber {
        let link = Link::new(config, name, purpose, &Arc::default());
        Subscriber {
            link,
            prefix: config.prefix.clone(),
            patience: PATIENCE,
            hold: HOLD,
            consuming: AtomicBool::new(false),
        }
    }

    /// For tests: how long one try to take a batch may last, and for how long it is tried before the batch is given back.
    #[must_use]
    pub fn patience(mut self, patience: Duration, hold: Duration) -> Self {
        (self.patience, self.hold) = (patience, hold);
        self
    }

    /// Whether messages come from its queue, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        self.consuming.load(Ordering::Acquire) && self.link.sight() != Sight::Away
    }

    /// Until `stop`; reconnects by itself.
    pub async fn run(&self, queue: &QueueSpec, receiver: &impl Receive, stop: &CancellationToken) {
        tokio::select! {
            () = self.take_over(queue, receiver, stop) => {}
            () = self.count(queue) => {}
        }
    }

    async fn take_over(&self, queue: &QueueSpec, receiver: &impl Receive, stop: &CancellationToken) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let opened = tokio::select! {
                () = stop.cancelled() => break,
                opened = self.open(queue) => opened,
            };
            let end = match opened {
                Ok((channel, deliveries)) => {
                    self.consuming.store(true, Ordering::Release);
                    let end = self.consume(queue, &channel, deliveries, receiver, stop, &mut failures).await;
                    self.consuming.store(false, Ordering::Release);
                    if let End::Held(_) = end {
                        let _ = link::reply(channel.close(200, "cannot be taken for now".into())).await;
                    }
                    end
                }
                Err(error) => End::Lost(error),
            };
            match end {
                End::Stopped => break,
                // What is taken here comes once more, and is known again.
                End::Held(messages) => {
                    self.take(queue, &messages, receiver, stop, Duration::MAX).await;
                }
                End::Lost(error) => {
                    failures += 1;
                    if failures == 1 {
                        warn!(%error, queue = queue.name, "no messages; trying again");
                    } else {
                        debug!(%error, failures, queue = queue.name, "no messages; trying again");
                    }
                    if !rest(failures, stop).await {
                        break;
                    }
                }
            }
        }
    }

    pub async fn close(&self) {
        self.link.close().await;
    }

    pub(crate) async fn open(&self, queue: &QueueSpec) -> Result<(Channel, lapin::Consumer), BrokerError> {
        let channel = self.link.channel().await?;
        layout::declare(&channel, &self.prefix, std::slice::from_ref(queue)).await?;
        link::reply(channel.basic_qos(queue.prefetch, BasicQosOptions::default())).await?;
        let consume = channel.basic_consume(
            layout::named(&self.prefix, &queue.name),
            Uuid::now_v7().to_string().into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let deliveries = link::reply(consume).await?;
        Ok((channel, deliveries))
    }

    async fn consume(
        &self,
        queue: &QueueSpec,
        channel: &Channel,
        mut deliveries: lapin::Consumer,
        receiver: &impl Receive,
        stop: &CancellationToken,
        failures: &mut u32,
    ) -> End {
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                first = deliveries.next() => match first {
                    Some(Ok(first)) => first,
                    Some(Err(error)) => return error.into(),
                    None => return End::Lost(BrokerError::Cancelled),
                },
            };
            *failures = 0;
            let begun = Instant::now();
            let mut batch = vec![first];
            let mut bytes = batch[0].data.len();
            while batch.len() < BATCH && bytes < BYTES {
                match deliveries.next().now_or_never() {
                    Some(Some(Ok(delivery))) => {
                        bytes += delivery.data.len();
                        batch.push(delivery);
                    }
                    Some(Some(Err(error))) => return error.into(),
                    Some(None) => return End::Lost(BrokerError::Cancelled),
                    None => break,
                }
            }
            if let Err(end) = self.hand_over(queue, channel, batch, receiver, stop).await {
                return end;
            }
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                () = tokio::time::sleep_until((begun + PACE).into()) => {}
            }
        }
    }

    /// For ever: what waits is worth knowing above all while nothing is taken.
    async fn count(&self, queue: &QueueSpec) {
        tokio::time::sleep(FIRST_COUNT).await;
        loop {
            if let Err(error) = self.look(queue).await {
                debug!(%error, queue = queue.name, "what waits cannot be counted");
            }
            tokio::time::sleep(jittered(COUNT)).await;
        }
    }

    async fn look(&self, queue: &QueueSpec) -> Result<(), BrokerError> {
        let channel = self.link.channel().await?;
        let dead = queue.dead.as_ref().map(Dead::queue);
        for name in [Some(queue.name.as_str()), dead].into_iter().flatten() {
            let waiting = layout::depth(&channel, &self.prefix, name).await?;
            metrics::MESSAGES_WAITING.with_label_values(&[publisher::label(name)]).set(waiting.into());
        }
        link::reply(channel.close(200, "counted".into())).await
    }

    /// Messages that are not ours are dead; the others are taken together, and acknowledged.
    async fn hand_over(
        &self,
        queue: &QueueSpec,
        channel: &Channel,
        batch: Vec<Delivery>,
        receiver: &impl Receive,
        stop: &CancellationToken,
    ) -> Result<(), End> {
        let count = |outcome: &str| {
            metrics::MESSAGES_CONSUMED.with_label_values(&[publisher::label(&queue.name), outcome]).inc();
        };
        let (mut messages, mut tags) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        let mut dead = Vec::new();
        for mut delivery in batch {
            match Message::read(&mut delivery) {
                Some(message) => {
                    messages.push(message);
                    tags.push(delivery.delivery_tag);
                }
                None => dead.push(delivery.delivery_tag),
            }
        }
        let mut fates = Vec::new();
        if !messages.is_empty() {
            fates = match self.take(queue, &messages, receiver, stop, self.hold).await {
                Some(fates) => fates,
                None if stop.is_cancelled() => return Err(End::Stopped),
                None => return Err(End::Held(messages)),
            };
        }
        let mut last = None;
        for (index, tag) in tags.into_iter().enumerate() {
            match fates.get(index) {
                Some(Fate::Taken(outcome)) => {
                    count(outcome);
                    last = Some(tag);
                }
                _ => dead.push(tag),
            }
        }
        for tag in dead {
            count("dead");
            warn!(queue = queue.name, "a message that cannot be taken was put to the dead letters");
            link::reply(channel.basic_reject(tag, BasicRejectOptions { requeue: false })).await?;
        }
        // What was put away has its answer already, and is not meant.
        if let Some(last) = last {
            link::reply(channel.basic_ack(last, BasicAckOptions { multiple: true })).await?;
        }
        Ok(())
    }

    /// `None`: not within `hold`, or not before the end.
    async fn take(
        &self,
        queue: &QueueSpec,
        messages: &[Message],
        receiver: &impl Receive,
        stop: &CancellationToken,
        hold: Duration,
    ) -> Option<Vec<Fate>> {
        let (begun, mut failures) = (Instant::now(), 0u32);
        loop {
            let tried = tokio::select! {
                tried = tokio::time::timeout(self.patience, receiver.receive(messages)) => tried,
                () = after(stop, GRACE) => return None,
            };
            let why = match tried {
                Ok(Ok(fates)) => {
                    if failures > 0 {
                        info!(failures, queue = queue.name, "messages are taken again");
                    }
                    return Some(fates);
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no end within {:?}", self.patience),
            };
            failures += 1;
            if failures == 1 {
                warn!(
                    why,
                    queue = queue.name,
                    messages = messages.len(),
                    "messages wait in the broker; trying again"
                );
            }
            if begun.elapsed() > hold || !pause(failures, stop).await {
                return None;
            }
        }
    }
}

async fn after(stop: &CancellationToken, grace: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(grace).await;
}

async fn pause(failures: u32, stop: &CancellationToken) -> bool {
    let pause = jittered(Duration::from_millis(25 << failures.min(8)).min(LONGEST_PAUSE));
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}
