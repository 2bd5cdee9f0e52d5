//! Arguments with versions and with keys, between workers that know different ones.

use crate::scripted::{Bench, LANE, Shared, eventually};
use queue::admin::{self, JobState};
use queue::{
    Engine, EngineConfig, EnqueueError, Job, JobError, JobResult, KeyRing, NewJob, Outcome, Registry, Run,
    Running, Schedule,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

/// The kind `greet` as it was.
#[derive(Debug, Serialize, Deserialize)]
struct OldGreet {
    name: String,
}
impl Job for OldGreet {
    const KIND: &'static str = "greet";
    const LANE: &'static str = LANE;
}
impl Run<Shared> for OldGreet {
    async fn run(self, _: &Running, _: &Shared) -> JobResult {
        Ok(Outcome::DoneWith(json!({ "old": self.name })))
    }
}

/// And as it is.
#[derive(Debug, Serialize, Deserialize)]
struct Greet {
    names: Vec<String>,
}
impl Job for Greet {
    const KIND: &'static str = "greet";
    const LANE: &'static str = LANE;
    const VERSION: i16 = 2;
    fn upcast(_: i16, args: Value) -> Result<Value, anyhow::Error> {
        let name = args.get("name").ok_or_else(|| anyhow::anyhow!("no name"))?;
        Ok(json!({ "names": [name] }))
    }
}
impl Run<Shared> for Greet {
    async fn run(self, _: &Running, _: &Shared) -> JobResult {
        Ok(Outcome::DoneWith(json!({ "new": self.names })))
    }
}

/// Says what it knows: as a result, or as an error.
#[derive(Debug, Serialize, Deserialize)]
struct Tell {
    secret: String,
    aloud: bool,
}
impl Job for Tell {
    const KIND: &'static str = "tell";
    const LANE: &'static str = LANE;
    const ENCRYPTED: bool = true;
}
impl Run<Shared> for Tell {
    async fn run(self, _: &Running, shared: &Shared) -> JobResult {
        shared.refused.lock().unwrap().push(self.secret.clone());
        if self.aloud {
            return Err(JobError::GiveUp(anyhow::anyhow!("the peer says: no {} here", self.secret)));
        }
        Ok(Outcome::DoneWith(json!({ "echo": format!("<{}>", self.secret), "n": 1 })))
    }
}

/// Cannot be decoded, and panics over it.
#[derive(Debug, Serialize)]
struct Blunt {
    secret: String,
}
impl<'de> Deserialize<'de> for Blunt {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        panic!("what is {}?", Value::deserialize(from)?)
    }
}
impl Job for Blunt {
    const KIND: &'static str = "blunt";
    const LANE: &'static str = LANE;
    const MAX_ATTEMPTS: i16 = 1;
    const ENCRYPTED: bool = true;
}
impl Run<Shared> for Blunt {
    async fn run(self, _: &Running, _: &Shared) -> JobResult {
        Ok(Outcome::Done)
    }
}

/// Says its secret where a long text is cut.
#[derive(Debug, Serialize, Deserialize)]
struct Chatty {
    secret: String,
}
impl Job for Chatty {
    const KIND: &'static str = "chatty";
    const LANE: &'static str = LANE;
    const ENCRYPTED: bool = true;
}
impl Run<Shared> for Chatty {
    async fn run(self, _: &Running, _: &Shared) -> JobResult {
        Err(JobError::GiveUp(anyhow::anyhow!("{}{}", ".".repeat(3990), self.secret)))
    }
}

