//! What carries a lane's jobs to its workers. The row in `queue.jobs` is the truth on every transport; a message only says
//! that there may be something to claim.
//!
//! On RabbitMQ: the [`relay::Relay`] marks ready rows as published and publishes a message for each, the
//! [`consumer::Consumer`] claims what messages name and acknowledges them after the claim is committed. A message that got lost
//! is published again by the relay's sweep; one that comes twice finds nothing to claim. docs/adr/0013 says why so.

pub(crate) mod consumer;
pub(crate) mod link;
mod message;
mod outbox;
pub(crate) mod relay;
mod topology;

use serde::Serialize;
use std::sync::atomic::{AtomicI64, Ordering};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    #[default]
    Postgres,
    Rabbitmq,
}

impl Transport {
    pub fn as_str(self) -> &'static str {
        match self {
            Transport::Postgres => "postgres",
            Transport::Rabbitmq => "rabbitmq",
        }
    }
}

impl std::str::FromStr for Transport {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Transport::Postgres, Transport::Rabbitmq].into_iter().find(|known| known.as_str() == text).ok_or(())
    }
}

/// When the newest message that this process got from a lane was published, in microseconds. The queue is first in, first out:
/// what was published well before and is not claimed was lost.
#[derive(Debug, Default)]
pub(crate) struct Head(AtomicI64);

impl Head {
    pub fn saw(&self, published: i64) {
        self.0.fetch_max(published, Ordering::AcqRel);
    }

    pub fn published(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }
}
