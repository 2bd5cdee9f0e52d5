//! Webhooks and the jobs that serve them: what is no attempt, what the sweep finds, long replays, owners who leave.

use crate::world::World;
use actions::jobs::{ReplayWebhook, Sweep};
use actions::removals;
use actions::webhooks::{self, WebhookChange};
use chrono::TimeDelta;
use domain::{Actor, Rights, Role, UserId, WebhookOff, WebhookStatus};
use queue::remote::Remote;
use queue::{BrokerConfig, KeyRing, NewJob};
use serde_json::json;
use store::webhook_deliveries::{self as deliveries, WebhookDelivery};
use testkit::sinks::{Answer, HttpSink};

impl World {
    async fn attempts_of(&self, delivery: &WebhookDelivery) -> usize {
        deliveries::attempts(&mut self.begin().await, delivery.id, &deliveries::ATTEMPTS.all(100))
            .await
            .unwrap()
            .len()
    }

    async fn sweep(&self) {
        let mut tx = self.begin().await;
        queue::enqueue(&mut tx, &[NewJob::of(&Sweep {})]).await.unwrap();
        tx.commit().await.unwrap();
        self.drain_once().await.unwrap();
    }
}

/// The event of a receiver that is well is neither tried nor held against it for as long as `broken`, and arrives once mended.
async fn is_no_attempt(mut world: World, sink: HttpSink, ring: KeyRing, why: &str) {
    let admin = world.organization.admin.clone();
    let (webhook, _) = world.webhook_of(&admin, &sink.url("/"), &["incident.opened"]).await;
    let whole = std::mem::replace(&mut world.shared.secrets, ring);
    world.incident("waits").await;
    // More often than there are attempts, for longer than a webhook may fail.
    for _ in 0..25 {
        world.drain_once().await.unwrap();
        let delivery = world.told().await.remove(0);
        assert_eq!((delivery.status, delivery.attempts), (WebhookStatus::Pending, 0), "{delivery:?}");
        assert!(delivery.next_attempt_at.is_some() && delivery.last_attempt_at.is_none(), "{delivery:?}");
        assert!(delivery.last_error.as_ref().unwrap().contains(why), "{delivery:?}");
        assert_eq!(world.attempts_of(&delivery).await, 0);
        world.pass(TimeDelta::hours(4)).await;
    }
    let now = world.now_is(webhook).await;
    assert!(now.is_active && now.failures == 0 && now.failing_since.is_none(), "{now:?}");
    assert!(sink.requests().is_empty());

    world.shared.secrets = whole;
    world.shared.remote = None;
    world.drain_once().await.unwrap();
    let delivery = world.told().await.remove(0);
    assert_eq!((delivery.status, delivery.attempts), (WebhookStatus::Delivered, 1), "{delivery:?}");
    assert_eq!((world.attempts_of(&delivery).await, sink.requests().len()), (1, 1));
    assert!(delivery.last_error.is_none());
}

#[tokio::test]
async fn a_secret_whose_key_is_missing_for_a_while_costs_no_attempt() {
    let other = "other:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".parse().unwrap();
    is_no_attempt(World::open().await, HttpSink::start().await, other, "cannot be opened").await;
}

#[tokio::test]
async fn what_no_remote_worker_takes_costs_no_attempt() {
    let mut world = World::open().await;
    // Nobody listens there.
    let broker = BrokerConfig::new(format!("amqp://nobody@127.0.0.1:{}", testkit::free_port()));
    let keys: KeyRing = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".parse().unwrap();
    let remote = Remote::start(&broker, "test", keys, ["outbound".to_owned()].into());
    world.shared.remote = Some(remote.clone());
    let same = world.shared.secrets.clone();
    is_no_attempt(world, HttpSink::start().await, same, "no remote worker can be asked").await;
    remote.close().await;
}

#[tokio::test]
async fn a_job_that_merely_waits_is_not_lost() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    world.webhook(&sink.url("/"), &["incident.opened"]).await;
    sink.script([Answer::status(500)]);
    world.incident("in a long line").await;
    world.drain_once().await.unwrap();
    let before = world.told().await.remove(0);
    // Its time came long ago, but nobody got round to it.
    let mut owner = world.test.owner().await;
    sqlx::query("update webhook_deliveries set updated_at = updated_at - interval '1 day', next_attempt_at = next_attempt_at - interval '1 day'")
        .execute(&mut owner)
        .await
        .unwrap();
    world.sweep().await;
    let after = world.told().await.remove(0);
    assert_eq!((after.job, after.rescues), (before.job, 0));
    assert!(after.next_attempt_at < Some(before.created_at), "it is left as it is: {after:?}");
}

/// Its job has ended, but is still there for somebody to look at: it is not the one that will send it.
#[tokio::test]
async fn a_job_that_is_dead_is_replaced() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    world.webhook(&sink.url("/"), &["incident.opened"]).await;
    sink.script([Answer::status(500)]);
    world.incident("its job dies").await;
    world.drain_once().await.unwrap();
    let before = world.told().await.remove(0);
    assert_eq!((before.status, before.attempts), (WebhookStatus::Pending, 1));
    // What it cannot read, it is dead of at once.
    let mut owner = world.test.owner().await;
    let args = "update queue.jobs set args = '{\"nonsense\": true}' where id = $1";
    let broken = sqlx::query(args).bind(before.job).execute(&mut owner).await.unwrap();
    assert_eq!(broken.rows_affected(), 1);
    world.pass(TimeDelta::hours(1)).await;
    // Who drains is told of jobs that die.
    drop(world.drain_once().await);
    let state = "select state::text from queue.jobs where id = $1";
    let dead: String = sqlx::query_scalar(state).bind(before.job).fetch_one(&mut owner).await.unwrap();
    let between = world.told().await.remove(0);
    assert_eq!((dead.as_str(), between.status, between.attempts), ("dead", WebhookStatus::Pending, 1));

    world.sweep().await;
    world.drain_once().await.unwrap();
    let after = world.told().await.remove(0);
    assert_eq!((after.status, after.attempts, after.rescues), (WebhookStatus::Delivered, 2, 1), "{after:?}");
    assert_ne!(after.job, before.job);
    assert_eq!(sink.requests().len(), 2);
    // The dead one is left for people.
    let dead: String = sqlx::query_scalar(state).bind(before.job).fetch_one(&mut owner).await.unwrap();
    assert_eq!(dead, "dead");
}

