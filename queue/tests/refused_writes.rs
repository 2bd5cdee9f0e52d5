//! What the database refuses to write of one job costs the others of its round nothing. Alone in its process, because it looks at a
//! counter of the process.

use queue::{
    Engine, EngineConfig, Job, JobResult, LaneConfig, NewJob, Outcome, Registry, Run, Running, admin,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::time::{Duration, Instant};

/// Ends with a result when it says something.
#[derive(Serialize, Deserialize)]
struct Say {
    word: Option<String>,
}
impl Job for Say {
    const KIND: &'static str = "say";
    const LANE: &'static str = "default";
}
impl Run<()> for Say {
    async fn run(self, _: &Running, _: &()) -> JobResult {
        Ok(match self.word {
            Some(word) => Outcome::DoneWith(json!(word)),
            None => Outcome::Done,
        })
    }
}

fn fenced() -> u64 {
    let families = prometheus::gather();
    let family = families.iter().find(|family| family.name() == "relaydesk_job_fenced_total");
    family.map_or(0, |family| family.get_metric()[0].get_counter().get_value() as u64)
}

#[tokio::test]
async fn those_of_the_same_round_are_written_once_and_taken_for_nobody_elses() {
    let db = testkit::database().await;
    let mut owner = db.owner().await;
    sqlx::raw_sql(
        "create function refuse() returns trigger language plpgsql as $$ begin
           if new.result::text = '\"unspeakable\"' then raise exception 'unspeakable' using errcode = '22000'; end if;
           return new;
         end $$;
         create trigger refuse before insert on queue.history for each row execute function refuse()",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    let pool = db.db.pool();
    let mut jobs = Vec::new();
    for _ in 0..30 {
        jobs.extend((0..20).map(|_| NewJob::of(&Say { word: None })));
        jobs.push(NewJob::of(&Say { word: Some("hello".into()) }));
        jobs.push(NewJob::of(&Say { word: Some("unspeakable".into()) }));
    }
    let mut tx = pool.begin().await.unwrap();
    queue::enqueue(&mut tx, &jobs).await.unwrap();
    tx.commit().await.unwrap();
    let config = EngineConfig {
        lanes: vec![LaneConfig::new("default", 200)],
        lease: Duration::from_secs(120),
        ..EngineConfig::default()
    };
    let engine = Engine::start(pool, Registry::new().job::<Say>(), (), config);
    let started = Instant::now();
    let dead = loop {
        let left: i64 = sqlx::query_scalar("select count(*) from queue.jobs where state <> 'dead'")
            .fetch_one(&mut owner)
            .await
            .unwrap();
        if left == 0 {
            let dead = admin::Filter { state: Some(admin::JobState::Dead), ..admin::Filter::default() };
            let mut connection = pool.acquire().await.unwrap();
            break admin::list(&mut connection, &dead, None, None, 200).await.unwrap().items;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{left} jobs are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(dead.len(), 30);
    assert!(dead.iter().all(|job| job.error.as_ref().unwrap().contains("could not be written")));
    let done: i64 = sqlx::query_scalar("select count(*) from queue.history where outcome = 'done'")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(done, 30 * 21);
    assert_eq!(fenced(), 0, "what was written was taken for what others had taken away");
    engine.shutdown(Duration::from_secs(10)).await;
}
