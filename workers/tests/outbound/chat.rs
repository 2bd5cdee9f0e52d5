use crate::world::World;
use domain::ChannelKind;
use queue::DrainError;
use serde_json::json;
use std::time::Duration;
use store::deliveries::Status;
use testkit::sinks::{Answer, HttpSink};

#[tokio::test]
async fn a_message_survives_429_and_500_and_arrives_once() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    let channel =
        world.channel(ChannelKind::Slack, json!({"webhook_url": sink.url("/services/T/B/x")})).await;
    world.rule("incident.opened", channel, json!({"priority": ["medium", "high"], "source": "api"})).await;
    world.rule("incident.opened", channel, json!({"priority": "critical"})).await;
    sink.script([
        Answer::status(429).header("retry-after", 1).body("slow down"),
        Answer::status(500).body("oops"),
        Answer::status(200).body("ok"),
    ]);
    let ticket = world.incident("Printer <!channel> & \"friends\"").await;
    world.drain_all().await.unwrap();

    let requests = sink.requests();
    assert_eq!(requests.iter().map(|r| r.answered.as_u16()).collect::<Vec<_>>(), [429, 500, 200]);
    let delivery = world.delivery().await;
    assert_eq!((delivery.status, delivery.attempts, delivery.last_status), (Status::Sent, 3, Some(200)));
    assert_eq!((delivery.ticket, delivery.last_error.as_deref()), (Some(ticket.id), None));
    assert_eq!(delivery.subject.as_deref(), Some("INC0000001 opened: Printer <!channel> & \"friends\""));
    for request in &requests {
        assert_eq!(request.header("idempotency-key"), Some(delivery.id.to_string().as_str()));
        assert_eq!(request.json(), requests[0].json());
        assert!(request.header("traceparent").is_some());
    }
    let text = requests[0].json()["text"].as_str().unwrap().to_owned();
    assert_eq!(text, "INC0000001 opened: Printer &lt;!channel&gt; &amp; \"friends\"");

    // The same cause again: nothing.
    let mut tx = world.begin().await;
    let again = queue::NewJob::of(&actions::jobs::React { event: delivery.event.unwrap() });
    queue::enqueue(&mut tx, &[again.organization(world.organization.id)]).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    assert_eq!((sink.requests().len(), world.deliveries().await.len()), (3, 1));
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    let channel =
        world.channel(ChannelKind::Teams, json!({"webhook_url": sink.url("/workflow?sig=1")})).await;
    world.rule("incident.opened", channel, json!({})).await;
    sink.script([Answer::status(429).header("retry-after", 300)]);
    world.incident("Slow").await;
    world.drain_once().await.unwrap();

    let delivery = world.delivery().await;
    let wait = delivery.next_attempt_at.unwrap() - delivery.last_attempt_at.unwrap();
    assert_eq!((delivery.status, delivery.last_status), (Status::Pending, Some(429)));
    assert!((300..303).contains(&wait.num_seconds()), "{wait}");
    assert!(delivery.last_error.unwrap().contains("429"));
    assert_eq!(sink.requests().len(), 1);
}

#[tokio::test]
async fn what_the_peer_refuses_is_given_up_with_the_reason_and_can_be_tried_again() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    let channel = world.channel(ChannelKind::Slack, json!({"webhook_url": sink.url("/gone")})).await;
    world.rule("incident.opened", channel, json!({})).await;
    sink.script([Answer::status(404).body("no_service")]);
    world.incident("Nobody hears").await;
    assert!(matches!(world.drain().await, Err(DrainError::Dead { kind, .. }) if kind == "notify_channel"));
    let delivery = world.delivery().await;
    assert_eq!((delivery.status, delivery.attempts, delivery.last_status), (Status::GivenUp, 1, Some(404)));
    assert_eq!(delivery.last_error.as_deref(), Some("answered 404: no_service"));

    let mut tx = world.begin().await;
    let agent = &world.organization.agent;
    assert!(actions::deliveries::retry(&mut tx, agent, delivery.id).await.is_err(), "agents may not");
    actions::deliveries::retry(&mut tx, &world.organization.admin, delivery.id).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    assert_eq!(world.delivery().await.status, Status::Sent);
    let mut tx = world.begin().await;
    assert!(
        actions::deliveries::retry(&mut tx, &world.organization.admin, delivery.id).await.is_err(),
        "sent already"
    );
}

