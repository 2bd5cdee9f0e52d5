//! Messages that remote workers are to send.

use crate::world::World;
use domain::ChannelKind;
use queue::BrokerConfig;
use queue::remote::Remote;
use serde_json::json;
use store::deliveries::Status;
use testkit::sinks::HttpSink;

#[tokio::test]
async fn what_no_remote_worker_has_begun_is_no_attempt() {
    let (mut world, sink) = (World::open().await, HttpSink::start().await);
    // Nobody listens there.
    let broker = BrokerConfig::new(format!("amqp://nobody@127.0.0.1:{}", testkit::free_port()));
    let keys = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".parse().unwrap();
    let remote = Remote::start(&broker, "test", keys, ["outbound".to_owned()].into());
    world.shared.remote = Some(remote.clone());
    let channel =
        world.channel(ChannelKind::Slack, json!({"webhook_url": sink.url("/services/T/B/x")})).await;
    world.rule("incident.opened", channel, json!({})).await;
    world.incident("Far away").await;
    world.drain_once().await.unwrap();

    let delivery = world.delivery().await;
    assert_eq!((delivery.status, delivery.attempts), (Status::Pending, 0));
    assert!(delivery.next_attempt_at.is_some());
    let why = delivery.last_error.unwrap();
    assert!(why.contains("no remote worker can be asked"), "{why}");

    // The lane is worked here again.
    world.shared.remote = None;
    world.drain_all().await.unwrap();
    let delivery = world.delivery().await;
    assert_eq!((delivery.status, delivery.attempts, delivery.last_error), (Status::Sent, 1, None));
    assert_eq!(sink.requests().len(), 1);
    remote.close().await;
}
