//! What stands in the ledger when something goes wrong on our own side.

use crate::world::World;
use actions::deliveries::{self, NewMail};
use domain::ChannelKind;
use serde_json::json;
use store::deliveries::{Mail, Status};
use testkit::sinks::{Answer, HttpSink, SmtpSink};

async fn owner(world: &World, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&mut world.test.owner().await).await.unwrap();
}

#[tokio::test]
async fn a_message_that_cannot_be_made_is_given_up_with_the_reason() {
    let relay = SmtpSink::start().await;
    let (world, sink) = (World::new(Some(relay.url()), "127.0.0.0/8").await, HttpSink::start().await);
    let slack = world.channel(ChannelKind::Slack, json!({"webhook_url": sink.url("/x")})).await;
    let mail = world.channel(ChannelKind::Email, json!({"to": ["a@acme.example"]})).await;
    for channel in [slack, mail] {
        world.rule("incident.opened", channel, json!({})).await;
    }
    world.incident("Lost").await;
    // The deliveries are there, their jobs wait; then what they are about is gone.
    owner(
        &world,
        "create function later() returns trigger language plpgsql as $$ begin \
                   new.state := 'scheduled'; new.due_at := now() + interval '1 hour'; return new; end $$; \
                   create trigger later before insert on queue.jobs for each row \
                   when (new.kind <> 'react') execute function later()",
    )
    .await;
    world.drain_once().await.unwrap();
    owner(&world, "update deliveries set ticket_id = null").await;
    world.pass(chrono::TimeDelta::hours(2)).await;
    while world.drain_once().await.is_err() {}
    let all = world.deliveries().await;
    assert_eq!(all.len(), 2);
    for delivery in all {
        let why = delivery.last_error.unwrap();
        assert_eq!((delivery.status, delivery.attempts), (Status::GivenUp, 1), "{why}");
        assert_eq!(why, "the message cannot be made: a message about no ticket");
    }
    assert!(sink.requests().is_empty() && relay.mails().is_empty());
}

#[tokio::test]
async fn a_mail_channel_that_was_switched_off_gets_nothing() {
    let relay = SmtpSink::start().await;
    let world = World::new(Some(relay.url()), "").await;
    let channel = world.channel(ChannelKind::Email, json!({"to": ["a@acme.example"]})).await;
    let mut tx = world.begin().await;
    let (admin, off) = (&world.organization.admin, Some(false));
    actions::channels::test(&mut tx, admin, channel).await.unwrap();
    let change = actions::channels::ChannelChange { is_active: off, ..Default::default() };
    actions::channels::update(&mut tx, admin, &world.shared.secrets, channel, None, change).await.unwrap();
    tx.commit().await.unwrap();
    assert!(world.drain_once().await.is_err());
    let delivery = world.delivery().await;
    assert_eq!(
        (delivery.status, delivery.last_error.as_deref()),
        (Status::GivenUp, Some("its channel is switched off"))
    );
    assert!(relay.mails().is_empty());
}

#[tokio::test]
async fn two_jobs_for_one_delivery_send_it_once() {
    let (world, sink) = (World::open().await, HttpSink::start().await);
    let channel = world.channel(ChannelKind::Slack, json!({"webhook_url": sink.url("/x")})).await;
    world.rule("incident.opened", channel, json!({})).await;
    sink.script([Answer::status(404).body("no_service")]);
    world.incident("Once").await;
    assert!(world.drain_once().await.is_err());
    let delivery = world.delivery().await;
    let old = delivery.job.unwrap();

    let mut tx = world.begin().await;
    let new = deliveries::retry(&mut tx, &world.organization.admin, delivery.id).await.unwrap();
    // As a job from before there were keys.
    sqlx::query("update queue.jobs set unique_key = null where id = $1")
        .bind(old)
        .execute(&mut *tx)
        .await
        .unwrap();
    queue::admin::retry(&mut tx, old.into(), Some(world.organization.id.0), &queue::admin::Note::default())
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_ne!(new.0, old);
    // Slow enough that both are at it at the same time.
    sink.otherwise(Answer::status(200).body("ok").after(std::time::Duration::from_millis(300)));
    let drained = world.drain_once().await.unwrap();
    assert_eq!((drained.done, drained.cancelled), (1, 1));
    assert_eq!(sink.requests().len(), 2, "the refused one, and one more");
    assert_eq!((world.delivery().await.status, world.delivery().await.job), (Status::Sent, Some(new.0)));
}

