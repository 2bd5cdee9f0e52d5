use crate::scripted::{Bench, Hasty, Scripted, Shared, Step};
use queue::admin::JobState;
use queue::{Drain, DrainError, NewJob};
use std::time::Duration;

#[tokio::test]
async fn every_way_to_end() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let done = bench.add(&[Step::DoneWith("hello".into())]).await;
    let twice = bench.add(&[Step::Fail("first".into()), Step::Fail("second".into()), Step::Done]).await;
    let never = bench.add(&[Step::Fail("always".into())]).await;
    let panics = bench.add(&[Step::Panic, Step::Done]).await;
    let hopeless = bench.add(&[Step::GiveUp]).await;
    let snoozes = bench
        .add(&[
            Step::Snooze(20),
            Step::Snooze(0),
            Step::Snooze(20),
            Step::Snooze(20),
            Step::Snooze(20),
            Step::Done,
        ])
        .await;
    let cancels = bench.add(&[Step::CancelItself]).await;
    let retries_in = bench.add(&[Step::RetryIn(400), Step::Done]).await;
    let hangs = bench.enqueue(NewJob::of(&Hasty { steps: vec![Step::Hang] })).await;

    let job = bench.reaches(done, JobState::Done).await;
    assert_eq!(job.job.result, Some(serde_json::json!({"said": "hello"})));
    assert_eq!((job.attempts.len(), job.attempts[0].outcome.as_str()), (1, "done"));

    let job = bench.reaches(twice, JobState::Done).await;
    let story: Vec<_> = job
        .attempts
        .iter()
        .map(|a| (a.attempt, a.outcome.as_str(), a.error.as_deref().unwrap_or("")))
        .collect();
    assert_eq!(story, [(1, "failed", "first"), (2, "failed", "second"), (3, "done", "")]);
    assert!(job.attempts.iter().all(|a| a.worker == Some(engine.worker_id()) && a.started_at.is_some()));

    let job = bench.reaches(never, JobState::Dead).await;
    assert_eq!((job.job.attempt, job.attempts.len(), job.job.error.as_deref()), (4, 4, Some("always")));

    let job = bench.reaches(panics, JobState::Done).await;
    assert_eq!(job.attempts[0].outcome, "panicked");
    assert!(job.attempts[0].error.as_deref().unwrap().contains("scripted panic"));

    let job = bench.reaches(hopeless, JobState::Dead).await;
    assert_eq!((job.job.attempt, job.attempts[0].outcome.as_str()), (1, "gave_up"));

    let job = bench.reaches(snoozes, JobState::Done).await;
    assert_eq!((job.job.attempt, bench.runs_of(snoozes)), (1, 6), "a snooze is no attempt");

    let job = bench.reaches(cancels, JobState::Cancelled).await;
    assert_eq!(job.job.error.as_deref(), Some("not needed any more"));

    let job = bench.reaches(retries_in, JobState::Done).await;
    let waited = job.attempts[1].started_at.unwrap() - job.attempts[0].finished_at.unwrap();
    assert!(waited.num_milliseconds() >= 400, "{waited}");

    let job = bench.reaches(hangs, JobState::Dead).await;
    assert_eq!((job.attempts.len(), job.attempts[0].outcome.as_str()), (2, "timeout"));
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn undecodable_arguments_are_a_dead_letter_at_once() {
    let bench = Bench::new().await;
    let mut job = NewJob::of(&Scripted { steps: vec![] });
    job.args = serde_json::json!({"steps": "not a list"});
    let id = bench.enqueue(job).await;
    let engine = bench.start();
    let job = bench.reaches(id, JobState::Dead).await;
    assert_eq!((job.job.attempt, job.attempts[0].outcome.as_str()), (1, "undecodable"));
    assert_eq!(job.job.args, Some(serde_json::json!({"steps": "not a list"})), "the payload is kept");
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_effect_and_its_completion_are_one() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let ids: Vec<_> = futures::future::join_all((0..30).map(|_| bench.add(&[Step::Effect]))).await;
    for id in ids {
        bench.reaches(id, JobState::Done).await;
    }
    assert_eq!(bench.count("select count(*) from ledger").await, 30);
    // Done said, but rolled back: tried again, never lost.
    let id = bench.add(&[Step::RolledBackEffect, Step::Effect]).await;
    let job = bench.reaches(id, JobState::Done).await;
    assert_eq!(job.attempts[0].outcome, "rolled_back");
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn no_history_of_success_where_none_is_wanted() {
    let bench = Bench::new().await;
    let engine = bench.start();
    bench.enqueue(NewJob::of(&Hasty { steps: vec![Step::Done] })).await;
    let kept = bench.add(&[Step::Done]).await;
    bench.reaches(kept, JobState::Done).await;
    crate::scripted::eventually("an empty table", || async {
        (bench.count("select count(*) from queue.jobs").await == 0).then_some(())
    })
    .await;
    assert_eq!(bench.count("select count(*) from queue.history").await, 1);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn draining_runs_all_that_is_pending() {
    let bench = Bench::new().await;
    let drain = |shared: &Shared| Drain::new(Bench::registry(), shared.clone());
    let a = bench.add(&[Step::Effect]).await;
    let b = bench.add(&[Step::Fail("once".into()), Step::Done]).await;
    let later =
        bench.enqueue(NewJob::of(&Scripted { steps: vec![Step::Done] }).after(Duration::from_secs(60))).await;
    let drained = drain(&bench.shared).with_retries().run(bench.pool()).await.unwrap();
    assert_eq!((drained.done, drained.later), (2, 1));
    assert_eq!(bench.show(a).await.job.state, JobState::Done);
    assert_eq!(bench.show(b).await.job.state, JobState::Done);
    assert_eq!(bench.show(later).await.job.state, JobState::Scheduled);
    let dead = bench.add(&[Step::GiveUp]).await;
    match drain(&bench.shared).run(bench.pool()).await {
        Err(DrainError::Dead { id, .. }) => assert_eq!(id, dead.0),
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.count("select count(*) from queue.workers").await, 0);
}

#[tokio::test]
async fn a_lane_keeps_to_its_concurrency() {
    let bench = Bench::new().await;
    let mut config = Bench::config();
    config.lanes[0].concurrency = 3;
    let (engine, _) = bench.start_other(config);
    let ids = futures::future::join_all((0..12).map(|_| bench.add(&[Step::Sleep(60)]))).await;
    let mut most = 0;
    for id in ids {
        loop {
            most = most.max(engine.running());
            if bench.show(id).await.job.state == JobState::Done {
                break;
            }
        }
    }
    assert!((2..=3).contains(&most), "{most} at once");
    engine.shutdown(Duration::from_secs(5)).await;
}

/// A wait that no timestamp can hold: the engine must go on, and the others' ends be written.
#[tokio::test]
async fn an_end_that_cannot_be_written_is_a_dead_letter() {
    let bench = Bench::new().await;
    let bad = bench.add(&[Step::RetryIn(u64::MAX)]).await;
    let good = bench.add(&[Step::Done]).await;
    let engine = bench.start();
    bench.reaches(good, JobState::Done).await;
    let dead = bench.reaches(bad, JobState::Dead).await;
    assert!(
        dead.attempts[0].error.as_deref().is_some_and(|text| text.contains("could not be written")),
        "{:?}",
        dead.attempts
    );
    engine.shutdown(Duration::from_secs(5)).await;
}
