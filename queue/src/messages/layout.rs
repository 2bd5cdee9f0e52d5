//! What is declared for messages, anew on every channel.

use super::QueueSpec;
use crate::BrokerConfig;
use crate::transport::link::{BrokerError, Link, reply};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use std::sync::Arc;

/// A delivery that was not acknowledged counts, also when that was the broker's fault: one for each loss of a connection.
const DELIVERY_LIMIT: i32 = 50;

pub(super) fn exchange(prefix: &str) -> ShortString {
    format!("{prefix}.messages").into()
}

pub(super) fn queue(prefix: &str, name: &str) -> ShortString {
    format!("{prefix}.{name}").into()
}

pub(super) async fn declare(channel: &Channel, prefix: &str, specs: &[QueueSpec]) -> Result<(), BrokerError> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared =
        channel.exchange_declare(exchange(prefix), ExchangeKind::Direct, durable, FieldTable::default());
    reply(declared).await?;
    for spec in specs {
        if let Some(dead) = &spec.dead {
            declare_queue(channel, prefix, &QueueSpec::new(dead.as_str(), 1)).await?;
        }
        declare_queue(channel, prefix, spec).await?;
    }
    Ok(())
}

async fn declare_queue(channel: &Channel, prefix: &str, spec: &QueueSpec) -> Result<(), BrokerError> {
    let name = queue(prefix, &spec.name);
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    reply(channel.queue_declare(name.clone(), durable, arguments(prefix, spec))).await?;
    let bound = channel.queue_bind(
        name.clone(),
        exchange(prefix),
        name,
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    reply(bound).await
}

fn arguments(prefix: &str, spec: &QueueSpec) -> FieldTable {
    let mut arguments = FieldTable::default();
    let mut set = |name: &str, value: AMQPValue| {
        arguments.insert(name.into(), value);
    };
    set("x-queue-type", text("quorum"));
    if let Some((messages, bytes)) = spec.most {
        set("x-max-length", AMQPValue::LongLongInt(messages.into()));
        set("x-max-length-bytes", AMQPValue::LongLongInt(i64::try_from(bytes).unwrap_or(i64::MAX)));
    }
    if spec.most.is_some() || spec.dead.is_some() {
        // The sender is told, instead of others' messages thrown away; dead letters at least once ask for it too.
        set("x-overflow", text("reject-publish"));
    }
    if let Some(dead) = &spec.dead {
        set("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT));
        set("x-dead-letter-strategy", text("at-least-once"));
        set("x-dead-letter-exchange", text(exchange(prefix).as_str()));
        set("x-dead-letter-routing-key", text(queue(prefix, dead).as_str()));
    }
    if let Some(expires) = spec.expires {
        set("x-expires", AMQPValue::LongLongInt(expires.as_millis() as i64));
    }
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// How many messages wait, those at consumers not counted.
pub(super) async fn depth(channel: &Channel, prefix: &str, name: &str) -> Result<u32, BrokerError> {
    let look = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let found = reply(channel.queue_declare(queue(prefix, name), look, FieldTable::default())).await?;
    Ok(found.message_count())
}

/// Looks how full queues are, for people.
#[derive(Debug)]
pub struct Depth {
    link: Link,
    prefix: String,
}

impl Depth {
    pub fn of(config: &BrokerConfig) -> Depth {
        Depth { link: Link::new(config, "depth", "depth", &Arc::default()), prefix: config.prefix.clone() }
    }

    /// `Ok(None)`: there is no such queue. `Err` says why the broker cannot be asked.
    pub async fn messages(&self, queue: &str) -> Result<Option<u32>, String> {
        // One that is not there costs the channel.
        let channel = self.link.channel().await.map_err(|error| error.to_string())?;
        match depth(&channel, &self.prefix, queue).await {
            Ok(messages) => Ok(Some(messages)),
            Err(BrokerError::Amqp(error)) if is_missing(&error) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    pub async fn close(&self) {
        self.link.close().await;
    }
}

fn is_missing(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error) if error.get_id() == 404)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_queue_is_declared_with_what_its_messages_need() {
        let spec = QueueSpec::new("hooks", 10)
            .at_most(5, 1 << 33)
            .dead_letters("hooks.dead")
            .expires(Duration::from_secs(60));
        let arguments = arguments("desk", &spec);
        let has = |name: &str, value: AMQPValue| {
            assert_eq!(arguments.inner().get(name), Some(&value), "{name}");
        };
        has("x-queue-type", text("quorum"));
        has("x-max-length", AMQPValue::LongLongInt(5));
        has("x-max-length-bytes", AMQPValue::LongLongInt(1 << 33));
        has("x-overflow", text("reject-publish"));
        has("x-dead-letter-exchange", text("desk.messages"));
        has("x-dead-letter-routing-key", text("desk.hooks.dead"));
        has("x-expires", AMQPValue::LongLongInt(60_000));
    }
}
