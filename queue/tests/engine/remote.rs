//! Jobs that are done by workers without a database: each request is begun by one of them, while its run is alive, and its answer counts
//! once.

use crate::scripted::{Bench, LANE, eventually};
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use queue::admin::{self, JobDetail, JobState, Note};
use queue::remote::{NotPerformed, Performers, Remote, Request, Station};
use queue::{
    Backoff, BrokerConfig, Engine, Job, JobError, JobId, JobResult, KeyRing, NewJob, Outcome, Registry, Run,
    Running,
};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use testkit::{Proxy, TestBroker, Way};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

const KEY: &str = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "b:ICECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const MIB: usize = 1 << 20;

/// What is to be done outside.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Errand {
    Say(String),
    /// So many bytes are sent there, and come back.
    Carry {
        there: usize,
        back: usize,
    },
    /// Waits until the test opens the gate.
    Wait,
}

/// As it goes through the broker.
#[derive(Serialize, Deserialize)]
struct Packed {
    errand: Errand,
    load: String,
}

/// What a station works with, and what the test sees of it.
#[derive(Clone)]
struct Tools {
    begun: Arc<Mutex<usize>>,
    /// Begun, and dropped before the end.
    dropped: Arc<Mutex<usize>>,
    gate: Arc<Semaphore>,
}

struct Inside(Tools, bool);

impl Drop for Inside {
    fn drop(&mut self) {
        if !self.1 {
            *self.0.dropped.lock().unwrap() += 1;
        }
    }
}

impl Request<Tools> for Packed {
    const KIND: &'static str = "errand";
    type Reply = String;

    async fn perform(self, tools: &Tools) -> String {
        *tools.begun.lock().unwrap() += 1;
        let mut inside = Inside(tools.clone(), false);
        let reply = match self.errand {
            Errand::Say(text) => format!("said {text}"),
            Errand::Carry { back, .. } => "x".repeat(back),
            Errand::Wait => {
                tools.gate.acquire().await.unwrap().forget();
                "waited".to_owned()
            }
        };
        inside.1 = true;
        reply
    }
}

/// Has its errand done, and writes one line for it.
#[derive(Serialize, Deserialize)]
struct Outside {
    errand: Errand,
}
impl Job for Outside {
    const KIND: &'static str = "outside";
    const LANE: &'static str = LANE;
    const MAX_ATTEMPTS: i16 = 3;
    const TIMEOUT: Duration = Duration::from_secs(120);
    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(40) };
}

#[derive(Clone)]
struct World {
    remote: Remote,
    pool: sqlx::PgPool,
    /// Why nothing was begun.
    notes: Arc<Mutex<Vec<String>>>,
}

impl Run<World> for Outside {
    async fn run(self, job: &Running, world: &World) -> JobResult {
        let load = match &self.errand {
            Errand::Carry { there, .. } => "x".repeat(*there),
            _ => String::new(),
        };
        let reply = match world.remote.perform(job, &Packed { errand: self.errand, load }).await {
            Ok(reply) => reply,
            Err(NotPerformed::NotBegun(why)) => {
                world.notes.lock().unwrap().push(why);
                return Ok(Outcome::Snooze(Duration::from_millis(100)));
            }
            Err(error @ NotPerformed::Impossible(_)) => return Err(JobError::GiveUp(error.into())),
            Err(error) => return Err(error.into()),
        };
        let mut tx = world.pool.begin().await?;
        sqlx::query("insert into ledger (job, run) values ($1, $2)")
            .bind(job.id.0)
            .bind(job.run)
            .execute(&mut *tx)
            .await?;
        job.complete_with(
            &mut tx,
            &serde_json::json!({"bytes": reply.len(), "reply": reply.get(..20.min(reply.len()))}),
        )
        .await?;
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}

/// A platform and a broker.
struct Field {
    bench: Bench,
    broker: TestBroker,
    engine: Engine,
    world: World,
}

impl Field {
    async fn new() -> Option<Field> {
        let broker = testkit::broker().await?;
        let bench = Bench::on_postgres().await;
        let lanes = [LANE.to_owned()].into();
        let remote = Remote::start(&config(&broker, &broker.url), "platform", keys(KEY), lanes);
        let world = World { remote, pool: bench.pool().clone(), notes: Arc::default() };
        let engine =
            Engine::start(bench.pool(), Registry::new().job::<Outside>(), world.clone(), Bench::patient());
        Some(Field { bench, broker, engine, world })
    }

    fn station(&self, key: &str) -> Far {
        self.station_at(&self.broker.url, key, Performers::default().request::<Packed>())
    }

    fn station_at(&self, url: &str, key: &str, performers: Performers<Tools>) -> Far {
        let tools =
            Tools { begun: Arc::default(), dropped: Arc::default(), gate: Arc::new(Semaphore::new(0)) };
        let lanes = vec![(LANE.to_owned(), 4)];
        let station =
            Station::open(&config(&self.broker, url), "far", keys(key), lanes, (performers, tools.clone()));
        let stop = CancellationToken::new();
        let task = tokio::spawn({
            let (station, stop) = (station.clone(), stop.clone());
            async move { station.run(stop, Duration::from_secs(10)).await }
        });
        Far { station, tools, stop, task }
    }

