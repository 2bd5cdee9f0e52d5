//! Messages with bodies of their own: what was confirmed arrives, whatever happens to the broker and to those who take it over.

use crate::scripted::eventually;
use queue::BrokerConfig;
use queue::messages::{
    Depth, Fate, Message, NotNow, NotPublished, Publisher, QueueSpec, Receive, Subscriber,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::{BrokerNode, TestBroker};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn config(broker: &TestBroker) -> BrokerConfig {
    BrokerConfig { prefix: broker.prefix.clone(), ..BrokerConfig::new(&broker.url) }
}

fn message(body: Vec<u8>) -> Message {
    Message { id: Uuid::now_v7(), kind: "note".into(), about: "{}".into(), body, expires: None }
}

fn letters() -> QueueSpec {
    QueueSpec::new("letters", 100).dead_letters("letters.dead")
}

async fn publisher(config: &BrokerConfig) -> Publisher {
    let publisher = Publisher::open(config, "test", "test", vec![letters()]);
    publisher.opened().await;
    publisher
}

/// Notes how often each message came, and how large the batches were.
#[derive(Clone, Default)]
struct Desk {
    came: Arc<Mutex<BTreeMap<Uuid, usize>>>,
    batches: Arc<Mutex<Vec<usize>>>,
    /// So many times nothing can be taken.
    shut: Arc<AtomicUsize>,
}

impl Desk {
    fn ids(&self) -> Vec<Uuid> {
        self.came.lock().unwrap().keys().copied().collect()
    }
}

impl Receive for Desk {
    async fn receive(&self, batch: &[Message]) -> Result<Vec<Fate>, NotNow> {
        let shut = self.shut.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        if shut.is_ok() {
            return Err(NotNow(anyhow::anyhow!("the desk is shut")));
        }
        self.batches.lock().unwrap().push(batch.len());
        let mut came = self.came.lock().unwrap();
        batch.iter().for_each(|message| *came.entry(message.id).or_default() += 1);
        Ok(batch
            .iter()
            .map(|message| if message.body == b"bad" { Fate::Dead } else { Fate::Taken("kept") })
            .collect())
    }
}

struct Office {
    desk: Desk,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Office {
    fn open(config: &BrokerConfig) -> Office {
        let (desk, stop) = (Desk::default(), CancellationToken::new());
        let subscriber = Subscriber::new(config, "test", "test");
        let task = tokio::spawn({
            let (desk, stop) = (desk.clone(), stop.clone());
            async move {
                subscriber.run(&letters(), &desk, &stop).await;
                subscriber.close().await;
            }
        });
        Office { desk, stop, task }
    }

    async fn until(&self, expected: &[Uuid]) {
        let mut expected = expected.to_vec();
        expected.sort();
        let begun = Instant::now();
        eventually("all messages", || async {
            let came = self.desk.ids();
            assert!(begun.elapsed() < Duration::from_secs(19), "{} of {}", came.len(), expected.len());
            (came == expected).then_some(())
        })
        .await;
    }

    async fn close(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn publish_all(publisher: &Publisher, bodies: impl Iterator<Item = Vec<u8>>) -> Vec<Uuid> {
    let messages: Vec<_> = bodies.map(message).collect();
    let all = messages.iter().map(|message| publisher.publish("letters", message));
    for published in futures::future::join_all(all).await {
        published.unwrap();
    }
    messages.iter().map(|message| message.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_outlives_the_broker_and_arrives() {
    let Some(node) = BrokerNode::start().await else { return };
    let config = config(&node.names());
    let publisher = publisher(&config).await;
    // Blocked: the first may wait for its confirmation, those after it are told at once.
    node.memory_alarm(true).await;
    eventually("a refusal", || async {
        let refused = publisher.publish("letters", &message(b"x".to_vec())).await;
        matches!(refused, Err(NotPublished::Blocked | NotPublished::Away)).then_some(())
    })
    .await;
    node.memory_alarm(false).await;
    publisher.opened().await;
    let office = Office::open(&config);
    let last = message(b"first".to_vec());
    eventually("room", || async { publisher.publish("letters", &last).await.ok() }).await;
    eventually("its arrival", || async { office.desk.ids().contains(&last.id).then_some(()) }).await;
    office.close().await;

    let large = vec![7; 3 << 20];
    let bodies = (0..300u32).map(|n| n.to_be_bytes().to_vec()).chain([large]);
    let ids = publish_all(&publisher, bodies).await;

    // While it is gone, nobody who wants to publish waits.
    node.kill().await;
    eventually("the broker to be away", || async { (!publisher.is_open()).then_some(()) }).await;
    let asked = Instant::now();
    let refused = publisher.publish("letters", &message(b"x".to_vec())).await;
    assert!(matches!(refused, Err(NotPublished::Away)), "{refused:?}");
    assert!(asked.elapsed() < Duration::from_millis(500));
    node.start_again().await;

    let office = Office::open(&config);
    office.until(&ids).await;
    let batches = office.desk.batches.lock().unwrap().clone();
    assert!(batches.len() < 100, "{batches:?}");
    publisher.opened().await;
    let more = publish_all(&publisher, std::iter::once(b"again".to_vec())).await;
    office.until(&[ids, more].concat()).await;

    office.close().await;
    publisher.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_taken_is_held_and_what_never_can_is_kept_apart() {
    let Some(broker) = testkit::broker().await else { return };
    let config = config(&broker);
    let publisher = publisher(&config).await;
    let office = Office::open(&config);
    office.desk.shut.store(4, Ordering::Release);
    let bodies = ["one", "two", "bad", "three", "bad"];
    let ids = publish_all(&publisher, bodies.iter().map(|body| body.as_bytes().to_vec())).await;
    office.until(&ids).await;
    let depth = Depth::of(&config);
    eventually("dead letters", || async {
        let dead = depth.messages("letters.dead").await.unwrap();
        (dead == Some(2) && depth.messages("letters").await.unwrap() == Some(0)).then_some(())
    })
    .await;
    assert_eq!(depth.messages("nosuch").await, Ok(None));
    let came = office.desk.came.lock().unwrap().clone();
    assert!(came.values().all(|times| *times == 1), "taken once when nothing fails: {came:?}");
    depth.close().await;
    office.close().await;
    publisher.close().await;
}

/// Killed between the taking and the acknowledgement: the same messages come again, and only those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_taken_and_not_acknowledged_comes_again() {
    let Some(broker) = testkit::broker().await else { return };
    let config = config(&broker);
    let publisher = publisher(&config).await;
    let ids = publish_all(&publisher, (0..10u8).map(|n| vec![n])).await;

    struct Dies(Arc<tokio::sync::Notify>);
    impl Receive for Dies {
        async fn receive(&self, _: &[Message]) -> Result<Vec<Fate>, NotNow> {
            self.0.notify_one();
            std::future::pending().await
        }
    }
    let taken = Arc::new(tokio::sync::Notify::new());
    let dies = tokio::spawn({
        let (subscriber, dies) = (Subscriber::new(&config, "dies", "test"), Dies(taken.clone()));
        async move { subscriber.run(&letters(), &dies, &CancellationToken::new()).await }
    });
    taken.notified().await;
    dies.abort();
    let office = Office::open(&config);
    office.until(&ids).await;
    office.close().await;
    publisher.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_and_says_so() {
    let Some(broker) = testkit::broker().await else { return };
    let config = config(&broker);
    let spec = QueueSpec::new("letters", 100).at_most(5, 1 << 20);
    let publisher = Publisher::open(&config, "test", "test", vec![spec]);
    publisher.opened().await;
    // The limit is soft by some messages.
    let mut refused = 0;
    for n in 0..50u8 {
        match publisher.publish("letters", &message(vec![n])).await {
            Ok(()) => {}
            Err(NotPublished::Refused) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused >= 30, "{refused}");
    publisher.close().await;
}

/// Whoever takes a batch waits for an answer that never comes, as on a connection whose other end has vanished.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_try_that_never_ends_is_given_up_and_the_end_does_not_wait_for_it() {
    let Some(broker) = testkit::broker().await else { return };
    let config = config(&broker);
    let publisher = publisher(&config).await;

    /// Answers the second time, and the first message after that never.
    #[derive(Clone, Default)]
    struct Deaf(Arc<AtomicUsize>);
    impl Receive for Deaf {
        async fn receive(&self, batch: &[Message]) -> Result<Vec<Fate>, NotNow> {
            if self.0.fetch_add(1, Ordering::AcqRel) != 1 {
                return std::future::pending().await;
            }
            Ok(vec![Fate::Taken("kept"); batch.len()])
        }
    }
    let (deaf, stop) = (Deaf::default(), CancellationToken::new());
    let task = tokio::spawn({
        let subscriber = Subscriber::new(&config, "deaf", "test").patience(SOON, Duration::MAX);
        let (deaf, stop) = (deaf.clone(), stop.clone());
        async move { subscriber.run(&letters(), &deaf, &stop).await }
    });
    publish_all(&publisher, std::iter::once(vec![1])).await;
    eventually("a second try", || async { (deaf.0.load(Ordering::Acquire) == 2).then_some(()) }).await;
    publish_all(&publisher, std::iter::once(vec![2])).await;
    eventually("another batch", || async { (deaf.0.load(Ordering::Acquire) > 2).then_some(()) }).await;
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(10), task).await.expect("an end").unwrap();
    publisher.close().await;
}

const SOON: Duration = Duration::from_millis(200);

/// Nothing can be taken for long: the batch is given back once, not again and again until it is dead, and others may take it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_too_long_is_given_back_and_not_consumed_before_it_can_be_taken() {
    let Some(broker) = testkit::broker().await else { return };
    let config = config(&broker);
    let publisher = publisher(&config).await;
    let (desk, stop) = (Desk::default(), CancellationToken::new());
    desk.shut.store(usize::MAX, Ordering::Release);
    let task = tokio::spawn({
        let subscriber = Subscriber::new(&config, "shut", "test").patience(SOON, Duration::ZERO);
        let (desk, stop) = (desk.clone(), stop.clone());
        async move { subscriber.run(&letters(), &desk, &stop).await }
    });
    let ids = publish_all(&publisher, [vec![1], vec![2]].into_iter()).await;
    let depth = Depth::of(&config);
    eventually("both in the queue again", || async {
        let tries = usize::MAX - desk.shut.load(Ordering::Acquire);
        (tries > 3 && depth.messages("letters").await.unwrap() == Some(2)).then_some(())
    })
    .await;
    // One that can takes them meanwhile.
    let office = Office::open(&config);
    office.until(&ids).await;
    office.close().await;
    // The first takes its copies, which the receiver would know again, and consumes as before.
    desk.shut.store(0, Ordering::Release);
    let more = publish_all(&publisher, std::iter::once(vec![3])).await;
    eventually("what came later", || async { desk.ids().contains(&more[0]).then_some(()) }).await;
    stop.cancel();
    task.await.unwrap();
    assert_eq!(depth.messages("letters.dead").await, Ok(Some(0)));
    depth.close().await;
    publisher.close().await;
}
