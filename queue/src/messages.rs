//! Messages with bodies of their own, for those who cannot ask the database first: what comes in while it is away, and workers
//! that have none. A message is durable once the broker has confirmed it, and is handed over at least once: whoever
//! receives it must know it again by its id.
//!
//! Unlike the messages of lanes ([ADR 0013](../../docs/adr/0013-rabbitmq-carries-hints.md)), these are not copies of rows: until
//! they are handed over, the broker alone has them. Hence quorum queues, persistent, confirmed, dead letters that are kept.

mod consumer;
mod layout;
mod publisher;

pub use consumer::{Fate, NotNow, Receive, Subscriber};
pub use layout::Depth;
pub use publisher::Publisher;

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use std::time::Duration;
use uuid::Uuid;

/// The exchange of most queues.
pub(crate) const MESSAGES: &str = "messages";

/// A queue of the broker. Names are without the installation's prefix.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueSpec {
    pub name: String,
    /// Passes on what bears the queue's name. Rights to write are given by exchange.
    pub exchange: &'static str,
    pub holder: Holder,
    /// Messages that a consumer holds at a time; so many times the largest body fits its memory.
    pub prefetch: u16,
    /// Messages and bytes; more are refused, and their sender is told.
    pub most: Option<(u32, u64)>,
    pub dead: Option<Dead>,
    /// The queue goes when nobody has consumed from it for so long.
    pub expires: Option<Duration>,
}

/// Who declares a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Everybody who uses it. It outlives them.
    All,
    /// One connection alone consumes from it, and it goes with that.
    Connection,
    /// Somebody else: whoever consumes from it needs no right to configure anything.
    Others,
}

/// The queue that takes what came back too often, or is nobody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dead {
    /// Until somebody looks: the broker alone has them.
    Kept(String),
    /// The newest, for people who look for a cause.
    Newest(String),
}

impl Dead {
    pub fn queue(&self) -> &str {
        match self {
            Dead::Kept(queue) | Dead::Newest(queue) => queue,
        }
    }
}

impl QueueSpec {
    pub fn new(name: impl Into<String>, prefetch: u16) -> Self {
        QueueSpec {
            name: name.into(),
            exchange: MESSAGES,
            holder: Holder::All,
            prefetch,
            most: None,
            dead: None,
            expires: None,
        }
    }

    #[must_use]
    pub fn by(mut self, exchange: &'static str, holder: Holder) -> Self {
        (self.exchange, self.holder) = (exchange, holder);
        self
    }

    #[must_use]
    pub fn at_most(mut self, messages: u32, bytes: u64) -> Self {
        self.most = Some((messages, bytes));
        self
    }

    #[must_use]
    pub fn dead_letters(mut self, queue: impl Into<String>) -> Self {
        self.dead = Some(Dead::Kept(queue.into()));
        self
    }

    #[must_use]
    pub fn newest_dead_letters(mut self, queue: impl Into<String>) -> Self {
        self.dead = Some(Dead::Newest(queue.into()));
        self
    }

    #[must_use]
    pub fn expires(mut self, after: Duration) -> Self {
        self.expires = Some(after);
        self
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub id: Uuid,
    /// A word for people who look at the queue, and for the receiver.
    pub kind: String,
    /// What is to be known of the body; a few kilobytes at most.
    pub about: String,
    pub body: Vec<u8>,
    /// After so long in the queue it is of no use to anybody.
    pub expires: Option<Duration>,
}

impl Message {
    fn properties(&self) -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert("about".into(), AMQPValue::LongString(self.about.as_str().into()));
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_message_id(self.id.to_string().into())
            .with_type(self.kind.as_str().into())
            .with_headers(headers);
        match self.expires {
            Some(after) => properties.with_expiration(after.as_millis().to_string().into()),
            None => properties,
        }
    }

    /// `None`: not a message of ours.
    pub(crate) fn read(delivery: &mut Delivery) -> Option<Message> {
        let properties = &delivery.properties;
        let id = properties.message_id().as_ref()?.as_str().parse().ok()?;
        let kind = properties.kind().as_ref()?.as_str().to_owned();
        let about = properties.headers().as_ref()?.inner().get("about")?.as_long_string()?;
        let about = std::str::from_utf8(about.as_bytes()).ok()?.to_owned();
        let body = std::mem::take(&mut delivery.data);
        Some(Message { id, kind, about, body, expires: None })
    }
}

/// Why a message is not in the broker, or may not be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotPublished {
    #[error("the broker is away")]
    Away,
    #[error("the broker takes no messages for now")]
    Blocked,
    /// There is no room in the queue.
    #[error("the broker refused the message")]
    Refused,
    #[error("there is no such queue")]
    NoQueue,
    /// Perhaps it is there: what is done instead must bear that.
    #[error("the broker has not confirmed the message: {0}")]
    Unconfirmed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let message = Message {
            id: Uuid::now_v7(),
            kind: "generic".into(),
            about: "{\"a\":\"ü\"}".into(),
            body: vec![0, 255],
            expires: None,
        };
        let mut delivery = Delivery::mock(1, "".into(), "".into(), false, message.body.clone());
        delivery.properties = message.properties();
        assert_eq!(*delivery.properties.delivery_mode(), Some(2), "persistent");
        assert_eq!(Message::read(&mut delivery), Some(message));
        let mut foreign = Delivery::mock(1, "".into(), "".into(), false, b"hello".to_vec());
        assert_eq!(Message::read(&mut foreign), None);
        assert_eq!(foreign.data, b"hello", "it goes to the dead letters as it came");
    }
}
