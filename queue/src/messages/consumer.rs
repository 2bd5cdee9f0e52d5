//! Hands messages over in batches. A batch is acknowledged after it was taken; while it cannot be, it is held.

use super::{Message, QueueSpec, layout, publisher};
use crate::BrokerConfig;
use crate::metrics;
use crate::plumbing::jittered;
use crate::transport::link::{self, BrokerError, Link, rest};
use futures::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use std::sync::Arc;
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
/// back until there is hope.
const HOLD: Duration = Duration::from_secs(600);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often it is counted what waits.
const COUNT: Duration = Duration::from_secs(15);

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
    /// One fate for each message, in their order. The same messages may have come before.
    fn receive(&self, batch: &[Message]) -> impl Future<Output = Result<Vec<Fate>, NotNow>> + Send;

    /// Whether it is likely that something can be taken.
    fn is_ready(&self) -> impl Future<Output = bool> + Send;
}

/// Consumes from queues on one connection.
#[derive(Debug)]
pub struct Subscriber {
    link: Link,
    prefix: String,
}

enum End {
    Stopped,
    /// It could not be taken for long.
    Held,
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
        Subscriber { link, prefix: config.prefix.clone() }
    }

    /// Until `stop`; reconnects by itself.
    pub async fn run(&self, queue: &QueueSpec, receiver: &impl Receive, stop: &CancellationToken) {
        let mut failures = 0;
        while !stop.is_cancelled() {
            let opened = tokio::select! {
                () = stop.cancelled() => break,
                opened = self.open(queue) => opened,
            };
            let end = match opened {
                Ok((channel, deliveries)) => {
                    self.consume(queue, &channel, deliveries, receiver, stop, &mut failures).await
                }
                Err(error) => End::Lost(error),
            };
            match end {
                End::Stopped => break,
                End::Held => until_ready(receiver, stop).await,
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
            layout::queue(&self.prefix, &queue.name),
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
        let mut count = Instant::now();
        loop {
            let first = tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                () = tokio::time::sleep_until(count.into()) => {
                    if let Err(error) = self.count(queue, channel).await {
                        return End::Lost(error);
                    }
                    count = Instant::now() + jittered(COUNT);
                    continue;
                }
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
            if let Err(end) = hand_over(queue, channel, batch, receiver, stop).await {
                return end;
            }
            tokio::select! {
                () = stop.cancelled() => return End::Stopped,
                () = tokio::time::sleep_until((begun + PACE).into()) => {}
            }
        }
    }

    async fn count(&self, queue: &QueueSpec, channel: &Channel) -> Result<(), BrokerError> {
        for name in [Some(&queue.name), queue.dead.as_ref()].into_iter().flatten() {
            let waiting = layout::depth(channel, &self.prefix, name).await?;
            metrics::MESSAGES_WAITING.with_label_values(&[publisher::label(name)]).set(waiting.into());
        }
        Ok(())
    }
}

/// Messages that are not ours are dead; the others are taken together, and acknowledged.
async fn hand_over(
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
    let fates = if messages.is_empty() { Vec::new() } else { take(queue, &messages, receiver, stop).await? };
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

async fn take(
    queue: &QueueSpec,
    messages: &[Message],
    receiver: &impl Receive,
    stop: &CancellationToken,
) -> Result<Vec<Fate>, End> {
    let (begun, mut failures) = (Instant::now(), 0u32);
    loop {
        match receiver.receive(messages).await {
            Ok(fates) => {
                if failures > 0 {
                    info!(failures, queue = queue.name, "messages are taken again");
                }
                return Ok(fates);
            }
            Err(error) => {
                failures += 1;
                if failures == 1 {
                    warn!(%error, queue = queue.name, messages = messages.len(), "messages wait in the broker; trying again");
                }
                if begun.elapsed() > HOLD {
                    return Err(End::Held);
                }
                if !pause(failures, stop).await {
                    return Err(End::Stopped);
                }
            }
        }
    }
}

async fn until_ready(receiver: &impl Receive, stop: &CancellationToken) {
    let mut failures = 1;
    while !receiver.is_ready().await && pause(failures, stop).await {
        failures += 1;
    }
}

async fn pause(failures: u32, stop: &CancellationToken) -> bool {
    let pause = jittered(Duration::from_millis(25 << failures.min(8)).min(LONGEST_PAUSE));
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}
