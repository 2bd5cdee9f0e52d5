//! One job of a key at a time: by states, and by windows that outlive the job.

use crate::scripted::{Bench, Scripted, Step, eventually};
use crate::yard::{End, Fetch, Yard};
use queue::admin::{self, AdminError, JobState, LimitChange};
use queue::{JobId, NewJob, Unique};
use std::time::Duration;
use uuid::Uuid;

const LONG: u64 = 3_600_000;
const WINDOW: Duration = Duration::from_secs(600);

fn keyed(steps: &[Step], states: Unique) -> NewJob {
    NewJob::of(&Scripted { steps: steps.to_vec() }).unique("k", states)
}

/// As if the time were over.
async fn pass_the_window(bench: &Bench) {
    sqlx::query("update queue.unique_windows set ends_at = clock_timestamp() - interval '1 second'")
        .execute(&mut bench.db.owner().await)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_key_unique_while_waiting_is_taken_again_by_a_retry() {
    let bench = Bench::new().await;
    let engine = bench.start();
    for step in [Step::RetryIn(LONG), Step::Snooze(LONG)] {
        let first = bench.enqueue(keyed(&[step], Unique::WhileWaiting)).await;
        bench.reaches(first, JobState::Scheduled).await;
        assert_eq!(bench.enqueue(keyed(&[Step::Done], Unique::WhileWaiting)).await, first);
        let mut connection = bench.pool().acquire().await.unwrap();
        admin::cancel(&mut connection, first, None, &admin::Note::default()).await.unwrap();
    }
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_retry_whose_key_another_has_taken_waits_without() {
    let bench = Bench::new().await;
    let first = bench.enqueue(keyed(&[Step::EffectAfterGate], Unique::WhileWaiting)).await;
    let engine = bench.start();
    bench.reaches(first, JobState::Running).await;
    let second = bench.enqueue(keyed(&[Step::EffectAfterGate], Unique::WhileWaiting)).await;
    bench.reaches(second, JobState::Running).await;
    let third =
        bench.enqueue(keyed(&[Step::Done], Unique::WhileWaiting).after(Duration::from_millis(LONG))).await;
    // Both come back at once to a key that a third one has.
    engine.shutdown(Duration::ZERO).await;
    for job in [first, second] {
        assert_eq!(bench.show(job).await.job.state, JobState::Ready);
    }
    assert_eq!(bench.enqueue(keyed(&[Step::Done], Unique::WhileWaiting)).await, third);
    // Without it, one of the two gets the key, and all of them run.
    let mut connection = bench.pool().acquire().await.unwrap();
    admin::cancel(&mut connection, third, None, &admin::Note::default()).await.unwrap();
    bench.shared.gate.add_permits(2);
    let engine = bench.start();
    bench.reaches(first, JobState::Done).await;
    bench.reaches(second, JobState::Done).await;
    assert_eq!(bench.count("select count(*) from ledger").await, 2);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_dead_letter_keeps_the_key_only_when_its_kind_wishes_so() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let mut connection = bench.pool().acquire().await.unwrap();
    let kept = bench.enqueue(keyed(&[Step::GiveUp], Unique::UntilOver)).await;
    bench.reaches(kept, JobState::Dead).await;
    assert_eq!(bench.enqueue(keyed(&[Step::Done], Unique::UntilOver)).await, kept);
    admin::discard(&mut connection, kept, None, &admin::Note::default()).await.unwrap();

    // It lets go of the key, and shows it all the same.
    let dead = bench.enqueue(keyed(&[Step::GiveUp, Step::RetryIn(LONG)], Unique::WhileUnfinished)).await;
    let letter = bench.reaches(dead, JobState::Dead).await;
    assert_eq!(letter.job.unique_key.as_deref(), Some("k"));
    let next =
        bench.enqueue(keyed(&[Step::Done], Unique::WhileUnfinished).after(Duration::from_millis(LONG))).await;
    assert_ne!(next, dead);
    // Two of a key there must not be, so it cannot come back before that one is over.
    match admin::retry(&mut connection, dead, None, &admin::Note::default()).await {
        Err(AdminError::KeyTaken { by }) => assert_eq!(by, next),
        other => panic!("{other:?}"),
    }
    let all = admin::Filter { kind: Some("scripted".into()), ..admin::Filter::default() };
    let all =
        admin::Bulk::new(&mut connection, admin::Verb::Retry, all, admin::Note::default()).await.unwrap();
    assert_eq!(crate::dead_letters::finish(&mut connection, &all, None).await, 0);
    admin::cancel(&mut connection, next, None, &admin::Note::default()).await.unwrap();
    admin::retry(&mut connection, dead, None, &admin::Note::default()).await.unwrap();
    bench.reaches(dead, JobState::Scheduled).await;
    assert_eq!(
        bench.enqueue(keyed(&[Step::Done], Unique::WhileUnfinished)).await,
        dead,
        "it has its key again"
    );
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_job_that_waits_for_a_limit_has_its_key() {
    let yard = Yard::new().await;
    let engine = yard.start(2);
    let seen = yard.fetch("any", End::Done).await;
    yard.bench.reaches(seen, JobState::Done).await;
    let mut connection = yard.bench.pool().acquire().await.unwrap();
    let none = LimitChange { at_once: Some(0), ..LimitChange::default() };
    assert!(admin::set_limit(&mut connection, "fetch", none).await.unwrap());
    // As if it had been enqueued before its kind had limits: the claim does not know that it will have to wait.
    let waits = || {
        let job = NewJob::of(&Fetch { key: "k".into(), end: End::Done }).unique("k", Unique::WhileWaiting);
        NewJob { limit_key: None, ..job }
    };
    let first = yard.bench.enqueue(waits()).await;
    yard.bench.reaches(first, JobState::Limited).await;
    assert_eq!(yard.bench.enqueue(waits()).await, first);
    assert!(admin::set_limit(&mut connection, "fetch", LimitChange::default()).await.unwrap());
    yard.bench.reaches(first, JobState::Done).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_window_outlives_the_job() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let within = || keyed(&[Step::Done], Unique::Within(WINDOW));
    let first = bench.enqueue(within()).await;
    bench.reaches(first, JobState::Done).await;
    assert_eq!(bench.enqueue(within()).await, first, "not again, though it has finished");
    let other = bench.enqueue(within().organization(Uuid::now_v7())).await;
    assert_ne!(other, first, "another organization's key is another key");
    // Within one call, and among others.
    pass_the_window(&bench).await;
    let mut tx = bench.pool().begin().await.unwrap();
    let plain = NewJob::of(&Scripted { steps: vec![Step::Done] });
    let ids = queue::enqueue(&mut tx, &[plain.clone(), within(), within(), plain]).await.unwrap();
    assert_eq!(ids[1], ids[2]);
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 3);
    assert_ne!(ids[1], first);
    tx.commit().await.unwrap();
    assert_eq!(bench.enqueue(within()).await, ids[1]);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn states_and_a_window_count_together() {
    let bench = Bench::new().await;
    let both = || keyed(&[Step::Done], Unique::WhileUnfinished).window(WINDOW);
    let first = bench.enqueue(both().after(Duration::from_millis(LONG))).await;
    pass_the_window(&bench).await;
    assert_eq!(bench.enqueue(both()).await, first, "the window is over, the job is not");
    let mut connection = bench.pool().acquire().await.unwrap();
    admin::cancel(&mut connection, first, None, &admin::Note::default()).await.unwrap();
    // The one that was refused has not begun a window.
    let second = bench.enqueue(both().after(Duration::from_millis(LONG))).await;
    assert_ne!(second, first);
    admin::cancel(&mut connection, second, None, &admin::Note::default()).await.unwrap();
    assert_eq!(bench.enqueue(both()).await, second, "the job is over, the window is not");
}

#[tokio::test]
async fn a_window_is_exact_under_concurrent_enqueuers() {
    let bench = Bench::new().await;
    let enqueue = |rolls_back: bool, keys: [&'static str; 2]| {
        let pool = bench.pool().clone();
        tokio::spawn(async move {
            let mut tx = pool.begin().await.unwrap();
            let jobs = keys.map(|key| {
                NewJob::of(&Scripted { steps: vec![Step::Done] }).unique(key, Unique::Within(WINDOW))
            });
            let ids = queue::enqueue(&mut tx, &jobs).await.unwrap();
            if rolls_back {
                tx.rollback().await.unwrap();
                None
            } else {
                tx.commit().await.unwrap();
                Some(ids)
            }
        })
    };
    // Some change their mind, and both keys come in both orders: neither two jobs, nor none, nor a deadlock.
    let tasks = (0..30).map(|n| enqueue(n % 3 == 0, if n % 2 == 0 { ["a", "b"] } else { ["b", "a"] }));
    let mut answers: Vec<JobId> = futures::future::join_all(tasks)
        .await
        .into_iter()
        .filter_map(|answer| answer.unwrap())
        .flatten()
        .collect();
    answers.sort();
    answers.dedup();
    assert_eq!(answers.len(), 2);
    assert_eq!(bench.count("select count(*) from queue.jobs").await, 2);
}

#[tokio::test]
async fn windows_that_are_over_are_swept_away() {
    let bench = Bench::new().await;
    bench.enqueue(keyed(&[Step::Done], Unique::Within(WINDOW))).await;
    bench.enqueue(keyed(&[Step::Done], Unique::Within(WINDOW)).organization(Uuid::now_v7())).await;
    sqlx::query("update queue.unique_windows set ends_at = now() where organization_id is null")
        .execute(&mut bench.db.owner().await)
        .await
        .unwrap();
    let engine = bench.start();
    eventually("one window", || async {
        (bench.count("select count(*) from queue.unique_windows").await == 1).then_some(())
    })
    .await;
    engine.shutdown(Duration::from_secs(5)).await;
}
