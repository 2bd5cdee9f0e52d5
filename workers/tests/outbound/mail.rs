use crate::world::World;
use actions::deliveries::{NewMail, queue_mail};
use domain::ChannelKind;
use serde_json::json;
use store::deliveries::{Mail, Status, Words};
use testkit::sinks::SmtpSink;

#[tokio::test]
async fn a_mail_channel_writes_to_each_address_once_and_survives_a_busy_relay() {
    let sink = SmtpSink::start().await;
    let world = World::new(Some(sink.url()), "").await;
    let channel =
        world.channel(ChannelKind::Email, json!({"to": ["a@acme.example", "b@acme.example"]})).await;
    world.rule("incident.opened", channel, json!({})).await;
    sink.refuse(["451 4.3.0 try again later"]);
    world.incident("Größe <b>egal</b>").await;
    world.drain().await.unwrap();

    let mails = sink.mails();
    let mut to: Vec<_> = mails.iter().flat_map(|mail| mail.to.clone()).collect();
    to.sort();
    assert_eq!(to, ["a@acme.example", "b@acme.example"]);
    let deliveries = world.deliveries().await;
    assert_eq!(deliveries.iter().map(|d| d.attempts).sum::<i32>(), 3);
    for delivery in &deliveries {
        assert_eq!((delivery.status, delivery.last_status), (Status::Sent, Some(250)));
        let id = delivery.message_id.clone().unwrap();
        assert!(id.ends_with("@desk.example>"), "{id}");
        assert!(mails.iter().any(|mail| mail.header("message-id") == Some(id.clone())));
    }
    assert_eq!(mails[0].header("auto-submitted").as_deref(), Some("auto-generated"));
    assert!(mails[0].header("from").unwrap().contains("relaydesk@desk.example"));
}

#[tokio::test]
async fn a_relay_that_refuses_for_good_ends_it() {
    let sink = SmtpSink::start().await;
    let world = World::new(Some(sink.url()), "").await;
    sink.refuse(["550 5.7.1 not from you"]);
    queue(&world, "k1").await;
    assert!(world.drain().await.is_err());
    let delivery = world.delivery().await;
    assert_eq!((delivery.status, delivery.attempts, delivery.last_status), (Status::GivenUp, 1, Some(550)));
    assert!(delivery.last_error.unwrap().contains("not from you"));
}

#[tokio::test]
async fn the_same_key_is_one_mail_and_without_a_relay_it_waits() {
    let world = World::open().await;
    queue(&world, "k1").await;
    queue(&world, "k1").await;
    queue::Drain::new(workers::registry(), world.shared.clone()).run(world.test.db.pool()).await.unwrap();
    let delivery = world.delivery().await;
    assert_eq!((delivery.status, delivery.attempts), (Status::Pending, 0));
    assert!(delivery.last_error.unwrap().contains("RELAYDESK_MAIL_URL"));
    assert!(delivery.next_attempt_at.is_some());
}

async fn queue(world: &World, key: &str) {
    let mut tx = world.begin().await;
    let words = Words { subject: "Hello".into(), text: "world".into(), html: None };
    let mail = NewMail {
        key: key.into(),
        to: "ada@acme.example".into(),
        message_kind: "greeting".into(),
        mail: Mail { words: Some(words), ..Mail::default() },
        ..NewMail::default()
    };
    queue_mail(&mut tx, world.organization.id, mail).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_delivery_whose_job_was_lost_is_found_by_the_sweep() {
    let sink = SmtpSink::start().await;
    let world = World::new(Some(sink.url()), "").await;
    queue(&world, "k1").await;
    let mut owner = world.test.owner().await;
    sqlx::query("delete from queue.jobs where kind = 'send_mail'").execute(&mut owner).await.unwrap();
    sqlx::query("update deliveries set updated_at = now() - interval '1 hour', next_attempt_at = now() - interval '1 hour'")
        .execute(&mut owner)
        .await
        .unwrap();
    let mut connection = world.test.db.pool().acquire().await.unwrap();
    queue::enqueue(&mut connection, &[queue::NewJob::of(&actions::jobs::Sweep {})]).await.unwrap();
    drop(connection);
    world.drain().await.unwrap();
    assert_eq!((sink.mails().len(), world.delivery().await.status), (1, Status::Sent));
}
