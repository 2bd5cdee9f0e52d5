//! Peers with limits, peers that are away: what a channel has found out, all its messages know.

use crate::world::World;
use domain::{ChannelId, ChannelKind};
use serde_json::json;
use store::deliveries::Status;
use testkit::sinks::{Answer, HttpSink};

async fn slack(world: &World, url: String) -> ChannelId {
    let channel = world.channel(ChannelKind::Slack, json!({"webhook_url": url})).await;
    world.rule("incident.opened", channel, json!({})).await;
    channel
}

#[tokio::test]
async fn a_burst_at_a_peer_that_takes_one_a_second_arrives_in_full() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    slack(&world, sink.url("/one-a-second")).await;
    sink.script([Answer::status(200).body("ok")]);
    sink.otherwise(Answer::status(429).header("retry-after", 1).body("slow down"));
    for n in 0..20 {
        world.incident(&format!("Nr. {n}")).await;
    }
    // All at once: one is taken, the others are told to slow down, and cost nothing by that.
    world.drain_once().await.unwrap();
    let after_burst = sink.requests().len();
    assert!(after_burst <= 20);
    sink.otherwise(Answer::status(200).body("ok"));
    world.drain_all().await.unwrap();

    let deliveries = world.deliveries().await;
    assert!(deliveries.iter().all(|delivery| delivery.status == Status::Sent));
    assert_eq!(sink.requests().len(), after_burst + 19, "the others did not try before their turn");
    let mut sent: Vec<_> = deliveries.iter().filter_map(|delivery| delivery.sent_at).collect();
    sent.sort();
    let gaps: Vec<_> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| gap.num_milliseconds() >= 1_000), "paced: {gaps:?}");
    let mut owner = world.test.owner().await;
    let burned: i64 = sqlx::query_scalar(
        "select count(*) from queue.history where kind = 'notify_channel' and attempt > 1",
    )
    .fetch_one(&mut owner)
    .await
    .unwrap();
    assert_eq!(burned, 0, "a wait costs no attempt");
}

#[tokio::test]
async fn a_wait_of_nothing_is_a_second_and_uses_up_nothing() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    slack(&world, sink.url("/nervous")).await;
    sink.script((0..15).map(|_| Answer::status(429).header("retry-after", 0)));
    world.incident("Patience").await;
    world.drain_once().await.unwrap();
    let delivery = world.delivery().await;
    let wait = delivery.next_attempt_at.unwrap() - delivery.last_attempt_at.unwrap();
    assert!(wait.num_milliseconds() >= 1_000, "{wait}");
    world.drain_all().await.unwrap();
    let delivery = world.delivery().await;
    assert_eq!((delivery.status, delivery.attempts), (Status::Sent, 16));
}

#[tokio::test]
async fn what_a_peer_puts_off_for_a_day_is_given_up() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    slack(&world, sink.url("/never")).await;
    sink.otherwise(Answer::status(503).header("retry-after", 3600).body("maintenance"));
    world.incident("Too late").await;
    assert!(world.drain_all().await.is_err(), "its job is a dead letter");
    let delivery = world.delivery().await;
    let hours = (delivery.updated_at - delivery.created_at).num_hours();
    assert_eq!((delivery.status, delivery.last_status), (Status::GivenUp, Some(503)));
    assert!((22..=24).contains(&hours), "{hours}");
    assert!((20..=25).contains(&delivery.attempts), "{}", delivery.attempts);
}

#[tokio::test]
async fn a_429_without_a_time_follows_the_usual_backoff() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    slack(&world, sink.url("/curt")).await;
    sink.script([
        Answer::status(429),
        Answer::status(429).header("retry-after", "soon"),
        Answer::status(429),
    ]);
    world.incident("Curt").await;
    let mut waits = Vec::new();
    for _ in 0..3 {
        world.drain_once().await.unwrap();
        let delivery = world.delivery().await;
        let wait = delivery.next_attempt_at.unwrap() - delivery.last_attempt_at.unwrap();
        waits.push(wait.as_seconds_f64());
        world.pass(wait).await;
    }
    for (wait, least) in waits.iter().zip([1.0, 2.0, 4.0]) {
        assert!((least..least * 1.25 + 1.0).contains(wait), "{waits:?}");
    }
    world.drain_all().await.unwrap();
    assert_eq!(world.delivery().await.status, Status::Sent);
}

