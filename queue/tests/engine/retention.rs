//! How long the history of a kind is kept, and how what is over its time goes.

use crate::scripted::{Bench, LANE, Scripted, Shared, Step, eventually};
use queue::admin::{self, JobState};
use queue::{
    Backoff, Engine, Job, JobId, JobResult, Keep, NewJob, Outcome, Registry, Retention, Run, Running,
};
use serde::{Deserialize, Serialize};
use sqlx::Connection;
use std::time::Duration;

/// A tick.
#[derive(Serialize, Deserialize)]
struct Fleeting {}
impl Job for Fleeting {
    const KIND: &'static str = "fleeting";
    const LANE: &'static str = LANE;
    const RETENTION: Retention = Retention::Short;
}
impl Run<Shared> for Fleeting {
    async fn run(self, _: &Running, _: &Shared) -> JobResult {
        Ok(Outcome::Done)
    }
}

/// What is asked for months later; the first attempt fails.
#[derive(Serialize, Deserialize)]
struct Evidence {}
impl Job for Evidence {
    const KIND: &'static str = "evidence";
    const LANE: &'static str = LANE;
    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(5), max: Duration::from_millis(5) };
    const RETENTION: Retention = Retention::Long;
}
impl Run<Shared> for Evidence {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        if job.attempt == 1 {
            return Err(anyhow::anyhow!("not yet").into());
        }
        let mut tx = shared.pool.begin().await?;
        job.complete_in(&mut tx).await?;
        tx.commit().await?;
        Ok(Outcome::Done)
    }
}

fn start(bench: &Bench) -> Engine {
    let registry: Registry<Shared> = Bench::registry().job::<Fleeting>().job::<Evidence>();
    Engine::start(bench.pool(), registry, bench.shared.clone(), Bench::patient())
}

/// The partition in which a job ended, without its time.
async fn shelf(bench: &Bench, table: &'static str, id: JobId) -> Vec<String> {
    let sql = if table == "history" {
        "select regexp_replace(tableoid::regclass::text, '_[0-9]{8}$', '') from queue.history where id = $1"
    } else {
        "select regexp_replace(tableoid::regclass::text, '_[0-9]{8}$', '') from queue.attempts where job_id = $1"
    };
    sqlx::query_scalar(sql).bind(id.0).fetch_all(&mut bench.db.owner().await).await.unwrap()
}

