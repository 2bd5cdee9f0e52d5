//! What is declared in the broker. Only what RabbitMQ 3.10 to 4.x have in common: durable exchanges, quorum queues, per-consumer
//! prefetch. Declared anew on every channel: it costs one round trip each, and brings back what was wiped.

use super::link::{BrokerError, reply};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

/// After so many deliveries that were not acknowledged, a message goes to the dead letters. Its job is not affected: the row
/// counts its own attempts, and the sweep publishes it again.
const DELIVERY_LIMIT: i32 = 50;
/// Dead messages are for people to look at; the oldest are dropped.
const DEAD_KEPT: i32 = 10_000;

/// The names of an installation, which all begin with its prefix.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub fn new(prefix: &str) -> Names {
        Names { prefix: prefix.to_owned() }
    }

    pub fn exchange(&self) -> ShortString {
        format!("{}.jobs", self.prefix).into()
    }

    pub fn queue(&self, lane: &str) -> ShortString {
        format!("{}.jobs.{lane}", self.prefix).into()
    }

    pub fn dead(&self) -> ShortString {
        format!("{}.dead", self.prefix).into()
    }
}

fn quorum(more: [(&str, AMQPValue); 2]) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    for (name, value) in more {
        arguments.insert(name.into(), value);
    }
    arguments
}

/// Everything that the lane needs, the dead letters included.
pub(crate) async fn declare(channel: &Channel, names: &Names, lane: &str) -> Result<(), BrokerError> {
    let (exchange, queue, dead) = (names.exchange(), names.queue(lane), names.dead());
    let exchange_options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let queue_options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    for (name, kind) in [(&exchange, ExchangeKind::Direct), (&dead, ExchangeKind::Fanout)] {
        reply(channel.exchange_declare(name.clone(), kind, exchange_options, FieldTable::default())).await?;
    }
    let limits = [("x-max-length", AMQPValue::LongInt(DEAD_KEPT)), ("x-overflow", text("drop-head"))];
    reply(channel.queue_declare(dead.clone(), queue_options, quorum(limits))).await?;
    let bind = |queue: &ShortString, exchange: &ShortString, key: &str| {
        channel.queue_bind(
            queue.clone(),
            exchange.clone(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
    };
    reply(bind(&dead, &dead, "")).await?;
    let limits = [
        ("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT)),
        ("x-dead-letter-exchange", AMQPValue::LongString(dead.as_str().into())),
    ];
    reply(channel.queue_declare(queue.clone(), queue_options, quorum(limits))).await?;
    reply(bind(&queue, &exchange, lane)).await
}

/// How many messages wait in the lane's queue, those at consumers not counted.
pub(crate) async fn depth(channel: &Channel, names: &Names, lane: &str) -> Result<usize, BrokerError> {
    let look = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let queue = reply(channel.queue_declare(names.queue(lane), look, FieldTable::default())).await?;
    Ok(queue.message_count() as usize)
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}
