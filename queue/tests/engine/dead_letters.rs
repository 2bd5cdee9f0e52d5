//! Dead letters and other jobs in numbers: found by filters, mended, done again, put away.

use crate::scripted::{Bench, Hasty, LANE, OTHER_LANE, Scripted, Step};
use crate::yard::Call;
use queue::admin::{self, AdminError, Bulk, Cursor, Death, Filter, JobState, Note, Verb};
use queue::{ArgsError, Catalogue, Job, JobId, NewJob, Unique};
use serde_json::json;
use sqlx::PgConnection;
use std::collections::BTreeSet;
use std::time::Duration;
use uuid::Uuid;

fn note() -> Note {
    Note::by("ada").because(Some("the relay is back".to_owned()))
}

/// All of it; answers how many jobs were changed.
pub async fn work(connection: &mut PgConnection, verb: Verb, filter: Filter) -> i64 {
    let bulk = Bulk::new(connection, verb, filter, note()).await.unwrap();
    let would = bulk.count(connection, None).await.unwrap();
    let changed = finish(connection, &bulk, None).await;
    assert_eq!((would.jobs, would.more), (changed, false), "the dry run says what is done");
    changed
}

pub async fn finish(connection: &mut PgConnection, bulk: &Bulk, organization: Option<Uuid>) -> i64 {
    let (mut cursor, mut changed) = (Cursor::default(), 0);
    while !cursor.is_over {
        changed += bulk.step(connection, organization, &mut cursor).await.unwrap().jobs;
    }
    changed
}

/// Jobs as they lie in the table after a bad night.
async fn lay(bench: &Bench, how_many: i32, organization: Option<Uuid>, state: &str, error: &str) {
    sqlx::query(
        "insert into queue.jobs (id, organization_id, due_at, rank, state, max_attempts, attempt, lane, kind, last_error, died_of, args)
         select ('0190' || substr(md5(random()::text), 1, 8) || '7' || substr(md5(random()::text), 1, 3) || '8' || substr(md5(random()::text), 1, 15))::uuid,
                $2, clock_timestamp() - interval '1 hour', clock_timestamp() - interval '1 hour', $3::queue.state, 4, 4,
                case when n % 5 = 0 then $6 else $5 end, $7, $4, case when $3 = 'dead' then 'exhausted' end, '{\"steps\":[\"Done\"]}'
         from generate_series(1, $1) n",
    )
    .bind(how_many)
    .bind(organization)
    .bind(state)
    .bind(error)
    .bind(LANE)
    .bind(OTHER_LANE)
    .bind(Scripted::KIND)
    .execute(&mut bench.db.owner().await)
    .await
    .unwrap();
}

async fn found(connection: &mut PgConnection, filter: Filter) -> BTreeSet<JobId> {
    let page = admin::list(connection, &filter, None, None, 200).await.unwrap();
    page.items.into_iter().map(|job| job.id).collect()
}

