//! One RabbitMQ per test process, with names of its own for each test; and brokers of one test's own, for faults.

use crate::database::PREFIX;
use embedded::{Broker, BrokerOptions, BrokerPrograms, find_broker, sweep_leftovers};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use tokio::task::spawn_blocking;

/// Where the broker is, and what this test's names begin with.
#[derive(Clone, Debug)]
pub struct TestBroker {
    pub url: String,
    pub prefix: String,
}

impl TestBroker {
    fn at(url: &str) -> TestBroker {
        TestBroker { url: url.to_owned(), prefix: format!("t{}", uuid::Uuid::now_v7().simple()) }
    }
}

/// The broker of this test process. It is never stopped: it dies with the process, and the next run sweeps its folder.
///
/// `None` where there is no RabbitMQ and `RELAYDESK_TESTS_WITHOUT_BROKER` says that this is known: the test is to be left out.
///
/// # Panics
/// When there is none and nobody said so.
pub async fn broker() -> Option<TestBroker> {
    static BROKER: OnceLock<Option<Broker>> = OnceLock::new();
    let broker = spawn_blocking(|| BROKER.get_or_init(|| start(Vec::new()))).await.expect("it starts");
    broker.as_ref().map(|broker| TestBroker::at(broker.url()))
}

/// A broker that one test may stop, kill and wipe.
#[derive(Clone, Debug)]
pub struct BrokerNode {
    broker: Arc<Broker>,
}

impl BrokerNode {
    /// As [`broker`].
    ///
    /// # Panics
    /// As [`broker`].
    pub async fn start() -> Option<BrokerNode> {
        BrokerNode::start_with(Vec::new()).await
    }

    /// With more lines of `rabbitmq.conf`.
    ///
    /// # Panics
    /// As [`broker`].
    pub async fn start_with(settings: Vec<String>) -> Option<BrokerNode> {
        let broker = spawn_blocking(|| start(settings)).await.expect("it starts")?;
        Some(BrokerNode { broker: Arc::new(broker) })
    }

    pub fn names(&self) -> TestBroker {
        TestBroker::at(self.broker.url())
    }

    /// Ends it in order.
    pub async fn stop(&self) {
        self.tell(Broker::stop).await;
    }

    /// SIGKILL.
    pub async fn kill(&self) {
        self.tell(Broker::kill).await;
    }

    /// Deletes its data, while it does not run.
    pub async fn wipe(&self) {
        self.tell(Broker::wipe).await;
    }

    /// Where it was, with what it has kept.
    pub async fn start_again(&self) {
        self.tell(Broker::start_again).await;
    }

    /// While the alarm is on it takes no messages.
    pub async fn memory_alarm(&self, on: bool) {
        self.tell(move |broker| broker.memory_alarm(on)).await;
    }

    /// Nobody answers, and connections stay open, until [`BrokerNode::thaw`].
    pub async fn freeze(&self) {
        self.tell(|broker| broker.freeze(true)).await;
    }

    pub async fn thaw(&self) {
        self.tell(|broker| broker.freeze(false)).await;
    }

    async fn tell(&self, what: impl FnOnce(&Broker) -> Result<(), embedded::Error> + Send + 'static) {
        let broker = self.broker.clone();
        let done = spawn_blocking(move || what(&broker)).await.expect("no panic");
        done.unwrap_or_else(|error| panic!("the broker: {error}"));
    }
}

/// Whether [`broker`] would answer one: for tests that have much to prepare first.
///
/// # Panics
/// As [`broker`].
pub fn has_broker() -> bool {
    programs().is_some()
}

fn programs() -> Option<BrokerPrograms> {
    match find_broker() {
        Ok(programs) => Some(programs),
        Err(error) if std::env::var_os("RELAYDESK_TESTS_WITHOUT_BROKER").is_some() => {
            eprintln!("testkit: this test is left out: {error}");
            None
        }
        Err(error) => panic!("{error}; or set RELAYDESK_TESTS_WITHOUT_BROKER=1 to leave such tests out"),
    }
}

fn start(settings: Vec<String>) -> Option<Broker> {
    crate::install_crypto();
    let programs = programs()?;
    let parent = Path::new("/tmp");
    sweep_leftovers(parent, PREFIX);
    let dir = parent.join(format!("{PREFIX}{}-rabbit-{}", std::process::id(), uuid::Uuid::new_v4().simple()));
    let broker = Broker::start(BrokerOptions { dir, programs, settings });
    Some(broker.unwrap_or_else(|error| panic!("the tests need a RabbitMQ: {error}")))
}