#[tokio::test]
async fn a_channel_that_is_away_is_tried_now_and_then_and_the_others_do_not_notice() {
    let (world, gone, there) = (World::open().await, HttpSink::start().await, HttpSink::start().await);
    let address = gone.address();
    let channel = slack(&world, gone.url("/gone")).await;
    drop(gone);
    for n in 0..8 {
        world.incident(&format!("Nr. {n}")).await;
    }
    world.drain_once().await.unwrap();
    let mut tx = world.begin().await;
    let gate = store::channel_gates::find(&mut tx, channel).await.unwrap().unwrap();
    assert!(gate.is_resting() && gate.failing_since.is_some(), "{gate:?}");
    tx.rollback().await.unwrap();
    // It rests for ten seconds, which may be over before a slow machine has come to the next line.
    sqlx::query(
        "update channel_gates set not_before = not_before + interval '10 minutes' where channel_id = $1",
    )
    .bind(channel.0)
    .execute(&mut world.test.owner().await)
    .await
    .unwrap();

    // Nothing of what follows opens a connection there; what goes elsewhere goes at once.
    slack(&world, there.url("/there")).await;
    for n in 8..12 {
        world.incident(&format!("Nr. {n}")).await;
    }
    world.drain_once().await.unwrap();
    let of = |channel: ChannelId, all: Vec<store::deliveries::Delivery>| {
        all.into_iter().filter(move |delivery| delivery.channel_id == Some(channel))
    };
    let untried: Vec<_> =
        of(channel, world.deliveries().await).filter(|delivery| delivery.attempts == 0).collect();
    assert_eq!((untried.len(), there.requests().len()), (4, 4));
    for delivery in &untried {
        assert_eq!((delivery.status, delivery.next_attempt_at.is_some()), (Status::Pending, true));
        let why = delivery.last_error.clone().unwrap();
        assert!(why.starts_with("the channel cannot be reached since"), "{why}");
    }

    // An hour later it is still away: one probe, not twelve calls, and nobody has given up.
    let attempts = |all: &[store::deliveries::Delivery]| all.iter().map(|d| d.attempts).sum::<i32>();
    let before = attempts(&world.deliveries().await);
    world.pass(chrono::TimeDelta::hours(1)).await;
    world.drain_once().await.unwrap();
    let all = world.deliveries().await;
    assert_eq!(attempts(&all) - before, 1, "one probe");
    assert!(all.iter().all(|delivery| delivery.status != Status::GivenUp));

    // It is back: the next probe opens the gate for all.
    let back = HttpSink::start_at(address).await;
    world.drain_all().await.unwrap();
    assert!(world.deliveries().await.iter().all(|delivery| delivery.status == Status::Sent));
    assert_eq!(back.requests().len(), 12);
}

#[tokio::test]
async fn a_channel_that_leads_elsewhere_now_is_tried_at_once() {
    let (world, gone) = (World::open().await, HttpSink::start().await);
    let channel = slack(&world, gone.url("/gone")).await;
    drop(gone);
    for n in 0..6 {
        world.incident(&format!("Nr. {n}")).await;
    }
    world.drain_once().await.unwrap();
    let sink = HttpSink::start().await;
    let mut tx = world.begin().await;
    let change = actions::channels::ChannelChange {
        config: Some(json!({"webhook_url": sink.url("/here")})),
        ..Default::default()
    };
    let (admin, ring) = (&world.organization.admin, &world.shared.secrets);
    actions::channels::update(&mut tx, admin, ring, channel, None, change).await.unwrap();
    tx.commit().await.unwrap();
    world.incident("First at the new place").await;
    world.drain_once().await.unwrap();
    assert_eq!(sink.requests().len(), 1);
}

#[tokio::test]
async fn a_long_answer_to_a_webhook_does_not_undo_the_message() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    slack(&world, sink.url("/chatty")).await;
    sink.otherwise(Answer::status(200).body("x".repeat(2 * 1024 * 1024)));
    world.incident("Chatty").await;
    world.drain_once().await.unwrap();
    let delivery = world.delivery().await;
    assert_eq!((delivery.status, delivery.last_status), (Status::Sent, Some(200)));
}