#[tokio::test]
async fn a_piece_of_a_replay_that_comes_twice_is_sent_once() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    world.incident("before it was there").await;
    world.drain().await.unwrap();
    let (webhook, _) = world.webhook(&sink.url("/"), &["incident.opened"]).await;
    let mut tx = world.begin().await;
    let (until, since) = (tx.now(), tx.now() - TimeDelta::hours(1));
    let asked = ReplayWebhook {
        webhook,
        since,
        until,
        asked_at: until,
        even_delivered: true,
        after: None,
        replayed: 0,
    };
    assert_eq!(webhooks::replay_some(&mut tx, &asked).await.unwrap().0, 1);
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    assert_eq!(world.told().await[0].status, WebhookStatus::Delivered);
    // The run that asked for it ended before it said so.
    let mut tx = world.begin().await;
    assert_eq!(webhooks::replay_some(&mut tx, &asked).await.unwrap().0, 0);
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    assert_eq!(sink.requests().len(), 1);
}

#[tokio::test]
async fn a_long_replay_goes_on_in_another_job() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    world.incident("at the beginning").await;
    // More than a run looks at.
    sqlx::query(
        "insert into events (id, organization_id, kind, actor_kind, created_at)
         select gen_random_uuid(), $1, 'user.updated', 'system', now() from generate_series(1, 2100)",
    )
    .bind(world.organization.id.0)
    .execute(&mut world.test.owner().await)
    .await
    .unwrap();
    world.incident("at the end").await;
    world.drain().await.unwrap();
    let (webhook, _) = world.webhook(&sink.url("/"), &["incident.opened"]).await;
    let mut tx = world.begin().await;
    let since = tx.now() - TimeDelta::hours(1);
    webhooks::replay_time(&mut tx, &world.organization.admin, webhook, since, None, true).await.unwrap();
    tx.commit().await.unwrap();
    world.drain().await.unwrap();
    let mut titles: Vec<String> = sink
        .requests()
        .iter()
        .map(|request| request.json()["data"]["payload"]["title"].as_str().unwrap().to_owned())
        .collect();
    titles.sort();
    assert_eq!(titles, ["at the beginning", "at the end"]);
    let runs: i64 = sqlx::query_scalar("select count(*) from queue.history where kind = 'replay_webhook'")
        .fetch_one(&mut world.test.owner().await)
        .await
        .unwrap();
    assert_eq!(runs, 2);
}

#[tokio::test]
async fn whose_owner_is_deleted_is_off_and_says_so() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    let (admin, id) = (world.organization.admin.clone(), UserId::new());
    sqlx::query("insert into users (id, organization_id, email, name, role) values ($1, $2, 'grace@acme.example', 'Grace', 'admin')")
        .bind(id.0)
        .bind(world.organization.id.0)
        .execute(&mut world.test.owner().await)
        .await
        .unwrap();
    let grace = Actor::user(world.organization.id, id, "Grace", Rights::of_role(id, Role::Admin));
    let (hers, _) = world.webhook_of(&grace, &sink.url("/hers"), &["incident.opened"]).await;
    let (other, _) = world.webhook(&sink.url("/other"), &["incident.opened"]).await;
    let mut tx = world.begin().await;
    let person = removals::lock(&mut tx, id).await.unwrap();
    removals::delete(&mut tx, &admin, person).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(world.now_is(hers).await.disabled.unwrap().1, WebhookOff::OwnerDeleted);
    let said = world.recorded("webhook.disabled").await;
    assert_eq!(
        (said.len(), &said[0]["reason"], &said[0]["webhook"]),
        (1, &json!("owner_deleted"), &json!(hers))
    );
    world.incident("who hears?").await;
    world.drain().await.unwrap();
    let paths = || sink.requests().iter().map(|request| request.uri.path().to_owned()).collect::<Vec<_>>();
    assert_eq!(paths(), ["/other"]);
    assert!(world.now_is(other).await.is_active);

    // Nobody switches it on for somebody who is not there; whoever says what it is told has it from then on.
    let on = || WebhookChange { is_active: Some(true), ..Default::default() };
    let refused = webhooks::update(&mut world.begin().await, &admin, None, hers, None, on()).await;
    assert!(refused.unwrap_err().to_string().contains("its owner is deleted"));
    // Their return does not switch it on; they do.
    let mut tx = world.begin().await;
    let person = removals::lock(&mut tx, id).await.unwrap();
    removals::restore(&mut tx, &admin, person).await.unwrap();
    assert!(!store::webhooks::get(&mut tx, hers).await.unwrap().is_active);
    assert!(webhooks::update(&mut tx, &admin, None, hers, None, on()).await.unwrap().is_active);
    tx.commit().await.unwrap();
}