#[tokio::test]
async fn dead_letters_are_found_by_what_they_died_of_and_said_and_when() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let gave_up = bench.add(&[Step::GiveUp]).await;
    let exhausted = bench.add(&[Step::Fail("connection Timed OUT at 50%".into())]).await;
    let timeout = bench.enqueue(NewJob::of(&Hasty { steps: vec![Step::Hang] })).await;
    let panicked = bench.enqueue(NewJob::of(&Hasty { steps: vec![Step::Panic] })).await;
    let torn = NewJob { args: json!({"steps": "none"}), ..NewJob::of(&Scripted { steps: vec![] }) };
    let undecodable = bench.enqueue(torn).await;
    let rolled_back =
        bench.enqueue(NewJob::of(&Scripted { steps: vec![Step::RolledBackEffect] }).max_attempts(1)).await;
    let all = [gave_up, exhausted, timeout, panicked, undecodable, rolled_back];
    for id in all {
        bench.reaches(id, JobState::Dead).await;
    }
    engine.shutdown(Duration::from_secs(5)).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    let reasons = [
        (Death::GaveUp, gave_up),
        (Death::Exhausted, exhausted),
        (Death::Timeout, timeout),
        (Death::Panicked, panicked),
        (Death::Undecodable, undecodable),
        (Death::RolledBack, rolled_back),
    ];
    for (reason, id) in reasons {
        let filter = Filter { reason: Some(reason), ..Filter::default() };
        assert_eq!(found(&mut connection, filter).await, [id].into(), "{reason:?}");
        assert_eq!(bench.show(id).await.job.reason.as_deref(), Some(reason.as_str()));
    }
    let said = |text: &str| Filter { error: Some(text.to_owned()), ..Filter::default() };
    assert_eq!(found(&mut connection, said("timed out at 50%")).await, [exhausted].into());
    assert_eq!(found(&mut connection, said("timed_out")).await, [].into(), "no pattern, a text");
    let died = bench.show(timeout).await.job.due_at;
    let since = Filter { finished_since: Some(died), state: Some(JobState::Dead), ..Filter::default() };
    let until = Filter { finished_until: Some(died), state: Some(JobState::Dead), ..Filter::default() };
    let (late, early) = (found(&mut connection, since).await, found(&mut connection, until).await);
    assert!(late.contains(&timeout) && !early.contains(&timeout));
    assert_eq!(late.union(&early).count(), all.len());
    let born = bench.show(undecodable).await.job.created_at;
    let young = Filter { enqueued_since: Some(born), ..Filter::default() };
    let old = Filter { enqueued_until: Some(born), ..Filter::default() };
    let (young, old) = (found(&mut connection, young).await, found(&mut connection, old).await);
    assert!(young.contains(&undecodable) && young.contains(&rolled_back) && old.contains(&gave_up));
    assert!(young.is_disjoint(&old));
}

#[tokio::test]
async fn a_dead_letter_is_mended_and_its_trail_tells() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let id = bench.add(&[Step::GiveUp]).await;
    bench.reaches(id, JobState::Dead).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    let kinds = Catalogue::new().kind::<Scripted>();
    let wrong = [json!({"steps": "Done"}), json!({}), json!({"steps": ["Done"], "step": 1})];
    for args in wrong {
        let refused = admin::edit(&mut connection, &kinds, id, None, &args, &note()).await;
        assert!(matches!(refused, Err(AdminError::Args(_))), "{args}: {refused:?}");
    }
    let unknown = admin::edit(&mut connection, &Catalogue::new(), id, None, &json!({}), &note()).await;
    assert!(matches!(unknown, Err(AdminError::Args(ArgsError::UnknownKind(_)))), "{unknown:?}");
    assert_eq!(bench.show(id).await.job.state, JobState::Dead, "nothing was changed");

    admin::edit(&mut connection, &kinds, id, None, &json!({"steps": ["Done"]}), &note()).await.unwrap();
    let job = bench.reaches(id, JobState::Done).await;
    let trail: Vec<_> = job.attempts.iter().map(|a| (a.outcome.as_str(), a.attempt)).collect();
    assert_eq!(trail, [("gave_up", 1), ("edited", 1), ("done", 1)]);
    let edited = &job.attempts[1];
    assert_eq!((edited.actor.as_deref(), edited.error.as_deref()), (Some("ada"), Some("the relay is back")));
    assert_eq!(edited.args, Some(json!({"steps": ["GiveUp"]})), "the arguments as they were");
    assert_eq!(job.job.args, Some(json!({"steps": ["Done"]})));
    assert!(job.job.queue_wait_ms.is_some());
    engine.shutdown(Duration::from_secs(5)).await;
}

/// What a limit counts a job by comes from its arguments.
#[tokio::test]
async fn other_arguments_have_another_limit_key() {
    let bench = Bench::new().await;
    let id = bench.enqueue(NewJob::of(&Call { key: "a".into() }).after(Duration::from_secs(3600))).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    let kinds = Catalogue::new().kind::<Call>();
    admin::edit(&mut connection, &kinds, id, None, &json!({"key": "b"}), &note()).await.unwrap();
    let key: String = sqlx::query_scalar("select limit_key from queue.jobs where id = $1")
        .bind(id.0)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(key, "b");
}