#[tokio::test]
async fn each_kind_leaves_its_history_where_it_is_kept_as_long_as_it_says() {
    let bench = Bench::new().await;
    let engine = start(&bench);
    let (tick, usual) = (bench.enqueue(NewJob::of(&Fleeting {})).await, bench.add(&[Step::Done]).await);
    let evidence = bench.enqueue(NewJob::of(&Evidence {})).await;
    for id in [tick, usual, evidence] {
        bench.reaches(id, JobState::Done).await;
    }
    assert_eq!(shelf(&bench, "history", tick).await, ["queue.history_short"]);
    assert_eq!(shelf(&bench, "history", usual).await, ["queue.history_normal"]);
    assert_eq!(shelf(&bench, "history", evidence).await, ["queue.history_long"]);
    assert_eq!(shelf(&bench, "attempts", evidence).await, ["queue.attempts_long"]);
    // Many that end alike have a statement of their own.
    let mut tx = bench.pool().begin().await.unwrap();
    let many: Vec<NewJob> = (0..200).map(|_| NewJob::of(&Fleeting {})).collect();
    let many = queue::enqueue(&mut tx, &many).await.unwrap();
    tx.commit().await.unwrap();
    for id in many {
        bench.reaches(id, JobState::Done).await;
    }
    assert_eq!(bench.count("select count(*) from queue.history_short").await, 201);
    // What people put away is kept as what ended by itself, with what they did.
    let waiting = bench.enqueue(NewJob::of(&Evidence {}).after(Duration::from_secs(3600))).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    admin::cancel(&mut connection, waiting, None, &admin::Note::by("ada")).await.unwrap();
    assert_eq!(shelf(&bench, "history", waiting).await, ["queue.history_long"]);
    assert_eq!(shelf(&bench, "attempts", waiting).await, ["queue.attempts_long"]);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_operator_keeps_a_kind_for_another_time() {
    let bench = Bench::new().await;
    let engine = start(&bench);
    let before = bench.enqueue(NewJob::of(&Fleeting {})).await;
    bench.reaches(before, JobState::Done).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    assert!(admin::set_retention(&mut connection, "fleeting", Some(Retention::Long)).await.unwrap());
    assert!(!admin::set_retention(&mut connection, "unheard_of", None).await.unwrap());
    let kinds = admin::kinds(&mut connection).await.unwrap();
    let fleeting = kinds.iter().find(|kind| kind.name == "fleeting").unwrap();
    assert_eq!((fleeting.retention, fleeting.in_force()), (Retention::Short, Retention::Long));
    // Workers know it with their next heartbeat.
    eventually("one that is kept long", || async {
        let id = bench.enqueue(NewJob::of(&Fleeting {})).await;
        bench.reaches(id, JobState::Done).await;
        (shelf(&bench, "history", id).await == ["queue.history_long"]).then_some(())
    })
    .await;
    assert_eq!(
        shelf(&bench, "history", before).await,
        ["queue.history_short"],
        "what is over stays where it is"
    );
    admin::set_retention(&mut connection, "fleeting", None).await.unwrap();
    eventually("one that is kept short again", || async {
        let id = bench.enqueue(NewJob::of(&Fleeting {})).await;
        bench.reaches(id, JobState::Done).await;
        (shelf(&bench, "history", id).await == ["queue.history_short"]).then_some(())
    })
    .await;
    engine.shutdown(Duration::from_secs(5)).await;
}

/// Partitions of long ago, one row in each.
const OLD: &str = "
    create table queue.history_short_20200101 partition of queue.history_short for values from ('2020-01-01 00:00+00') to ('2020-01-02 00:00+00');
    create table queue.history_normal_20200101 partition of queue.history_normal for values from ('2020-01-01 00:00+00') to ('2020-01-02 00:00+00');
    create table queue.history_long_20200101 partition of queue.history_long for values from ('2020-01-01 00:00+00') to ('2020-02-01 00:00+00');
    create table queue.attempts_normal_20200101 partition of queue.attempts_normal for values from ('2020-01-01 00:00+00') to ('2020-01-02 00:00+00');
    insert into queue.history (id, finished_at, due_at, priority, attempt, max_attempts, retention, outcome, lane, kind)
    select gen_random_uuid(), '2020-01-01 12:00+00', '2020-01-01 12:00+00', 0, 1, 1, n, 'done', 'default', 'old' from generate_series(1, 3) n;
    insert into queue.attempts (job_id, attempt, run, finished_at, outcome, error)
    values (gen_random_uuid(), 1, 1, '2020-01-01 12:00+00', 'failed', '')";
const OLD_ONES: &str = "select count(*) from pg_class where relname ~ '^(history|attempts)_[a-z]+_20200101$'";

#[tokio::test]
async fn what_is_over_its_time_goes_with_its_partition_and_new_ones_are_made_ahead() {
    let bench = Bench::new().await;
    sqlx::raw_sql(OLD).execute(&mut bench.db.owner().await).await.unwrap();
    let engine = bench.start();
    eventually("the old partitions to be dropped", || async {
        (bench.count(OLD_ONES).await == 0).then_some(())
    })
    .await;
    let ahead = "select count(*) from pg_class where relname ~ '^history_normal_[0-9]{8}$' \
                 and to_date(right(relname, 8), 'YYYYMMDD') > (now() at time zone 'UTC')::date";
    assert!(bench.count(ahead).await >= 6);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn nobody_who_works_waits_for_somebody_who_reads_what_is_to_be_dropped() {
    let bench = Bench::new().await;
    let mut reader = bench.db.owner().await;
    sqlx::raw_sql(OLD).execute(&mut reader).await.unwrap();
    // A sign that the pruner has passed by: a later step takes it away.
    let sign = "insert into queue.unique_windows values ('k', null, 'sign', gen_random_uuid(), '2020-01-01')";
    sqlx::raw_sql(sign).execute(&mut reader).await.unwrap();
    let mut report = reader.begin().await.unwrap();
    sqlx::query("select count(*) from queue.history").execute(&mut *report).await.unwrap();
    sqlx::query("select count(*) from queue.attempts").execute(&mut *report).await.unwrap();
    let engine = start(&bench);
    eventually("the pruner to go on", || async {
        let id = bench.enqueue(NewJob::of(&Evidence {})).await;
        bench.reaches(id, JobState::Done).await;
        (bench.count("select count(*) from queue.unique_windows").await == 0).then_some(())
    })
    .await;
    assert_eq!(bench.count(OLD_ONES).await, 4);
    engine.shutdown(Duration::from_secs(5)).await;
    report.rollback().await.unwrap();
    let engine = start(&bench);
    eventually("the old partitions to be dropped", || async {
        (bench.count(OLD_ONES).await == 0).then_some(())
    })
    .await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_found_no_partition_is_seen_and_goes_when_all_of_it_is_over() {
    let bench = Bench::new().await;
    let mut owner = bench.db.owner().await;
    let today = "do $$ begin
          execute format('drop table queue.history_normal_%s', to_char(now() at time zone 'UTC', 'YYYYMMDD'));
          execute format('drop table queue.history_normal_%s', to_char((now() + interval '1 day') at time zone 'UTC', 'YYYYMMDD'));
        end $$";
    sqlx::raw_sql(today).execute(&mut owner).await.unwrap();
    let early = "insert into queue.history (id, finished_at, due_at, priority, attempt, max_attempts, outcome, lane, kind)
                 select gen_random_uuid(), now() + n * interval '1 day', now(), 0, 1, 1, 'done', 'default', 'early'
                 from generate_series(0, 1) n";
    sqlx::raw_sql(early).execute(&mut owner).await.unwrap();
    let engine = bench.start();
    let late = bench.add(&[Step::Done]).await;
    bench.reaches(late, JobState::Done).await;
    assert_eq!(shelf(&bench, "history", late).await, ["queue.history_normal_rest"]);
    engine.shutdown(Duration::from_secs(5)).await;
    let aged = "update queue.history_normal_rest set finished_at = finished_at - interval '20 days'";
    sqlx::raw_sql(aged).execute(&mut owner).await.unwrap();
    let engine = bench.start();
    eventually("the rest to be emptied", || async {
        (bench.count("select count(*) from queue.history_normal_rest").await == 0).then_some(())
    })
    .await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_dead_letter_that_nobody_wanted_is_put_away_and_the_history_tells() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let (old, young) = (bench.add(&[Step::GiveUp]).await, bench.add(&[Step::GiveUp]).await);
    for id in [old, young] {
        bench.reaches(id, JobState::Dead).await;
    }
    engine.shutdown(Duration::from_secs(5)).await;
    let mut owner = bench.db.owner().await;
    sqlx::query("update queue.jobs set due_at = due_at - interval '2 days' where id = $1")
        .bind(old.0)
        .execute(&mut owner)
        .await
        .unwrap();
    let keep = Keep { dead: Duration::from_secs(86_400), ..Keep::default() };
    let engine = bench.start_with(queue::EngineConfig { keep, ..Bench::patient() });
    let job = bench.reaches(old, JobState::Discarded).await;
    assert_eq!(job.attempts[0].outcome, "gave_up");
    assert_eq!(bench.show(young).await.job.state, JobState::Dead);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn however_many_windows_are_over_all_of_them_go() {
    let bench = Bench::new().await;
    let many = "insert into queue.unique_windows
                select 'scripted', null, n::text, gen_random_uuid(), now() - interval '1 second' from generate_series(1, 110000) n";
    sqlx::raw_sql(many).execute(&mut bench.db.owner().await).await.unwrap();
    let shut = NewJob::of(&Scripted { steps: vec![Step::Done] })
        .unique("shut", queue::Unique::Within(Duration::from_secs(3600)));
    bench.enqueue(shut).await;
    let engine = bench.start_with(Bench::patient());
    eventually("the windows to go", || async {
        (bench.count("select count(*) from queue.unique_windows").await == 1).then_some(())
    })
    .await;
    engine.shutdown(Duration::from_secs(5)).await;
}
