//! Secrets of others (tokens and addresses of chats, headers of inventories): sealed in the database, and shown to those whose they are.

use crate::world::World;
use actions::channels::ChannelChange;
use actions::discovery::{self, DiscoveryFields};
use actions::seals::{Counted, left, lost, seal_all};
use chrono::TimeDelta;
use domain::cmdb::{InventoryFormat, RunMode, RunStatus};
use domain::{ChannelId, ChannelKind};
use queue::KeyRing;
use serde_json::json;
use store::deliveries::Status;
use store::discovery_sources::AuthHeader;
use testkit::sinks::{Answer, HttpSink};

const OLD: &str = "test:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const NEW: &str = "new:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn ring(keys: &[&str]) -> KeyRing {
    keys.join(",").parse().unwrap()
}

/// A chat that takes everything.
async fn chat() -> HttpSink {
    let sink = HttpSink::start().await;
    sink.otherwise(Answer::status(200).json(&json!({"ok": true})));
    sink
}

async fn try_out(world: &World, channel: ChannelId) {
    let mut tx = world.begin().await;
    actions::channels::test(&mut tx, &world.organization.admin, channel).await.unwrap();
    tx.commit().await.unwrap();
}

/// Where a secret stands, as text or as its bytes.
async fn tables_with(world: &World, secret: &str) -> Vec<String> {
    let mut owner = world.test.owner().await;
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where c.relkind in ('r', 'p') and n.nspname in ('public', 'queue', 'audit', 'search') order by 1",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    assert!(tables.len() > 50);
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut found = Vec::new();
    for table in tables {
        let sql = format!(
            "select exists (select from {table} t where position($1 in t::text) > 0 or position($2 in t::text) > 0)"
        );
        let sql = sqlx::AssertSqlSafe(sql);
        if sqlx::query_scalar(sql).bind(secret).bind(&hex).fetch_one(&mut owner).await.unwrap() {
            found.push(table);
        }
    }
    found
}

async fn key_of(world: &World, channel: ChannelId) -> Option<String> {
    let mut tx = world.begin().await;
    store::channels::get(&mut tx, channel).await.unwrap().sealed.map(|sealed| sealed.key_name)
}

#[tokio::test]
async fn a_chats_secret_lies_nowhere_and_arrives() {
    let (world, chat) = (World::open().await, chat().await);
    for (kind, config) in [
        (ChannelKind::Slack, json!({"webhook_url": chat.url("/services/T/B/s3cret-of-a-webhook")})),
        (
            ChannelKind::Slack,
            json!({"bot_token": "xoxb-s3cret-of-a-bot", "channel": "#ops", "api_url": chat.url("/api")}),
        ),
        (ChannelKind::Teams, json!({"webhook_url": chat.url("/workflow?sig=s3cret-of-a-team")})),
    ] {
        let channel = world.channel(kind, config).await;
        try_out(&world, channel).await;
        assert_eq!(key_of(&world, channel).await.as_deref(), Some("test"));
    }
    world.drain().await.unwrap();
    let requests = chat.requests();
    let mut told: Vec<_> = requests.iter().map(|request| request.uri.to_string()).collect();
    told.sort();
    assert_eq!(
        told,
        ["/api/chat.postMessage", "/services/T/B/s3cret-of-a-webhook", "/workflow?sig=s3cret-of-a-team"]
    );
    let bot = requests.iter().find(|request| request.uri.path().starts_with("/api")).unwrap();
    assert_eq!(bot.header("authorization"), Some("Bearer xoxb-s3cret-of-a-bot"));
    for secret in ["s3cret-of-a-webhook", "xoxb-s3cret-of-a-bot", "s3cret-of-a-team"] {
        assert_eq!(tables_with(&world, secret).await, Vec::<String>::new(), "{secret}");
    }
    assert!(world.deliveries().await.iter().all(|delivery| delivery.status == Status::Sent));
}