#[tokio::test]
async fn a_secret_is_not_told_by_a_panic_or_by_the_end_of_a_long_text() {
    let bench = Bench::new().await;
    let secret = || "hunter2-hunter2-hunter2".to_owned();
    let keys = || Some(ring(NEW));
    let blunt = bench.enqueue(NewJob { keys: keys(), ..NewJob::of(&Blunt { secret: secret() }) }).await;
    let chatty = bench.enqueue(NewJob { keys: keys(), ..NewJob::of(&Chatty { secret: secret() }) }).await;
    let registry = Bench::registry().job::<Blunt>().job::<Chatty>();
    let engine = start(&bench, registry, EngineConfig { keys: keys(), ..config() });
    for (id, outcome) in [(blunt, "panicked"), (chatty, "gave_up")] {
        let dead = bench.reaches(id, JobState::Dead).await;
        assert_eq!(dead.attempts[0].outcome, outcome);
        let told = format!("{dead:?}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    engine.shutdown(Duration::from_secs(5)).await;
}

fn config() -> EngineConfig {
    EngineConfig { give_back: Duration::from_millis(50), ..Bench::patient() }
}

fn start(bench: &Bench, registry: Registry<Shared>, config: EngineConfig) -> Engine {
    Engine::start(bench.pool(), registry, bench.shared.clone(), config)
}

fn ring(text: &str) -> KeyRing {
    text.parse().unwrap()
}

const OLD: &str = "old:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
const NEW: &str =
    "new:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=,old:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn tell(secret: &str, aloud: bool, keys: &str) -> NewJob {
    NewJob { keys: Some(ring(keys)), ..NewJob::of(&Tell { secret: secret.to_owned(), aloud }) }
}

#[tokio::test]
async fn old_arguments_are_understood_and_new_ones_are_left_to_new_workers() {
    let bench = Bench::new().await;
    let before = bench.enqueue(NewJob::of(&OldGreet { name: "Ada".into() })).await;
    let after = bench.enqueue(NewJob::of(&Greet { names: vec!["Ada".into(), "Bob".into()] })).await;
    let old = start(&bench, Bench::registry().job::<OldGreet>(), config());
    assert_eq!(bench.reaches(before, JobState::Done).await.job.result, Some(json!({"old": "Ada"})));
    // Seen again and again by the old worker, and not burned.
    let seen = eventually("it to be given back", || async {
        Some(bench.show(after).await).filter(|job| job.job.error.is_some())
    })
    .await;
    assert!(seen.job.error.as_deref().unwrap().contains("of version 2, and this worker knows 1"), "{seen:?}");
    let before = bench.enqueue(NewJob::of(&OldGreet { name: "Cy".into() })).await;
    bench.reaches(before, JobState::Done).await;
    // A new one beside it.
    let new = start(&bench, Bench::registry().job::<Greet>(), config());
    let done = bench.reaches(after, JobState::Done).await;
    assert_eq!(
        (done.job.result, done.job.attempt, done.attempts.len()),
        (Some(json!({"new": ["Ada", "Bob"]})), 1, 1)
    );
    old.shutdown(Duration::from_secs(5)).await;
    let before = bench.enqueue(NewJob::of(&OldGreet { name: "Dee".into() })).await;
    assert_eq!(bench.reaches(before, JobState::Done).await.job.result, Some(json!({"new": ["Dee"]})));
    // What an upcaster cannot make sense of is a dead letter.
    let broken = NewJob { args: json!({}), ..NewJob::of(&OldGreet { name: String::new() }) };
    let dead = bench.enqueue(broken).await;
    let dead = bench.reaches(dead, JobState::Dead).await;
    assert!(dead.job.error.as_deref().unwrap().contains("from version 1: no name"), "{dead:?}");
    new.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn secret_arguments_are_nowhere_to_be_read() {
    let bench = Bench::new().await;
    let (quiet, loud) = ("hunter2-quiet", "hunter2-loud");
    let mut tx = bench.pool().begin().await.unwrap();
    let ids = queue::enqueue(&mut tx, &[tell(quiet, false, NEW), tell(loud, true, NEW)]).await.unwrap();
    // Not decodable: serde would quote it.
    let odd = NewJob { args: json!({"secret": {"is": "hunter2-odd"}}), ..tell("", false, NEW) };
    let odd = queue::enqueue(&mut tx, &[odd]).await.unwrap()[0];
    tx.commit().await.unwrap();
    assert_eq!(bench.show(ids[0]).await.job.args, Some(json!("(encrypted)")));
    let registry = || Bench::registry().job::<Tell>();
    let engine = start(&bench, registry(), EngineConfig { keys: Some(ring(NEW)), ..config() });
    let done = bench.reaches(ids[0], JobState::Done).await;
    assert_eq!(done.job.result, Some(json!({"echo": "<(encrypted)>", "n": 1})));
    let dead = bench.reaches(ids[1], JobState::Dead).await;
    assert_eq!(dead.job.error.as_deref(), Some("the peer says: no (encrypted) here"));
    let dead = bench.reaches(odd, JobState::Dead).await;
    assert_eq!(dead.attempts[0].outcome, "undecodable");
    let mut told = bench.shared.refused.lock().unwrap().clone();
    told.sort();
    assert_eq!(told, [loud, quiet], "the handlers know");
    for table in ["jobs", "history", "attempts"] {
        let rows: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select t::text from queue.{table} t")))
                .fetch_all(&mut bench.db.owner().await)
                .await
                .unwrap();
        assert!(rows.iter().all(|row| !row.contains("hunter2")), "{table}: {rows:?}");
    }
    let shown = format!("{:?}", tell(quiet, false, NEW));
    assert!(!shown.contains("hunter2"), "{shown}");
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn keys_are_rotated_while_jobs_wait() {
    let bench = Bench::new().await;
    let old = bench.enqueue(tell("of old", false, OLD)).await;
    let new = bench.enqueue(tell("of new", false, NEW)).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    let sealed = admin::sealed_jobs(&mut connection).await.unwrap();
    assert_eq!(sealed, [("new".to_owned(), 1), ("old".to_owned(), 1)]);
    // A process that was not told of the new key yet leaves its jobs to others.
    let registry = || Bench::registry().job::<Tell>();
    let late = start(&bench, registry(), EngineConfig { keys: Some(ring(OLD)), ..config() });
    bench.reaches(old, JobState::Done).await;
    let seen = eventually("it to be given back", || async {
        Some(bench.show(new).await).filter(|job| job.job.error.is_some())
    })
    .await;
    assert!(seen.job.error.as_deref().unwrap().contains("key new"), "{seen:?}");
    let ahead = start(&bench, registry(), EngineConfig { keys: Some(ring(NEW)), ..config() });
    let done = bench.reaches(new, JobState::Done).await;
    assert_eq!((done.job.attempt, done.attempts.len()), (1, 1));
    // Arguments of another job are a dead letter, at once.
    late.shutdown(Duration::from_secs(5)).await;
    let mut tx = bench.pool().begin().await.unwrap();
    let ids = queue::enqueue(&mut tx, &[tell("mine", false, NEW), tell("yours", false, NEW)]).await.unwrap();
    sqlx::query("update queue.jobs set args = (select args from queue.jobs where id = $2) where id = $1")
        .bind(ids[0].0)
        .bind(ids[1].0)
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let dead = bench.reaches(ids[0], JobState::Dead).await;
    assert!(dead.job.error.as_deref().unwrap().contains("cannot be opened"), "{dead:?}");
    bench.reaches(ids[1], JobState::Done).await;
    ahead.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn nothing_secret_is_enqueued_without_a_key() {
    let bench = Bench::new().await;
    let mut tx = bench.pool().begin().await.unwrap();
    let error = queue::enqueue(&mut tx, &[tell("x", false, "")]).await.unwrap_err();
    assert!(
        matches!(error, EnqueueError::Seal { .. }) && error.to_string().contains("RELAYDESK_JOB_KEYS"),
        "{error}"
    );
    let schedule =
        Schedule::every("daily", Duration::from_secs(60), &Tell { secret: "x".into(), aloud: false });
    assert!(schedule.validate().unwrap_err().to_string().contains("clear text"));
    assert!(queue::schedules::upsert(&mut tx, &schedule).await.is_err());
}
