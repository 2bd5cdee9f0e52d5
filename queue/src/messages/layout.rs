//! What is declared for messages, anew on every channel.

use super::{Dead, Holder, MESSAGES, QueueSpec};
use crate::BrokerConfig;
use crate::transport::link::{BrokerError, Link, reply};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A delivery that was not acknowledged counts, also when that was the broker's fault: one for each loss of a connection.
const DELIVERY_LIMIT: i32 = 50;
/// Of dead letters that are kept for a while only: messages, bytes, and how long.
const NEWEST: (i64, i64, Duration) = (1_000, 64 << 20, Duration::from_secs(7 * 86_400));

/// Of an exchange or a queue.
///
/// # Panics
/// With more than 255 bytes, which the protocol does not know; [`fits`] tells before.
pub(super) fn named(prefix: &str, name: &str) -> ShortString {
    format!("{prefix}.{name}").into()
}

pub(super) fn fits(prefix: &str, name: &str) -> bool {
    prefix.len() + 1 + name.len() <= 255
}

pub(super) async fn declare_exchange(channel: &Channel, prefix: &str, name: &str) -> Result<(), BrokerError> {
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let name = named(prefix, name);
    reply(channel.exchange_declare(name, ExchangeKind::Direct, durable, FieldTable::default())).await
}

pub(super) async fn declare(channel: &Channel, prefix: &str, specs: &[QueueSpec]) -> Result<(), BrokerError> {
    let shared = specs.iter().filter(|spec| spec.holder == Holder::All);
    for name in shared.map(|spec| spec.exchange).collect::<BTreeSet<_>>() {
        declare_exchange(channel, prefix, name).await?;
    }
    for spec in specs.iter().filter(|spec| spec.holder != Holder::Others) {
        if let Some(dead) = &spec.dead {
            let (name, dead) = (named(prefix, dead.queue()), dead_arguments(dead));
            declare_queue(channel, name, named(prefix, MESSAGES), Holder::All, dead).await?;
        }
        let (name, by) = (named(prefix, &spec.name), named(prefix, spec.exchange));
        declare_queue(channel, name, by, spec.holder, arguments(prefix, spec)).await?;
    }
    Ok(())
}

async fn declare_queue(
    channel: &Channel,
    name: ShortString,
    exchange: ShortString,
    holder: Holder,
    arguments: FieldTable,
) -> Result<(), BrokerError> {
    let is_lasting = holder == Holder::All;
    let options = QueueDeclareOptions {
        durable: is_lasting,
        exclusive: !is_lasting,
        auto_delete: !is_lasting,
        ..QueueDeclareOptions::default()
    };
    reply(channel.queue_declare(name.clone(), options, arguments)).await?;
    let bound =
        channel.queue_bind(name.clone(), exchange, name, QueueBindOptions::default(), FieldTable::default());
    reply(bound).await
}

fn dead_arguments(dead: &Dead) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    if let Dead::Newest(_) = dead {
        let (messages, bytes, age) = NEWEST;
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(messages));
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(bytes));
        arguments.insert("x-overflow".into(), text("drop-head"));
        arguments.insert("x-message-ttl".into(), AMQPValue::LongLongInt(age.as_millis() as i64));
    }
    arguments
}

fn arguments(prefix: &str, spec: &QueueSpec) -> FieldTable {
    if spec.holder == Holder::Connection {
        return FieldTable::default();
    }
    let mut arguments = FieldTable::default();
    let mut set = |name: &str, value: AMQPValue| {
        arguments.insert(name.into(), value);
    };
    set("x-queue-type", text("quorum"));
    if let Some((messages, bytes)) = spec.most {
        set("x-max-length", AMQPValue::LongLongInt(messages.into()));
        set("x-max-length-bytes", AMQPValue::LongLongInt(i64::try_from(bytes).unwrap_or(i64::MAX)));
    }
    if spec.most.is_some() || matches!(spec.dead, Some(Dead::Kept(_))) {
        // The sender is told, instead of others' messages thrown away; dead letters at least once ask for it too.
        set("x-overflow", text("reject-publish"));
    }
    if let Some(dead) = &spec.dead {
        set("x-delivery-limit", AMQPValue::LongInt(DELIVERY_LIMIT));
        if let Dead::Kept(_) = dead {
            set("x-dead-letter-strategy", text("at-least-once"));
        }
        set("x-dead-letter-exchange", text(named(prefix, MESSAGES).as_str()));
        set("x-dead-letter-routing-key", text(named(prefix, dead.queue()).as_str()));
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
    let found = reply(channel.queue_declare(named(prefix, name), look, FieldTable::default())).await?;
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

    #[test]
    fn names_are_as_long_as_the_protocol_knows() {
        let longest = "x".repeat(250);
        assert!(fits("desk", &longest) && !fits("desks", &longest));
        assert_eq!(named("desk", &longest).as_str().len(), 255);
    }

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
        has("x-dead-letter-strategy", text("at-least-once"));
    }

    #[test]
    fn dead_letters_that_nobody_needs_make_room_for_newer_ones() {
        let spec = QueueSpec::new("asked", 10).newest_dead_letters("asked.dead");
        let of_queue = arguments("desk", &spec);
        assert!(of_queue.inner().contains_key("x-delivery-limit"));
        assert!(!of_queue.inner().contains_key("x-overflow"), "nobody waits for room among them");
        let dead = dead_arguments(spec.dead.as_ref().unwrap());
        assert_eq!(dead.inner().get("x-overflow"), Some(&text("drop-head")));
        assert!(
            dead.inner().contains_key("x-message-ttl") && dead.inner().contains_key("x-max-length-bytes")
        );
    }
}