#[tokio::test]
async fn a_bot_posts_to_its_channel_and_slacks_errors_are_understood() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    let config = json!({"bot_token": "xoxb-1", "channel": "#ops", "api_url": sink.url("/api")});
    let channel = world.channel(ChannelKind::Slack, config).await;
    world.rule("incident.opened", channel, json!({})).await;
    sink.script([
        Answer::status(200).header("retry-after", 1).json(&json!({"ok": false, "error": "ratelimited"})),
        Answer::status(200).json(&json!({"ok": true, "ts": "1.2"})),
        Answer::status(200).json(&json!({"ok": false, "error": "channel_not_found"})),
    ]);
    world.incident("One").await;
    world.drain_all().await.unwrap();
    let requests = sink.wait_for(2, Duration::from_secs(1)).await;
    assert_eq!(requests[1].uri.path(), "/api/chat.postMessage");
    assert_eq!(requests[1].header("authorization"), Some("Bearer xoxb-1"));
    let body = requests[1].json();
    assert_eq!(body["channel"], "#ops");
    assert_eq!(body["client_msg_id"], requests[0].json()["client_msg_id"]);

    world.incident("Two").await;
    assert!(world.drain_all().await.is_err());
    let given_up = world.deliveries().await.remove(0);
    assert_eq!(given_up.status, Status::GivenUp);
    assert!(given_up.last_error.unwrap().starts_with("slack says channel_not_found"));
}

#[tokio::test]
async fn teams_gets_an_adaptive_card_and_a_test_message_is_real() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    sink.otherwise(Answer::status(202));
    let channel =
        world.channel(ChannelKind::Teams, json!({"webhook_url": sink.url("/workflow?sig=1")})).await;
    let mut tx = world.begin().await;
    actions::channels::test(&mut tx, &world.organization.admin, channel).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    let body = sink.requests()[0].json();
    assert_eq!(body["type"], "message");
    assert_eq!(body["attachments"][0]["contentType"], "application/vnd.microsoft.card.adaptive");
    assert_eq!(body["attachments"][0]["content"]["type"], "AdaptiveCard");
    assert_eq!(world.delivery().await.message_kind, "test");
}

#[tokio::test]
async fn a_channel_that_leads_inside_is_refused() {
    let (world, sink) = (World::new(None, "").await, HttpSink::start().await);
    let channel = world.channel(ChannelKind::Slack, json!({"webhook_url": sink.url("/inside")})).await;
    world.rule("incident.opened", channel, json!({})).await;
    world.incident("Probe").await;
    assert!(world.drain().await.is_err());
    let delivery = world.delivery().await;
    assert_eq!(delivery.status, Status::GivenUp);
    assert!(delivery.last_error.unwrap().contains("loopback"));
    assert!(sink.requests().is_empty());
}

#[tokio::test]
async fn a_channel_that_was_deleted_meanwhile_gets_nothing() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    let channel = world.channel(ChannelKind::Slack, json!({"webhook_url": sink.url("/x")})).await;
    let mut tx = world.begin().await;
    actions::channels::test(&mut tx, &world.organization.admin, channel).await.unwrap();
    actions::channels::delete(&mut tx, &world.organization.admin, channel).await.unwrap();
    tx.commit().await.unwrap();
    assert!(world.drain().await.is_err());
    let delivery = world.delivery().await;
    assert_eq!(
        (delivery.status, delivery.last_error.as_deref()),
        (Status::GivenUp, Some("its channel was deleted"))
    );
    assert!(sink.requests().is_empty());
}