#[tokio::test]
async fn a_delivery_that_takes_its_job_down_each_time_is_given_up() {
    let world = World::open().await;
    let mut tx = world.begin().await;
    let mail = NewMail { key: "k".into(), to: "a@acme.example".into(), ..NewMail::default() };
    let id = deliveries::queue_mail(&mut tx, world.organization.id, mail).await.unwrap().delivery;
    tx.commit().await.unwrap();
    for round in 0..6 {
        assert_eq!(world.delivery().await.status, Status::Pending, "{round}");
        owner(&world, "delete from queue.jobs").await;
        let mut tx = world.begin().await;
        deliveries::rescue(&mut tx, world.organization.id, id).await.unwrap();
        tx.commit().await.unwrap();
    }
    let delivery = world.delivery().await;
    assert_eq!(delivery.status, Status::GivenUp);
    assert!(delivery.last_error.unwrap().starts_with("its job did not end, again and again"));
}

#[tokio::test]
async fn a_delivery_whose_job_waits_in_a_long_line_is_not_given_up() {
    let world = World::open().await;
    let mut tx = world.begin().await;
    let mail =
        NewMail { key: "k".into(), to: "a@acme.example".into(), mail: Mail::default(), ..NewMail::default() };
    let id = deliveries::queue_mail(&mut tx, world.organization.id, mail).await.unwrap().delivery;
    for _ in 0..20 {
        deliveries::rescue(&mut tx, world.organization.id, id).await.unwrap();
    }
    tx.commit().await.unwrap();
    let delivery = world.delivery().await;
    assert_eq!((delivery.status, delivery.rescues), (Status::Pending, 0));
}

#[tokio::test]
async fn a_long_ledger_is_read_by_its_indexes() {
    let world = World::open().await;
    let other = testkit::organization(&world.test, "other").await;
    let mut rows = world.test.owner().await;
    sqlx::query(
        "insert into deliveries (id, organization_id, unique_key, channel, message_kind, recipient, status, sent_at, created_at, updated_at)
         select gen_random_uuid(), case n % 2 when 0 then $1 else $2 end, 'key:' || n, 'slack', 'test', 'somebody', 'sent', at, at, at
           from generate_series(1, 100000) n, lateral (select now() - make_interval(secs => n)) t(at)",
    )
    .bind(world.organization.id.0)
    .bind(other.id.0)
    .execute(&mut rows)
    .await
    .unwrap();
    sqlx::raw_sql("analyze deliveries; analyze users; analyze events").execute(&mut rows).await.unwrap();

    let mut tx = world.begin().await;
    let everything = domain::permission::Reach::Everything;
    let mut wanted = store::deliveries::LIST.all(50);
    let page = store::deliveries::list(&mut tx, &everything, &wanted).await.unwrap();
    wanted.go_on(page.last().unwrap());
    assert_eq!(store::deliveries::list(&mut tx, &everything, &wanted).await.unwrap().len(), 50);
    assert!(store::deliveries::id_of_key(&mut tx, "key:50000").await.unwrap().is_some());
    let scans: i64 =
        sqlx::query_scalar("select seq_scan from pg_stat_xact_user_tables where relname = 'deliveries'")
            .fetch_one(&mut *tx)
            .await
            .unwrap();
    assert_eq!(scans, 0, "no walk over the ledger of all organizations");
}