#[tokio::test]
async fn a_header_of_an_inventory_lies_nowhere_and_goes_along() {
    let (mut world, sink) = (World::open().await, HttpSink::start().await);
    sink.otherwise(Answer::status(200).json(&json!([{"name": "db1", "serial": "S1"}])));
    let fields = |name: &str, auth_header| DiscoveryFields {
        name: name.into(),
        format: InventoryFormat::Json,
        location: sink.url("/hosts.json"),
        identification_keys: vec!["serial".into()],
        options: serde_json::from_value(json!({})).unwrap(),
        auth_header,
        schedule: None,
        time_zone: "UTC".into(),
        is_active: true,
    };
    let header = |value: &str| Some(AuthHeader::new("X-Inventory-Key".into(), value.into()));
    let secret = "Bearer s3cret-of-an-inventory";
    let admin = world.organization.admin.clone();
    let mut tx = world.begin().await;
    let source = discovery::create(&mut tx, &admin, &world.shared.secrets, fields("racks", header(secret)))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let read = async |world: &World| {
        let mut tx = world.begin().await;
        let started = discovery::start(&mut tx, &admin, source.id, RunMode::Run).await.unwrap();
        tx.commit().await.unwrap();
        world.drain_once().await.unwrap();
        let mut tx = world.begin().await;
        store::discovery_runs::get(&mut tx, started.run).await.unwrap().status
    };
    assert_eq!(read(&world).await, RunStatus::Succeeded);
    assert_eq!(tables_with(&world, "s3cret-of-an-inventory").await, Vec::<String>::new());

    // Under a new key; and whoever sends it back masked, under another name, changes nothing of the value.
    world.shared.secrets = ring(&[NEW, OLD]);
    assert_eq!(read(&world).await, RunStatus::Succeeded);
    world.shared.secrets = ring(&[NEW]);
    let mut tx = world.begin().await;
    let before = store::discovery_sources::lock(&mut tx, source.id).await.unwrap();
    let kept = fields("racks west", header(domain::MASK));
    discovery::update(&mut tx, &admin, &world.shared.secrets, before, kept).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(read(&world).await, RunStatus::Succeeded);
    let sent: Vec<_> =
        sink.requests().iter().map(|request| request.header("x-inventory-key").map(str::to_owned)).collect();
    assert_eq!(sent, vec![Some(secret.to_owned()); 3]);

    // Without the key nobody is asked.
    world.shared.secrets = ring(&[OLD]);
    assert_ne!(read(&world).await, RunStatus::Failed);
    assert_eq!(sink.requests().len(), 3);
}

#[tokio::test]
async fn keys_are_replaced_while_messages_go_out() {
    let (mut world, chat) = (World::open().await, chat().await);
    let channel =
        world.channel(ChannelKind::Slack, json!({"webhook_url": chat.url("/services/T/B/x")})).await;
    for keys in [ring(&[NEW, OLD]), ring(&[NEW])] {
        world.shared.secrets = keys;
        try_out(&world, channel).await;
        world.drain_once().await.unwrap();
        assert_eq!(key_of(&world, channel).await.as_deref(), Some("new"));
    }
    assert_eq!(chat.requests().len(), 2);

    // A process that does not have the key yet leaves the message to others, and nothing is held against the channel.
    world.shared.secrets = ring(&[OLD]);
    try_out(&world, channel).await;
    world.drain_once().await.unwrap();
    let waiting = world.deliveries().await.into_iter().find(|d| d.status == Status::Pending).unwrap();
    assert_eq!((waiting.attempts, chat.requests().len()), (0, 2));
    let why = waiting.last_error.unwrap();
    assert!(why.contains("key new") && why.contains("RELAYDESK_JOB_KEYS"), "{why}");
    world.shared.secrets = ring(&[NEW]);
    world.pass(TimeDelta::minutes(2)).await;
    world.drain_once().await.unwrap();
    assert_eq!(chat.requests().len(), 3);
}

/// The state of the jobs that have not ended, and what they say.
async fn jobs(world: &World) -> Vec<(String, Option<String>)> {
    sqlx::query_as("select state::text, last_error from queue.jobs where kind <> 'react'")
        .fetch_all(&mut world.test.owner().await)
        .await
        .unwrap()
}

