//! How far jobs are, as those hear it who follow them.

use crate::scripted::{Bench, LANE, Shared, Step, eventually};
use queue::admin::{self, JobState, News};
use queue::{Backoff, Job, JobError, JobId, JobResult, NewJob, Outcome, Registry, Run, Running};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::Connection;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Says how far it is, and waits for the gate before each of its ends: it fails, and then is done.
#[derive(Serialize, Deserialize)]
struct Telling {
    keeps: bool,
}
impl Job for Telling {
    const KIND: &'static str = "telling";
    const LANE: &'static str = LANE;
    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_millis(40) };
}
impl Run<Shared> for Telling {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let progress = json!({"attempt": job.attempt});
        if self.keeps {
            job.progress(&mut *shared.pool.acquire().await?, &progress).await?;
        } else {
            job.report(&progress);
        }
        shared.gate.acquire().await?.forget();
        if job.attempt == 1 {
            return Err(JobError::RetryIn(Duration::from_millis(10), anyhow::anyhow!("once more")));
        }
        if !self.keeps {
            return Ok(Outcome::DoneWith(json!("said")));
        }
        let mut tx = shared.pool.begin().await?;
        job.complete_with(&mut tx, &json!("said")).await?;
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}

/// Says how far it is as fast as it can, then ends.
#[derive(Serialize, Deserialize)]
struct Chatty {
    words: u64,
}
impl Job for Chatty {
    const KIND: &'static str = "chatty";
    const LANE: &'static str = LANE;
}
impl Run<Shared> for Chatty {
    async fn run(self, job: &Running, _: &Shared) -> JobResult {
        for word in 1..=self.words {
            job.report(&json!(word));
            if word.is_multiple_of(1000) {
                tokio::task::yield_now().await;
            }
        }
        Ok(Outcome::Done)
    }
}

fn registry() -> Registry<Shared> {
    Bench::registry().job::<Telling>().job::<Chatty>()
}

async fn news(bench: &Bench, organization: Option<Uuid>) -> Vec<News> {
    let mut connection = bench.pool().acquire().await.unwrap();
    let since = chrono::DateTime::UNIX_EPOCH;
    admin::news(&mut connection, organization, Some(since)).await.unwrap()
}