#[tokio::test]
async fn many_are_done_again_a_piece_at_a_time() {
    let bench = Bench::new().await;
    lay(&bench, 2500, None, "dead", "relay away").await;
    lay(&bench, 300, None, "dead", "no such user").await;
    let mut connection = bench.pool().acquire().await.unwrap();
    let away = Filter { error: Some("RELAY".into()), ..Filter::default() };
    let bulk = Bulk::new(&mut connection, Verb::Retry, away.clone(), note()).await.unwrap();
    assert_eq!(bulk.count(&mut connection, None).await.unwrap().jobs, 2500);

    // Somebody holds one: it is stepped over, not waited for.
    let mut other = bench.pool().begin().await.unwrap();
    sqlx::query("select from queue.jobs where last_error = 'relay away' limit 1 for update")
        .fetch_one(&mut *other)
        .await
        .unwrap();
    // It goes on where it was: the process that began may be gone.
    let (mut cursor, mut changed) = (Cursor::default(), 0);
    while !cursor.is_over {
        let step = bulk.step(&mut connection, None, &mut cursor).await.unwrap();
        assert!(step.seen <= 1000, "a short transaction");
        changed += step.jobs;
        cursor = serde_json::from_value(serde_json::to_value(&cursor).unwrap()).unwrap();
    }
    assert_eq!(changed, 2499);
    other.rollback().await.unwrap();
    assert_eq!(work(&mut connection, Verb::Retry, away).await, 1);
    let left = "select count(*) from queue.jobs where state = 'dead' and last_error = 'no such user'";
    assert_eq!(bench.count(left).await, 300);
    let noted = "select count(*) from queue.attempts where outcome = 'retried' and actor = 'ada' and error = 'the relay is back'";
    assert_eq!(bench.count(noted).await, 2500);

    let one_lane = Filter { lane: Some(OTHER_LANE.into()), ..Filter::default() };
    assert_eq!(work(&mut connection, Verb::Discard, one_lane).await, 60);
    assert_eq!(bench.count("select count(*) from queue.history where outcome = 'discarded'").await, 60);
}

#[tokio::test]
async fn those_that_die_again_are_left_for_the_next_time() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let id = bench.add(&[Step::GiveUp]).await;
    bench.reaches(id, JobState::Dead).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    let bulk = Bulk::new(&mut connection, Verb::Retry, Filter::default(), note()).await.unwrap();
    assert_eq!(finish(&mut connection, &bulk, None).await, 1);
    crate::scripted::eventually("its second death", || async {
        (bench.runs_of(id) == 2 && bench.show(id).await.job.state == JobState::Dead).then_some(())
    })
    .await;
    assert_eq!(finish(&mut connection, &bulk, None).await, 0);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn all_that_waits_or_runs_is_cancelled() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let running = bench.add(&[Step::UntilCancelled]).await;
    bench.reaches(running, JobState::Running).await;
    engine.shutdown(Duration::ZERO).await; // handed back: it waits again
    lay(&bench, 1500, None, "ready", "").await;
    lay(&bench, 40, None, "scheduled", "").await;
    lay(&bench, 7, None, "dead", "stays").await;
    let engine = bench.start_with(queue::EngineConfig { lanes: vec![], ..Bench::config() });
    let mut connection = bench.pool().acquire().await.unwrap();
    assert_eq!(work(&mut connection, Verb::Cancel, Filter::default()).await, 1541);
    assert_eq!(bench.count("select count(*) from queue.jobs").await, 7);
    engine.shutdown(Duration::from_secs(5)).await;
    for (verb, state) in
        [(Verb::Discard, JobState::Ready), (Verb::Cancel, JobState::Dead), (Verb::Retry, JobState::Done)]
    {
        let filter = Filter { state: Some(state), ..Filter::default() };
        let refused = Bulk::new(&mut connection, verb, filter, note()).await;
        assert!(matches!(refused, Err(AdminError::WrongFilter(_))), "{verb:?} {state:?}");
    }
}

#[tokio::test]
async fn those_that_run_are_told_to_stop() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let ids = futures::future::join_all((0..3).map(|_| bench.add(&[Step::UntilCancelled]))).await;
    for id in &ids {
        bench.reaches(*id, JobState::Running).await;
    }
    let mut connection = bench.pool().acquire().await.unwrap();
    let running = Filter { state: Some(JobState::Running), ..Filter::default() };
    assert_eq!(work(&mut connection, Verb::Cancel, running).await, 3);
    for id in &ids {
        bench.reaches(*id, JobState::Cancelled).await;
    }
    engine.shutdown(Duration::from_secs(5)).await;
}