/// A day is enough to put a key back. Then somebody has to know.
#[tokio::test]
async fn a_key_that_does_not_come_is_not_waited_for_without_end() {
    let (mut world, chat) = (World::open().await, chat().await);
    let channel =
        world.channel(ChannelKind::Slack, json!({"webhook_url": chat.url("/services/T/B/x")})).await;
    let db = world.test.db.clone();
    assert_eq!(lost(&db, &world.shared.secrets).await.unwrap(), Vec::<String>::new());
    world.shared.secrets = ring(&[NEW]);
    let said = lost(&db, &world.shared.secrets).await.unwrap();
    assert!(said.len() == 1 && said[0].contains(&channel.to_string()), "{said:?}");
    assert!(said[0].contains("key test") && said[0].contains("RELAYDESK_JOB_KEYS"), "{said:?}");

    try_out(&world, channel).await;
    for _ in 0..2 {
        world.drain_once().await.unwrap();
        let waits = world.delivery().await;
        assert_eq!((waits.status, waits.attempts), (Status::Pending, 0));
        world.pass(TimeDelta::hours(11)).await;
    }
    world.pass(TimeDelta::hours(3)).await;
    let _ = world.drain_once().await;
    let over = world.delivery().await;
    let why = over.last_error.unwrap();
    assert_eq!(over.status, Status::GivenUp);
    for part in ["key test", "for 24 hours", "put its key back", "set the secret anew"] {
        assert!(why.contains(part), "{why}");
    }
    let jobs = jobs(&world).await;
    assert!(
        jobs.len() == 1 && jobs[0].0 == "dead" && jobs[0].1.as_ref().unwrap().contains("set the secret anew"),
        "{jobs:?}"
    );

    // With the key, whoever asks for it once more has it sent.
    world.shared.secrets = ring(&[NEW, OLD]);
    let mut tx = world.begin().await;
    actions::deliveries::retry(&mut tx, &world.organization.admin, over.id).await.unwrap();
    tx.commit().await.unwrap();
    world.drain_once().await.unwrap();
    assert_eq!((world.delivery().await.status, chat.requests().len()), (Status::Sent, 1));
}

#[tokio::test]
async fn nor_is_it_by_an_inventory() {
    let (mut world, sink) = (World::open().await, HttpSink::start().await);
    let admin = world.organization.admin.clone();
    let mut tx = world.begin().await;
    let fields = DiscoveryFields {
        name: "racks".into(),
        format: InventoryFormat::Json,
        location: sink.url("/hosts.json"),
        identification_keys: vec!["serial".into()],
        options: serde_json::from_value(json!({})).unwrap(),
        auth_header: Some(AuthHeader::new("X-Inventory-Key".into(), "s3cret".into())),
        schedule: None,
        time_zone: "UTC".into(),
        is_active: true,
    };
    let source = discovery::create(&mut tx, &admin, &world.shared.secrets, fields).await.unwrap();
    let started = discovery::start(&mut tx, &admin, source.id, RunMode::Run).await.unwrap();
    tx.commit().await.unwrap();
    world.shared.secrets = ring(&[NEW]);
    let said = lost(&world.test.db, &world.shared.secrets).await.unwrap();
    assert!(said.len() == 1 && said[0].contains(&source.id.to_string()), "{said:?}");
    let run = async |world: &World| {
        world.drain_once().await.unwrap();
        let mut tx = world.begin().await;
        store::discovery_runs::get(&mut tx, started.run).await.unwrap()
    };
    for _ in 0..2 {
        assert_eq!(run(&world).await.finished_at, None);
        world.pass(TimeDelta::hours(11)).await;
    }
    world.pass(TimeDelta::hours(3)).await;
    let over = run(&world).await;
    let why = over.error.unwrap();
    assert_eq!(over.status, RunStatus::Failed);
    assert!(
        why.contains("key test") && why.contains("for 24 hours") && why.contains("set the secret anew"),
        "{why}"
    );
    assert!(jobs(&world).await.is_empty() && sink.requests().is_empty());
}