async fn says(bench: &Bench, job: JobId, state: JobState, progress: Value, result: Option<Value>) {
    eventually(&format!("{job} to be {state} at {progress} with {result:?}"), || async {
        let news = news(bench, None).await.into_iter().find(|news| news.job == job)?;
        (news.state == state && news.progress.as_ref() == Some(&progress) && news.result == result)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_jobs_say_and_how_they_end_can_be_followed() {
    let bench = Bench::new().await;
    let (engine, _) = bench.start_other_with(registry(), Bench::patient());
    let organization = Uuid::now_v7();
    let mut quiet =
        vec![bench.add(&[Step::Done]).await, bench.add(&[Step::Fail("no".into()), Step::Done]).await];
    for keeps in [true, false] {
        let id = bench.enqueue(NewJob::of(&Telling { keeps }).organization(organization)).await;
        says(&bench, id, JobState::Running, json!({"attempt": 1}), None).await;
        bench.shared.gate.add_permits(1);
        says(&bench, id, JobState::Running, json!({"attempt": 2}), None).await;
        bench.shared.gate.add_permits(1);
        says(&bench, id, JobState::Done, json!({"attempt": 2}), Some(json!("said"))).await;
    }
    // A result alone is told as well.
    let id = bench.add(&[Step::DoneWith("only".into())]).await;
    eventually("the result to be told", || async {
        let news = news(&bench, None).await.into_iter().find(|news| news.job == id)?;
        (news.result == Some(json!({"said": "only"}))).then_some(())
    })
    .await;
    for id in &quiet {
        bench.reaches(*id, JobState::Done).await;
    }
    let told = news(&bench, None).await;
    quiet.retain(|id| told.iter().any(|news| news.job == *id));
    assert_eq!((told.len(), quiet), (3, vec![]), "only of those that say something: {told:?}");
    assert_eq!(news(&bench, Some(organization)).await.len(), 2);
    assert_eq!(news(&bench, Some(Uuid::now_v7())).await, []);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_chatty_job_does_not_flood_the_database() {
    let bench = Bench::new().await;
    // Counts the statements that write, and those that notify.
    sqlx::raw_sql(
        "create table written (what text); grant all on written to relaydesk_app;
         create function count_written() returns trigger language plpgsql as
           $$ begin insert into public.written values (tg_table_name); return null; end $$;
         create trigger counted after insert or update on queue.news for each statement execute function count_written();
         create trigger counted after update of progress on queue.jobs for each statement execute function count_written()",
    )
    .execute(&mut bench.db.owner().await)
    .await
    .unwrap();
    let (engine, _) = bench.start_other_with(registry(), Bench::patient());
    let begun = Instant::now();
    let words = 200_000;
    let ids = [
        bench.enqueue(NewJob::of(&Chatty { words })).await,
        bench.enqueue(NewJob::of(&Chatty { words })).await,
    ];
    for id in ids {
        let job = bench.reaches(id, JobState::Done).await.job;
        assert_eq!(job.progress, Some(json!(words)), "the last word is kept with it");
        says(&bench, id, JobState::Done, json!(words), None).await;
    }
    engine.shutdown(Duration::from_secs(5)).await;
    // Four ticks a second with a statement or two each, and some at the ends.
    let bound = 2 * (begun.elapsed().as_secs_f64() * 5.0) as i64 + 20;
    let written = bench.count("select count(*) from written").await;
    assert!((1..=bound).contains(&written), "{written} statements for {} words", 2 * words);
}

#[tokio::test]
async fn the_end_of_a_job_whose_process_died_is_told() {
    let bench = Bench::new().await;
    let (engine, _) = bench.start_other_with(registry(), Bench::patient());
    let id = bench.enqueue(NewJob::of(&Telling { keeps: true })).await;
    says(&bench, id, JobState::Running, json!({"attempt": 1}), None).await;
    engine.abort();
    let told = news(&bench, None).await[0].changed_at;
    // As when its worker is taken for lost and nobody can run it again.
    sqlx::query("update queue.jobs set worker = null, run = run + 1, state = 'dead', last_error = 'lost' where id = $1")
        .bind(id.0)
        .execute(&mut bench.db.owner().await)
        .await
        .unwrap();
    let other = bench.start();
    let news = eventually("the leader to see it", || async {
        news(&bench, None).await.into_iter().find(|news| news.changed_at > told)
    })
    .await;
    assert_eq!((news.state, news.error.as_deref()), (JobState::Dead, Some("lost")));
    other.shutdown(Duration::from_secs(5)).await;
}

/// A transaction in which a handler keeps its progress may be open for long: nobody waits for it, and nobody is told before it is true.
#[tokio::test]
async fn what_is_not_committed_is_not_told() {
    let bench = Bench::new().await;
    let (engine, _) = bench.start_other_with(registry(), Bench::patient());
    let silent = bench.enqueue(NewJob::of(&Telling { keeps: false })).await;
    says(&bench, silent, JobState::Running, json!({"attempt": 1}), None).await;
    // Somebody holds the row while the handler reports on.
    let mut owner = bench.db.owner().await;
    let mut tx = owner.begin().await.unwrap();
    sqlx::query("update queue.jobs set progress = '\"not yet\"' where id = $1")
        .bind(silent.0)
        .execute(&mut *tx)
        .await
        .unwrap();
    let other = bench.enqueue(NewJob::of(&Telling { keeps: false })).await;
    says(&bench, other, JobState::Running, json!({"attempt": 1}), None).await;
    says(&bench, silent, JobState::Running, json!({"attempt": 1}), None).await;
    tx.commit().await.unwrap();
    says(&bench, silent, JobState::Running, json!("not yet"), None).await;
    bench.shared.gate.add_permits(4);
    for id in [silent, other] {
        bench.reaches(id, JobState::Done).await;
    }
    engine.shutdown(Duration::from_secs(5)).await;
}
