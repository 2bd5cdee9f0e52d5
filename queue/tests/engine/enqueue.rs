use crate::scripted::{Bench, LANE, Scripted, Step, Unknown};
use queue::admin::{self, JobState};
use queue::trace::{self, TraceContext};
use queue::{NewJob, Unique};
use std::time::Duration;
use uuid::Uuid;

fn done() -> NewJob {
    NewJob::of(&Scripted { steps: vec![Step::Done] })
}

#[tokio::test]
async fn a_job_exists_if_and_only_if_the_transaction_commits() {
    let bench = Bench::new().await;
    let mut tx = bench.pool().begin().await.unwrap();
    queue::enqueue(&mut tx, &[done(), done()]).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(bench.count("select count(*) from queue.jobs").await, 0);
    let id = bench.enqueue(done()).await;
    assert_eq!(bench.show(id).await.job.state, JobState::Ready);
}

#[tokio::test]
async fn a_unique_key_answers_the_job_that_is_there() {
    let bench = Bench::new().await;
    let keyed = || done().unique("k", Unique::WhileUnfinished);
    let first = bench.enqueue(keyed()).await;
    assert_eq!(bench.enqueue(keyed()).await, first);
    // Within one call, and among others.
    let mut tx = bench.pool().begin().await.unwrap();
    let ids = queue::enqueue(&mut tx, &[done(), keyed(), keyed(), done()]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((ids[1], ids[2]), (first, first));
    assert!(ids[0] != first && ids[3] != first && ids[0] != ids[3]);
    // Another organization's key is another key.
    assert_ne!(bench.enqueue(keyed().organization(Uuid::now_v7())).await, first);
    // Finished: the key is free.
    let engine = bench.start();
    bench.reaches(first, JobState::Done).await;
    assert_ne!(bench.enqueue(keyed()).await, first);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_key_unique_while_waiting_is_free_once_the_job_runs() {
    let bench = Bench::new().await;
    let keyed =
        || NewJob::of(&Scripted { steps: vec![Step::UntilCancelled] }).unique("k", Unique::WhileWaiting);
    let first = bench.enqueue(keyed()).await;
    assert_eq!(bench.enqueue(keyed()).await, first);
    let engine = bench.start();
    bench.reaches(first, JobState::Running).await;
    let second = bench.enqueue(keyed()).await;
    assert_ne!(second, first);
    engine.shutdown(Duration::ZERO).await;
}

#[tokio::test]
async fn concurrent_unique_enqueues_make_one_job() {
    let bench = Bench::new().await;
    let tasks = (0..20).map(|n| {
        let pool = bench.pool().clone();
        tokio::spawn(async move {
            let mut tx = pool.begin().await.unwrap();
            // Both keys in both orders: must not deadlock.
            let (a, b) =
                (done().unique("a", Unique::WhileUnfinished), done().unique("b", Unique::WhileUnfinished));
            let jobs = if n % 2 == 0 { [a, b] } else { [b, a] };
            let ids = queue::enqueue(&mut tx, &jobs).await.unwrap();
            tx.commit().await.unwrap();
            if n % 2 == 0 { (ids[0], ids[1]) } else { (ids[1], ids[0]) }
        })
    });
    let ids = futures::future::join_all(tasks).await;
    let first = *ids[0].as_ref().unwrap();
    assert!(ids.iter().all(|id| *id.as_ref().unwrap() == first));
    assert_eq!(bench.count("select count(*) from queue.jobs").await, 2);
}

#[tokio::test]
async fn many_jobs_at_once_keep_their_order() {
    let bench = Bench::new().await;
    let jobs: Vec<_> = (0..2500).map(|n| done().priority((n % 7) as i16)).collect();
    let mut tx = bench.pool().begin().await.unwrap();
    let ids = queue::enqueue(&mut tx, &jobs).await.unwrap();
    tx.commit().await.unwrap();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(bench.show(ids[2001]).await.job.priority, (2001 % 7) as i16);
}

#[tokio::test]
async fn later_jobs_wait_and_higher_priority_goes_first() {
    let bench = Bench::new().await;
    let later = bench.enqueue(done().after(Duration::from_secs(3600))).await;
    let soon = bench.enqueue(done().after(Duration::from_millis(300))).await;
    let low = bench.enqueue(done()).await;
    let high = bench.enqueue(done().priority(5)).await;
    let mut config = Bench::config();
    config.lanes[0].concurrency = 1;
    let (engine, shared) = bench.start_other(config);
    let (low, high) = (bench.reaches(low, JobState::Done).await, bench.reaches(high, JobState::Done).await);
    assert!(high.job.started_at < low.job.started_at);
    bench.reaches(soon, JobState::Done).await;
    assert_eq!(bench.show(later).await.job.state, JobState::Scheduled);
    assert!(!shared.runs.lock().unwrap().contains_key(&later.0));
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_shifted_clock_brings_later_jobs_forward() {
    let bench = Bench::new().await;
    let later = bench.enqueue(done().after(Duration::from_secs(3600))).await;
    let config = Bench::config();
    let clock = config.clock.clone();
    let (engine, _) = bench.start_other(config);
    bench.reaches(later, JobState::Scheduled).await;
    clock.advance(Duration::from_secs(3600));
    bench.reaches(later, JobState::Done).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn an_unknown_kind_is_left_alone() {
    let bench = Bench::new().await;
    let unknown = bench.enqueue(NewJob::of(&Unknown {}).priority(9)).await;
    let known = bench.enqueue(done()).await;
    let engine = bench.start();
    bench.reaches(known, JobState::Done).await;
    let left = bench.show(unknown).await;
    assert_eq!((left.job.state, left.job.attempt), (JobState::Ready, 0));
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn the_trace_goes_with_the_job() {
    let bench = Bench::new().await;
    let context = TraceContext::new_root();
    let id = trace::scope(context, bench.enqueue(done())).await;
    assert_eq!(bench.show(id).await.job.trace_parent, Some(context.to_string()));
}

#[tokio::test]
async fn a_tenant_sees_only_its_jobs() {
    let bench = Bench::new().await;
    let (ours, theirs) = (Uuid::now_v7(), Uuid::now_v7());
    let mine = bench.enqueue(done().organization(ours)).await;
    let other = bench.enqueue(done().organization(theirs)).await;
    let system = bench.enqueue(done()).await;
    let mut tx = bench.pool().begin().await.unwrap();
    sqlx::query("select set_config('app.organization_id', $1, true)")
        .bind(ours.to_string())
        .execute(&mut *tx)
        .await
        .unwrap();
    // By row level security alone, without a filter.
    let page = admin::list(&mut tx, &admin::Filter::default(), None, None, 10).await.unwrap();
    assert_eq!(page.items.iter().map(|job| job.id).collect::<Vec<_>>(), [mine]);
    for hidden in [other, system] {
        assert!(matches!(
            admin::cancel(&mut tx, hidden, None, &admin::Note::default()).await,
            Err(admin::AdminError::NotFound)
        ));
    }
    // What is enqueued here belongs here.
    let new = queue::enqueue(&mut tx, &[done()]).await.unwrap()[0];
    tx.commit().await.unwrap();
    assert_eq!(bench.show(new).await.job.organization, Some(ours));
    // And by the filter.
    let mut connection = bench.pool().acquire().await.unwrap();
    admin::know_lanes(&mut connection, &[LANE]).await.unwrap();
    assert!(matches!(
        admin::show(&mut connection, other, Some(ours)).await,
        Err(admin::AdminError::NotFound)
    ));
    assert!(matches!(
        admin::cancel(&mut connection, other, Some(ours), &admin::Note::default()).await,
        Err(admin::AdminError::NotFound)
    ));
    assert!(matches!(
        admin::retry(&mut connection, other, Some(ours), &admin::Note::default()).await,
        Err(admin::AdminError::NotFound)
    ));
    assert!(matches!(
        admin::discard(&mut connection, other, Some(ours), &admin::Note::default()).await,
        Err(admin::AdminError::NotFound)
    ));
    let lanes = admin::lanes(&mut connection, Some(ours)).await.unwrap();
    assert_eq!(lanes.iter().map(|lane| lane.ready).sum::<i64>(), 2);
}

#[tokio::test]
async fn a_job_of_a_very_long_transaction_is_found() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let first = bench.enqueue(done()).await;
    bench.reaches(first, JobState::Done).await;
    // Enqueued an hour ago, committed now: below the floor from which claims look.
    let mut tx = bench.pool().begin().await.unwrap();
    queue::enqueue(&mut tx, &[done()]).await.unwrap();
    let old = Uuid::from_u128(first.0.as_u128() - (3_600_000 << 80));
    sqlx::query("update queue.jobs set id = $1").bind(old).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    bench.reaches(old.into(), JobState::Done).await;
    engine.shutdown(Duration::from_secs(5)).await;
}