#[tokio::test]
async fn what_came_before_the_keys_goes_on_and_is_sealed() {
    let (mut world, chat) = (World::open().await, chat().await);
    world.shared.secrets = KeyRing::default();
    let channel =
        world.channel(ChannelKind::Slack, json!({"webhook_url": chat.url("/services/T/B/s3cret-1")})).await;
    let other =
        world.channel(ChannelKind::Slack, json!({"webhook_url": chat.url("/services/T/B/s3cret-2")})).await;
    world.channel(ChannelKind::Email, json!({"to": ["a@acme.example"]})).await;
    let here = ["public.notification_channels"];
    assert_eq!(tables_with(&world, "s3cret-1").await, here);
    let db = world.test.db.clone();
    assert_eq!(left(&db, &world.shared.secrets).await.unwrap(), (2, 0));
    assert!(
        seal_all(&db, &world.shared.secrets).await.is_err(),
        "without keys there is nothing to seal with"
    );

    let mut sent = 0;
    let mut goes_out = async |world: &World| {
        try_out(world, channel).await;
        world.drain_once().await.unwrap();
        sent += 1;
        assert_eq!(chat.requests().len(), sent);
    };
    goes_out(&world).await;
    world.shared.secrets = ring(&[OLD]);
    goes_out(&world).await;
    assert_eq!(tables_with(&world, "s3cret-1").await, here, "as it was");

    // Whatever is changed of a channel, its secret is sealed.
    let mut tx = world.begin().await;
    let change = ChannelChange { name: Some("other".into()), ..Default::default() };
    let (admin, secrets) = (&world.organization.admin, world.shared.secrets.clone());
    actions::channels::update(&mut tx, admin, &secrets, other, None, change).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(tables_with(&world, "s3cret-2").await, Vec::<String>::new());
    // And all of them by a command.
    assert_eq!(left(&db, &secrets).await.unwrap(), (1, 0));
    assert_eq!(seal_all(&db, &secrets).await.unwrap(), Counted { sealed: 1, ..Counted::default() });
    assert_eq!(seal_all(&db, &secrets).await.unwrap(), Counted::default());
    assert_eq!(tables_with(&world, "s3cret-1").await, Vec::<String>::new());
    goes_out(&world).await;
    // A program of before this one writes in clear text, and leaves beside it what was sealed.
    let clear = json!({"webhook_url": chat.url("/services/T/B/s3cret-3")});
    sqlx::query("update notification_channels set config = $2::jsonb, version = version + 1 where id = $1")
        .bind(channel.0)
        .bind(clear.to_string())
        .execute(&mut world.test.owner().await)
        .await
        .unwrap();
    assert_eq!(left(&db, &secrets).await.unwrap(), (1, 0));
    assert_eq!(seal_all(&db, &secrets).await.unwrap(), Counted { sealed: 1, ..Counted::default() });
    assert_eq!(seal_all(&db, &secrets).await.unwrap(), Counted::default());
    assert_eq!(tables_with(&world, "s3cret-3").await, Vec::<String>::new());
    goes_out(&world).await;

    world.shared.secrets = ring(&[NEW, OLD]);
    assert_eq!(left(&db, &world.shared.secrets).await.unwrap(), (0, 2));
    let resealed = Counted { resealed: 2, ..Counted::default() };
    assert_eq!(seal_all(&db, &world.shared.secrets).await.unwrap(), resealed);
    world.shared.secrets = ring(&[NEW]);
    goes_out(&world).await;
    let refused = seal_all(&db, &ring(&[OLD])).await.unwrap().refused;
    assert!(refused.len() == 2 && refused[0].contains("key new"), "{refused:?}");
    goes_out(&world).await;
}

/// Whoever can write to the database, and has a channel of their own.
#[tokio::test]
async fn a_secret_that_is_copied_to_another_row_opens_for_nobody() {
    let (world, chat, thief) = (World::open().await, chat().await, HttpSink::start().await);
    let bot = |api: String| json!({"bot_token": "xoxb-s3cret", "channel": "#ops", "api_url": api});
    let theirs = world.channel(ChannelKind::Slack, bot(chat.url("/api"))).await;
    let own = world.channel(ChannelKind::Slack, bot(thief.url("/api"))).await;
    sqlx::query(
        "update notification_channels own set key_name = t.key_name, sealed_secret = t.sealed_secret
           from notification_channels t where own.id = $1 and t.id = $2",
    )
    .bind(own.0)
    .bind(theirs.0)
    .execute(&mut world.test.owner().await)
    .await
    .unwrap();
    try_out(&world, own).await;
    world.drain_once().await.unwrap();
    assert!(thief.requests().is_empty());
    let why = world.delivery().await.last_error.unwrap();
    assert!(why.contains("cannot be opened"), "{why}");
}