/// The read of one organization's lists and of its share of a bulk does not grow with the others' backlogs.
#[tokio::test]
async fn one_organization_does_not_read_the_jobs_of_the_others() {
    let bench = Bench::new().await;
    let (ours, theirs) = (Uuid::now_v7(), Uuid::now_v7());
    admin::know_lanes(&mut bench.pool().acquire().await.unwrap(), &[LANE, OTHER_LANE]).await.unwrap();
    for state in ["ready", "scheduled", "limited", "dead"] {
        lay(&bench, 5000, Some(theirs), state, "theirs").await;
        lay(&bench, 10, Some(ours), state, "ours").await;
    }
    sqlx::query("analyze queue.jobs").execute(&mut bench.db.owner().await).await.unwrap();
    for state in [JobState::Ready, JobState::Scheduled, JobState::Limited, JobState::Dead] {
        let mut tx = bench.pool().begin().await.unwrap();
        sqlx::query("select set_config('app.organization_id', $1, true)")
            .bind(ours.to_string())
            .execute(&mut *tx)
            .await
            .unwrap();
        let read = "select coalesce(sum(idx_tup_fetch + seq_tup_read), 0)::bigint from pg_stat_xact_all_tables where schemaname = 'queue' and relname = 'jobs'";
        let before: i64 = sqlx::query_scalar(read).fetch_one(&mut *tx).await.unwrap();
        let filter = Filter { state: Some(state), ..Filter::default() };
        let page = admin::list(&mut tx, &filter, Some(ours), None, 50).await.unwrap();
        assert_eq!(page.items.len(), 10, "{state}");
        if let Some(verb) = match state {
            JobState::Dead => Some(Verb::Retry),
            JobState::Scheduled | JobState::Limited | JobState::Ready => Some(Verb::Cancel),
            _ => None,
        } {
            let bulk = Bulk::new(&mut tx, verb, filter, note()).await.unwrap();
            assert_eq!(finish(&mut tx, &bulk, Some(ours)).await, 10, "{state}");
        }
        let read: i64 = sqlx::query_scalar(read).fetch_one(&mut *tx).await.unwrap();
        assert!(read - before < 200, "{state}: {} rows were read for ten", read - before);
        tx.rollback().await.unwrap();
    }
    assert_eq!(Scripted::KIND, "scripted");
}

#[tokio::test]
async fn a_key_that_somebody_is_about_to_take_is_left_to_them() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let dying =
        |key: &str| NewJob::of(&Scripted { steps: vec![Step::GiveUp] }).unique(key, Unique::WhileUnfinished);
    let (contended, free) = (bench.enqueue(dying("contended")).await, bench.enqueue(dying("free")).await);
    let plain = bench.add(&[Step::GiveUp]).await;
    for id in [contended, free, plain] {
        bench.reaches(id, JobState::Dead).await;
    }
    engine.shutdown(Duration::from_secs(5)).await;
    let mut other = bench.pool().begin().await.unwrap();
    let next = queue::enqueue(&mut other, &[dying("contended")]).await.unwrap()[0];
    assert_ne!(next, contended);
    let mut connection = bench.pool().acquire().await.unwrap();
    let bulk = Bulk::new(&mut connection, Verb::Retry, Filter::default(), note()).await.unwrap();
    assert_eq!(finish(&mut connection, &bulk, None).await, 2);
    assert_eq!(bench.show(contended).await.job.state, JobState::Dead);
    for id in [free, plain] {
        let job = bench.show(id).await;
        assert_eq!((job.job.state, job.job.attempt), (JobState::Ready, 0));
        let outcomes: Vec<_> = job.attempts.iter().map(|attempt| attempt.outcome.as_str()).collect();
        assert_eq!(outcomes, ["gave_up", "retried"]);
    }
    assert_eq!(bench.show(contended).await.attempts.len(), 1, "nothing was done to it, and nothing is told");
    other.commit().await.unwrap();
    let again = Bulk::new(&mut connection, Verb::Retry, Filter::default(), note()).await.unwrap();
    assert_eq!(finish(&mut connection, &again, None).await, 0, "the other one has the key");
    // The key is held again by the one that was retried.
    assert_eq!(bench.enqueue(dying("free")).await, free);
}
