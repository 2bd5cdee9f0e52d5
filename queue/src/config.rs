//! How an engine is set up.

use crate::{Bell, Clock, Keep, KeyRing, Transport};
use std::fmt;
use std::time::Duration;

/// A lane that this process works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneConfig {
    pub name: String,
    /// Jobs of the lane that run at once in this process.
    pub concurrency: usize,
    pub transport: Transport,
    /// Jobs of the lane that run at once in all processes together.
    pub at_once: Option<u32>,
}

impl LaneConfig {
    pub fn new(name: impl Into<String>, concurrency: usize) -> Self {
        LaneConfig {
            name: name.into(),
            concurrency: concurrency.max(1),
            at_once: None,
            transport: Transport::Postgres,
        }
    }

    /// At most so many at once in all processes together, whatever `concurrency` each of them has.
    #[must_use]
    pub fn at_once(mut self, jobs: u32) -> Self {
        self.at_once = Some(jobs);
        self
    }

    /// Its jobs come through the broker. Without [`EngineConfig::broker`] it stays on Postgres.
    #[must_use]
    pub fn on(mut self, transport: Transport) -> Self {
        self.transport = transport;
        self
    }
}

/// Where RabbitMQ is.
#[derive(Clone)]
pub struct BrokerConfig {
    /// `amqp://user:password@host[:port]/vhost[?heartbeat=10]`, or `amqps:` for TLS. A host without a path is the vhost `/`.
    pub url: String,
    /// All names in the broker begin with it: installations that share a vhost do not meet.
    pub prefix: String,
    /// A message that was published so long before one that has arrived is taken for lost, and published again. Longer than a batch
    /// may take to be confirmed (5 s).
    pub republish_after: Duration,
    /// Of the connections, unless the URL says something else. Half-open ones are noticed after twice this time.
    pub heartbeat: Duration,
}

impl BrokerConfig {
    pub fn new(url: impl Into<String>) -> Self {
        BrokerConfig {
            url: url.into(),
            prefix: "relaydesk".to_owned(),
            republish_after: Duration::from_secs(15),
            heartbeat: Duration::from_secs(10),
        }
    }
}

/// Without the password.
impl fmt::Debug for BrokerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.rsplit('@').next().unwrap_or_default();
        f.debug_struct("BrokerConfig")
            .field("host", &host)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// What people see as the worker's name (host, pod). Never an identity: that is a fresh UUID.
    pub name: String,
    pub lanes: Vec<LaneConfig>,
    /// For lanes on RabbitMQ.
    pub broker: Option<BrokerConfig>,
    /// Wakes these workers at once when it rings in this process.
    pub bell: Option<Bell>,
    /// A worker that was not heard of for so long has lost what it claimed.
    pub lease: Duration,
    /// How often a worker says that it lives; well below `lease`.
    pub beat: Duration,
    /// How often the leader looks for lost workers.
    pub sweep: Duration,
    /// How often waiting work is looked for when no notification arrives (± 25 %).
    pub poll: Duration,
    /// How long leadership lasts without renewal.
    pub leader_lease: Duration,
    /// Claims that may end with a lost worker before the job is taken for poison.
    pub crash_limit: i16,
    /// After a cancellation was asked for, how long a handler may go on before it is dropped.
    pub cancel_grace: Duration,
    /// How long a job whose arguments this process cannot read (a newer version, a key that it does not have) is left to others before it
    /// looks again.
    pub give_back: Duration,
    /// What opens encrypted arguments; without them, the keys of the process ([`KeyRing::install`]).
    pub keys: Option<KeyRing>,
    /// How long finished jobs stay visible, and dead letters wait for somebody. Whoever leads prunes by its own.
    pub keep: Keep,
    /// A transaction (or replication slot) that holds back vacuum for so long is told in the log.
    pub xmin_alarm: Duration,
    /// False: never leads (schedules, rescue, pruning are left to other processes).
    pub may_lead: bool,
    /// By which due times are judged: tests travel in time with it.
    pub clock: Clock,
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            name: "worker".to_owned(),
            lanes: Vec::new(),
            broker: None,
            bell: None,
            lease: Duration::from_secs(15),
            beat: Duration::from_secs(3),
            sweep: Duration::from_secs(2),
            poll: Duration::from_secs(1),
            leader_lease: Duration::from_secs(4),
            crash_limit: 5,
            cancel_grace: Duration::from_secs(5),
            give_back: Duration::from_secs(10),
            keys: None,
            keep: Keep::default(),
            xmin_alarm: Duration::from_secs(240),
            may_lead: true,
            clock: Clock::new(),
        }
    }
}