    async fn add(&self, errand: Errand) -> JobId {
        self.bench.enqueue(NewJob::of(&Outside { errand })).await
    }

    /// Within two minutes: what is lost is noticed after some seconds.
    async fn reaches(&self, id: JobId, state: JobState) -> JobDetail {
        within(&format!("{id} to be {state}"), || async {
            let mut connection = self.bench.pool().acquire().await.ok()?;
            let detail = admin::show(&mut connection, id, None).await.ok()?;
            (detail.job.state == state).then_some(detail)
        })
        .await
    }

    async fn noted(&self, words: &str) {
        within(words, || async {
            self.world.notes.lock().unwrap().iter().any(|note| note.contains(words)).then_some(())
        })
        .await;
    }

    async fn ledger(&self) -> i64 {
        self.bench.count("select count(*) from ledger").await
    }

    /// Somebody else with the same rights in the broker.
    async fn stranger(&self) -> (Connection, Channel) {
        let connection =
            Connection::connect(&self.broker.url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        (connection, channel)
    }

    fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.broker.prefix)
    }

    async fn close(self) {
        self.engine.shutdown(Duration::from_secs(10)).await;
        self.world.remote.close().await;
    }
}

/// A worker without a database.
struct Far {
    station: Station<Tools>,
    tools: Tools,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Far {
    fn begun(&self) -> usize {
        *self.tools.begun.lock().unwrap()
    }

    async fn until_begun(&self, times: usize) {
        within("a request to be begun", || async { (self.begun() >= times).then_some(()) }).await;
    }

    async fn connected(self) -> Far {
        within("the station", || async { self.station.is_connected().then_some(()) }).await;
        self
    }

    async fn close(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn keys(text: &str) -> KeyRing {
    text.parse().unwrap()
}

fn config(broker: &TestBroker, url: &str) -> BrokerConfig {
    BrokerConfig { prefix: broker.prefix.clone(), ..BrokerConfig::new(url) }
}

/// As [`eventually`], with the patience that a lost station takes.
async fn within<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_has_the_key_and_knows_the_kind_does_it() {
    let Some(field) = Field::new().await else { return };
    let wrong_key = field.station(OTHER_KEY).connected().await;
    let knows_nothing = field.station_at(&field.broker.url, KEY, Performers::default()).connected().await;
    let id = field.add(Errand::Say("hello".into())).await;
    field.noted("does not know requests of the kind errand").await;
    let right = field.station(KEY).connected().await;
    let job = field.reaches(id, JobState::Done).await.job;
    assert_eq!(job.attempt, 1, "what was not begun is no attempt");
    assert_eq!((right.begun(), wrong_key.begun()), (1, 0));
    assert_eq!(field.ledger().await, 1);
    for far in [wrong_key, knows_nothing, right] {
        far.close().await;
    }
    field.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_go_through_the_broker_is_a_dead_letter_with_the_reason() {
    let Some(field) = Field::new().await else { return };
    let far = field.station(KEY).connected().await;
    let fits = field.add(Errand::Carry { there: 9 * MIB, back: 9 * MIB }).await;
    field.reaches(fits, JobState::Done).await;
    let too_much = field.add(Errand::Carry { there: 13 * MIB, back: 0 }).await;
    let back = field.add(Errand::Carry { there: 0, back: 13 * MIB }).await;
    for (id, what) in [(too_much, "the request has 136"), (back, "the answer has 136")] {
        let detail = field.reaches(id, JobState::Dead).await;
        let shown = format!("{detail:?}");
        assert!(shown.contains(what) && shown.contains("go through the broker"), "{shown}");
        assert_eq!(detail.job.attempt, 1, "it will not be otherwise the next time");
    }
    far.close().await;
    field.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_stops_where_it_is_done() {
    let Some(field) = Field::new().await else { return };
    let far = field.station(KEY).connected().await;
    let id = field.add(Errand::Wait).await;
    far.until_begun(1).await;
    let asked = Instant::now();
    let mut connection = field.bench.pool().acquire().await.unwrap();
    admin::cancel(&mut connection, id, None, &Note::by("test")).await.unwrap();
    eventually("the end of the work", || async { (*far.tools.dropped.lock().unwrap() == 1).then_some(()) })
        .await;
    let took = asked.elapsed();
    field.reaches(id, JobState::Cancelled).await;
    assert_eq!(field.ledger().await, 0);
    testkit::report(
        "cancel of what a remote worker is at: ≤ 1 s",
        "RabbitMQ",
        format!("stopped after {took:.1?}"),
    );
    far.close().await;
    field.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_that_was_cut_off_answers_too_late() {
    let Some(field) = Field::new().await else { return };
    let authority = field.broker.url.split('@').nth(1).unwrap().split('/').next().unwrap().to_owned();
    let proxy = Proxy::to(authority.parse().unwrap()).await;
    let through = field.broker.url.replace(&authority, &proxy.address.to_string());
    let cut_off =
        field.station_at(&through, KEY, Performers::default().request::<Packed>()).connected().await;
    let id = field.add(Errand::Wait).await;
    cut_off.until_begun(1).await;
    proxy.set(Way::Silent);
    // It is asked for once more when the first was not heard of for a while.
    let other = field.station(KEY).connected().await;
    other.until_begun(1).await;
    other.tools.gate.add_permits(1);
    let job = field.reaches(id, JobState::Done).await.job;
    assert_eq!(job.attempt, 2, "it may have been done");
    cut_off.tools.gate.add_permits(1);
    proxy.set(Way::Open);
    proxy.cut();
    let cut_off = cut_off.connected().await;
    cut_off.close().await;
    other.close().await;
    assert_eq!(field.ledger().await, 1);
    field.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_learns_or_forges_anything_on_the_way() {
    let Some(field) = Field::new().await else { return };
    let far = field.station(KEY).connected().await;
    let (connection, channel) = field.stranger().await;
    // Reads along.
    let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let copies = channel.queue_declare("".into(), exclusive, FieldTable::default()).await.unwrap();
    let (exchange, queue) = (field.name("messages"), field.name(&format!("remote.{LANE}")));
    let copies = copies.name().clone();
    channel
        .queue_bind(
            copies.clone(),
            exchange.as_str().into(),
            queue.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .unwrap();
    let id = field.add(Errand::Say("my secret".into())).await;
    field.reaches(id, JobState::Done).await;
    let copy = within("a copy", || async {
        channel.basic_get(copies.clone(), BasicGetOptions::default()).await.unwrap()
    })
    .await;
    channel.basic_ack(copy.delivery.delivery_tag, BasicAckOptions::default()).await.unwrap();
    let (body, properties) = (copy.delivery.data.clone(), copy.delivery.properties.clone());
    assert!(!body.windows(9).any(|nine| nine == b"my secret"));

    // Sends it once more, as it was and changed; and something else.
    let send = |body: Vec<u8>, properties: lapin::BasicProperties| {
        let (channel, exchange, queue) = (channel.clone(), exchange.clone(), queue.clone());
        async move {
            let options = BasicPublishOptions::default();
            channel
                .basic_publish(exchange.as_str().into(), queue.as_str().into(), options, &body, properties)
                .await
                .unwrap();
        }
    };
    let mut forged = body.clone();
    *forged.last_mut().unwrap() ^= 1;
    send(body.clone(), properties.clone()).await;
    send(forged, properties.clone()).await;
    send(b"\0nonsense".to_vec(), lapin::BasicProperties::default()).await;
    // With an id that its station has not seen, it is not the one that was sealed.
    let other_id = uuid::Uuid::now_v7().to_string();
    send(body, properties.with_message_id(other_id.into())).await;

    let dead = field.name("remote.dead");
    let mut reasons = Vec::new();
    while reasons.len() < 3 {
        let letter = within("a dead letter", || async {
            channel.basic_get(dead.as_str().into(), BasicGetOptions { no_ack: true }).await.unwrap()
        })
        .await;
        let headers = letter.delivery.properties.headers().clone().unwrap();
        let reason = headers.inner().get("x-first-death-reason").cloned();
        reasons.push(reason.unwrap());
    }
    assert!(reasons.iter().all(|reason| *reason == AMQPValue::LongString("rejected".into())), "{reasons:?}");
    // Whatever came of the rest, it is dealt with before this.
    let last = field.add(Errand::Say("bye".into())).await;
    field.reaches(last, JobState::Done).await;
    assert_eq!(far.begun(), 2, "each job once");
    assert_eq!(field.ledger().await, 2);
    far.close().await;
    field.close().await;
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_nobody_takes_is_void_and_its_job_waits() {
    let Some(field) = Field::new().await else { return };
    let id = field.add(Errand::Say("hello".into())).await;
    field.noted("is there one for the lane").await;
    let (connection, channel) = field.stranger().await;
    let dead = field.name("remote.dead");
    let letter = within("the dead letter", || async {
        channel.basic_get(dead.as_str().into(), BasicGetOptions { no_ack: true }).await.unwrap()
    })
    .await;
    let headers = letter.delivery.properties.headers().clone().unwrap();
    assert_eq!(headers.inner().get("x-first-death-reason"), Some(&AMQPValue::LongString("expired".into())));
    let far = field.station(KEY).connected().await;
    let job = field.reaches(id, JobState::Done).await.job;
    assert_eq!((job.attempt, far.begun()), (1, 1));
    far.close().await;
    field.close().await;
    connection.close(200, "done".into()).await.unwrap();
}
