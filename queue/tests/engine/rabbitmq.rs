//! Lanes on RabbitMQ. What holds on every transport is tested by the other modules, which run on RabbitMQ too
//! (`RELAYDESK_TEST_TRANSPORT=rabbitmq`).

use crate::scripted::{Bench, LANE, Scripted, Step, Unknown, eventually};
use futures::StreamExt;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions, QueuePurgeOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use queue::admin::{self, JobState};
use queue::{EngineConfig, LaneConfig, NewJob, Registry, Transport};
use sqlx::Connection as _;
use std::time::Duration;
use testkit::TestBroker;
use uuid::Uuid;

/// A look into the broker, beside the engine.
pub struct Spy {
    pub channel: Channel,
    _connection: Connection,
    prefix: String,
}

impl Spy {
    pub async fn on(broker: &TestBroker) -> Spy {
        let connection = Connection::connect(&broker.url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Spy { channel, _connection: connection, prefix: broker.prefix.clone() }
    }

    pub fn queue(&self) -> String {
        format!("{}.jobs.{LANE}", self.prefix)
    }

    /// A copy of everything that is published from now on. Once the engine has made the exchange.
    pub async fn tap(&self) -> lapin::Consumer {
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        let tap = self.channel.queue_declare("".into(), options, FieldTable::default()).await.unwrap();
        let name = tap.name().clone();
        let exchange = format!("{}.jobs", self.prefix);
        self.channel
            .queue_bind(
                name.clone(),
                exchange.into(),
                LANE.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        self.channel
            .basic_consume(name, "tap".into(), BasicConsumeOptions::default(), FieldTable::default())
            .await
            .unwrap()
    }

    pub async fn publish(&self, body: &[u8]) {
        let exchange = format!("{}.jobs", self.prefix);
        let sent = self
            .channel
            .basic_publish(
                exchange.into(),
                LANE.into(),
                BasicPublishOptions::default(),
                body,
                BasicProperties::default(),
            )
            .await
            .unwrap();
        assert!(sent.await.unwrap().is_ack());
    }

    pub async fn depth(&self, queue: &str) -> u32 {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        self.channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await
            .unwrap()
            .message_count()
    }
}

/// An engine that is ready on a fresh broker: its first job is done.
async fn begin(broker: &TestBroker) -> (Bench, queue::Engine) {
    let bench = Bench::on(broker).await;
    let engine = bench.start_with(Bench::patient());
    let first = bench.add(&[Step::Done]).await;
    bench.reaches(first, JobState::Done).await;
    (bench, engine)
}

async fn effects(bench: &Bench, n: usize) {
    let jobs: Vec<_> = (0..n).map(|_| NewJob::of(&Scripted { steps: vec![Step::Effect] })).collect();
    let mut tx = bench.pool().begin().await.unwrap();
    queue::enqueue(&mut tx, &jobs).await.unwrap();
    tx.commit().await.unwrap();
}

async fn done(bench: &Bench, n: i64) {
    eventually("all jobs to be over", || async {
        (bench.count("select count(*) from queue.jobs").await == 0).then_some(())
    })
    .await;
    assert_eq!(bench.count("select count(*) from ledger").await, n, "effects");
    assert_eq!(bench.count("select count(distinct job) from ledger").await, n, "jobs with an effect");
}

#[tokio::test]
async fn what_is_rolled_back_is_never_published() {
    let Some(broker) = testkit::broker().await else { return };
    let (bench, engine) = begin(&broker).await;
    let spy = Spy::on(&broker).await;
    let mut tap = spy.tap().await;
    let mut tx = bench.pool().begin().await.unwrap();
    queue::enqueue(&mut tx, &[NewJob::of(&Scripted { steps: vec![Step::Done] })]).await.unwrap();
    tx.rollback().await.unwrap();
    let kept = bench.add(&[Step::Done]).await;
    bench.reaches(kept, JobState::Done).await;
    let copy = tap.next().await.unwrap().unwrap();
    assert_eq!(copy.data, kept.0.as_bytes(), "the first message is the committed job's");
    assert_eq!(*copy.properties.delivery_mode(), Some(2));
    assert_eq!(copy.properties.kind().as_ref().unwrap().as_str(), "scripted");
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn two_engines_run_each_of_2000_jobs_once() {
    let Some(broker) = testkit::broker().await else { return };
    let (bench, engine) = begin(&broker).await;
    let (other, others) = bench.start_other(Bench::patient());
    effects(&bench, 2000).await;
    done(&bench, 2000).await;
    assert!(!others.runs.lock().unwrap().is_empty(), "both have worked");
    assert_eq!(bench.count("select count(*) from queue.history where attempt > 1").await, 0);
    let mut connection = bench.pool().acquire().await.unwrap();
    let lanes = admin::lanes(&mut connection, None).await.unwrap();
    assert_eq!((lanes[0].transport.as_str(), lanes[0].broker.as_deref()), ("rabbitmq", Some("connected")));
    engine.shutdown(Duration::from_secs(5)).await;
    other.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_message_that_comes_many_times_runs_its_job_once() {
    let Some(broker) = testkit::broker().await else { return };
    let (bench, engine) = begin(&broker).await;
    let spy = Spy::on(&broker).await;
    let id = bench.add(&[Step::EffectAfterGate]).await;
    bench.reaches(id, JobState::Running).await;
    for _ in 0..20 {
        spy.publish(id.0.as_bytes()).await;
    }
    bench.shared.gate.add_permits(20);
    bench.reaches(id, JobState::Done).await;
    for _ in 0..20 {
        spy.publish(id.0.as_bytes()).await;
    }
    // What is behind them in the queue.
    let behind = bench.add(&[Step::Done]).await;
    bench.reaches(behind, JobState::Done).await;
    assert_eq!((bench.runs_of(id), bench.count("select count(*) from ledger").await), (1, 1));
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn lost_messages_are_published_again() {
    let Some(broker) = testkit::broker().await else { return };
    let bench = Bench::on(&broker).await;
    // One at a time: the rest waits in the broker.
    let config =
        || EngineConfig { lanes: vec![LaneConfig::new(LANE, 1).on(Transport::Rabbitmq)], ..Bench::patient() };
    let (engine, _) = bench.start_other(config());
    let gate = bench.add(&[Step::EffectAfterGate]).await;
    bench.reaches(gate, JobState::Running).await;
    effects(&bench, 30).await;
    let spy = Spy::on(&broker).await;
    let purged = eventually("messages that wait", || async {
        let waiting = spy.depth(&spy.queue()).await;
        (waiting == 28).then_some(waiting) // and two at the consumer
    })
    .await;
    let options = QueuePurgeOptions::default();
    assert_eq!(spy.channel.queue_purge(spy.queue().into(), options).await.unwrap(), purged);
    bench.shared.gate.add_permits(1);
    done(&bench, 31).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_lane_that_is_moved_loses_nothing() {
    let Some(broker) = testkit::broker().await else { return };
    let bench = Bench::on(&broker).await;
    effects(&bench, 900).await;
    let mut moves = 0;
    while bench.count("select count(*) from queue.jobs").await > 0 {
        let over = bench.count("select count(*) from ledger").await;
        Bench::use_broker((moves % 2 == 0).then_some(&broker));
        let (engine, _) = bench.start_other(Bench::patient());
        eventually("some of the work", || async {
            (bench.count("select count(*) from ledger").await >= (over + 150).min(900)).then_some(())
        })
        .await;
        engine.shutdown(Duration::from_secs(5)).await;
        moves += 1;
        assert!(moves < 30, "no progress");
    }
    done(&bench, 900).await;
    assert!(moves > 1, "it was moved");
}

#[tokio::test]
async fn prefixes_keep_installations_apart() {
    let Some(broker) = testkit::broker().await else { return };
    let (one, engine_one) = begin(&broker).await;
    let other_names = TestBroker { prefix: format!("{}x", broker.prefix), ..broker.clone() };
    let (two, engine_two) = begin(&other_names).await;
    let (spy_one, spy_two) = (Spy::on(&broker).await, Spy::on(&other_names).await);
    let (mut tap_one, mut tap_two) = (spy_one.tap().await, spy_two.tap().await);
    for (bench, tap) in [(&one, &mut tap_one), (&two, &mut tap_two)] {
        let id = bench.add(&[Step::Done]).await;
        bench.reaches(id, JobState::Done).await;
        assert_eq!(tap.next().await.unwrap().unwrap().data, id.0.as_bytes());
    }
    engine_one.shutdown(Duration::from_secs(5)).await;
    engine_two.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn messages_of_others_are_put_away_and_the_lane_goes_on() {
    let Some(broker) = testkit::broker().await else { return };
    let (bench, engine) = begin(&broker).await;
    let spy = Spy::on(&broker).await;
    spy.publish(b"hello?").await;
    // A job that is not there.
    spy.publish(Uuid::now_v7().as_bytes()).await;
    let id = bench.add(&[Step::Done]).await;
    bench.reaches(id, JobState::Done).await;
    let dead = format!("{}.dead", broker.prefix);
    eventually("the dead letter", || async { (spy.depth(&dead).await == 1).then_some(()) }).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_job_of_a_kind_that_nobody_knows_waits_for_somebody_who_does() {
    let Some(broker) = testkit::broker().await else { return };
    let bench = Bench::on(&broker).await;
    let (old, _) = bench.start_other_with(Registry::new(), Bench::patient());
    let id = bench.add(&[Step::Done]).await;
    let unknown = bench.enqueue(NewJob::of(&Unknown {})).await;
    let spy = Spy::on(&broker).await;
    eventually("the old worker to have looked at it", || async {
        let published = bench.count("select count(*) from queue.jobs where published_at is not null").await;
        (published == 2 && spy.depth(&spy.queue()).await == 0).then_some(())
    })
    .await;
    old.shutdown(Duration::from_secs(5)).await;
    let engine = bench.start_with(Bench::patient());
    bench.reaches(id, JobState::Done).await;
    let waits = bench.show(unknown).await.job;
    assert_eq!((waits.state, waits.attempt), (JobState::Ready, 0));
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_paused_lane_publishes_nothing_and_gives_back_what_it_had_published() {
    let Some(broker) = testkit::broker().await else { return };
    let (bench, engine) = begin(&broker).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    assert!(admin::pause(&mut connection, LANE).await.unwrap());
    let spy = Spy::on(&broker).await;
    let mut tap = spy.tap().await;
    effects(&bench, 50).await;
    // As if it had been published just before the pause.
    let ids: Vec<Uuid> =
        sqlx::query_scalar("select id from queue.jobs").fetch_all(bench.pool()).await.unwrap();
    sqlx::query("update queue.jobs set published_at = now()")
        .execute(&mut bench.db.owner().await)
        .await
        .unwrap();
    for id in &ids {
        spy.publish(id.as_bytes()).await;
        tap.next().await.unwrap().unwrap().ack(BasicAckOptions::default()).await.unwrap();
    }
    eventually("all to be given back", || async {
        let sql = "select count(*) from queue.jobs where published_at is null and worker is null";
        (bench.count(sql).await == 50).then_some(())
    })
    .await;
    assert!(admin::resume(&mut connection, LANE).await.unwrap());
    done(&bench, 50).await;
    for _ in &ids {
        tap.next().await.unwrap().unwrap().ack(BasicAckOptions::default()).await.unwrap();
    }
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_given_back() {
    let Some(broker) = testkit::broker().await else { return };
    let (bench, engine) = begin(&broker).await;
    let spy = Spy::on(&broker).await;
    // The row says that we hold it, we do not know.
    let mut owner = bench.db.owner().await;
    let mut tx = owner.begin().await.unwrap();
    let id = queue::enqueue(&mut tx, &[NewJob::of(&Scripted { steps: vec![Step::Done] })]).await.unwrap()[0];
    sqlx::query("update queue.jobs set worker = $1, run = 1, attempt = 1, claimed_at = now()")
        .bind(engine.worker_id())
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    // A claim that breaks: it waits for the table, then its connection is cut.
    let mut tx = owner.begin().await.unwrap();
    sqlx::query("lock table queue.jobs in access exclusive mode").execute(&mut *tx).await.unwrap();
    spy.publish(Uuid::now_v7().as_bytes()).await;
    eventually("a claim that waits", || async {
        let cut = bench
            .count("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%for key share%'")
            .await;
        (cut > 0).then_some(())
    })
    .await;
    tx.commit().await.unwrap();
    let job = bench.reaches(id, JobState::Done).await;
    assert_eq!(job.job.attempt, 1, "not counted");
    engine.shutdown(Duration::from_secs(5)).await;
}
