use crate::scripted::{Bench, LANE, OTHER_LANE, Step, eventually};
use queue::admin::{self, AdminError, Cancelled, Filter, JobState};
use queue::{EngineConfig, LaneConfig};
use std::time::Duration;

#[tokio::test]
async fn dead_letters_are_retried_or_discarded() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let (again, away) = (bench.add(&[Step::GiveUp, Step::Done]).await, bench.add(&[Step::GiveUp]).await);
    bench.reaches(again, JobState::Dead).await;
    bench.reaches(away, JobState::Dead).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    admin::retry(&mut connection, again, None, &admin::Note::default()).await.unwrap();
    let job = bench.reaches(again, JobState::Done).await;
    let outcomes: Vec<_> = job.attempts.iter().map(|a| a.outcome.as_str()).collect();
    assert_eq!(outcomes, ["gave_up", "retried", "done"]);
    admin::discard(&mut connection, away, None, &admin::Note::default()).await.unwrap();
    let job = bench.show(away).await;
    assert_eq!((job.job.state, job.job.error.as_deref()), (JobState::Discarded, Some("hopeless")));
    assert!(job.job.args.is_some());
    match admin::retry(&mut connection, again, None, &admin::Note::default()).await {
        Err(AdminError::WrongState { state: JobState::Done, .. }) => {}
        other => panic!("{other:?}"),
    }
    let more = futures::future::join_all((0..5).map(|_| bench.add(&[Step::GiveUp, Step::Done]))).await;
    for id in &more {
        bench.reaches(*id, JobState::Dead).await;
    }
    let all = Filter { kind: Some("scripted".into()), ..Filter::default() };
    assert_eq!(crate::dead_letters::work(&mut connection, admin::Verb::Retry, all).await, 5);
    for id in more {
        bench.reaches(id, JobState::Done).await;
    }
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_waiting_job_is_cancelled_at_once() {
    let bench = Bench::new().await;
    let id = bench.add(&[Step::Done]).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    assert_eq!(
        admin::cancel(&mut connection, id, None, &admin::Note::default()).await.unwrap(),
        Cancelled::Now
    );
    assert_eq!(bench.show(id).await.job.state, JobState::Cancelled);
    assert!(matches!(
        admin::cancel(&mut connection, id, None, &admin::Note::default()).await,
        Err(AdminError::WrongState { .. })
    ));
    let nobody = queue::JobId(uuid::Uuid::now_v7());
    assert!(matches!(
        admin::cancel(&mut connection, nobody, None, &admin::Note::default()).await,
        Err(AdminError::NotFound)
    ));
}

#[tokio::test]
async fn a_paused_lane_rests() {
    let bench = Bench::new().await;
    let lanes = vec![LaneConfig::new(LANE, 16), LaneConfig::new(OTHER_LANE, 1)];
    let (engine, _) = bench.start_other(EngineConfig { lanes, ..Bench::config() });
    let first = bench.add(&[Step::Done]).await;
    bench.reaches(first, JobState::Done).await;
    let mut connection = bench.pool().acquire().await.unwrap();
    assert!(admin::pause(&mut connection, LANE).await.unwrap());
    assert!(!admin::pause(&mut connection, "no such lane").await.unwrap());
    let second = bench.add(&[Step::Done]).await;
    let lanes = admin::lanes(&mut connection, None).await.unwrap();
    let lane = lanes.into_iter().find(|lane| lane.name == LANE).unwrap();
    assert_eq!((lane.name.as_str(), lane.paused, lane.ready, lane.workers), (LANE, true, 1, 1));
    // Nobody is told of these jobs, so the poll finds them, which looks at all lanes: after two of them the second job
    // has been passed over twice.
    for _ in 0..2 {
        let silent = bench.add_silently(OTHER_LANE).await;
        bench.reaches(silent, JobState::Done).await;
    }
    assert_eq!(bench.show(second).await.job.state, JobState::Ready);
    admin::resume(&mut connection, LANE).await.unwrap();
    bench.reaches(second, JobState::Done).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_drained_lane_works_off_what_was_there() {
    let bench = Bench::new().await;
    let mut config = Bench::config();
    config.lanes[0].concurrency = 2;
    let (engine, _) = bench.start_other(config);
    let first = bench.add(&[Step::Done]).await;
    bench.reaches(first, JobState::Done).await;
    // Two run, one waits behind them, one is for later.
    let running = [bench.add(&[Step::EffectAfterGate]).await, bench.add(&[Step::EffectAfterGate]).await];
    for id in running {
        bench.reaches(id, JobState::Running).await;
    }
    let waiting = bench.add(&[Step::Done]).await;
    let later = bench.add(&[Step::Done]).await;
    sqlx::query(
        "update queue.jobs set state = 'scheduled', due_at = now() + interval '1 hour' where id = $1",
    )
    .bind(later.0)
    .execute(&mut bench.db.owner().await)
    .await
    .unwrap();
    let mut connection = bench.pool().acquire().await.unwrap();
    assert!(admin::drain(&mut connection, LANE).await.unwrap());
    assert!(!admin::drain(&mut connection, "no such lane").await.unwrap());
    // Of a later millisecond, as anything a person does afterwards is.
    let drained: uuid::Uuid = sqlx::query_scalar("select drain_to from queue.lanes where name = $1")
        .bind(LANE)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let new = loop {
        let id = queue::JobId::new();
        if id.0 > drained {
            break bench
                .enqueue(queue::NewJob::of(&crate::scripted::Scripted { steps: vec![Step::Done] }).id(id))
                .await;
        }
    };
    let lane = || async {
        let mut connection = bench.pool().acquire().await.unwrap();
        let lanes = admin::lanes(&mut connection, None).await.unwrap();
        lanes.into_iter().find(|lane| lane.name == LANE).unwrap()
    };
    assert_eq!((lane().await.draining, lane().await.paused), (true, false));
    bench.shared.gate.add_permits(2);
    bench.reaches(waiting, JobState::Done).await;
    for id in running {
        bench.reaches(id, JobState::Done).await;
    }
    eventually("the lane to rest", || async { lane().await.paused.then_some(()) }).await;
    assert!(!lane().await.draining);
    assert_eq!(bench.show(new).await.job.state, JobState::Ready);
    assert_eq!(bench.show(later).await.job.state, JobState::Scheduled);
    admin::resume(&mut connection, LANE).await.unwrap();
    bench.reaches(new, JobState::Done).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn lists_page_through_the_living_and_the_finished() {
    let bench = Bench::new().await;
    let engine = bench.start();
    let mut ids = Vec::new();
    for n in 0..7 {
        ids.push(bench.add(&[if n % 2 == 0 { Step::Done } else { Step::GiveUp }]).await);
    }
    for (n, id) in ids.iter().enumerate() {
        bench.reaches(*id, if n % 2 == 0 { JobState::Done } else { JobState::Dead }).await;
    }
    let mut connection = bench.pool().acquire().await.unwrap();
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = admin::list(&mut connection, &Filter::default(), None, cursor, 3).await.unwrap();
        seen.extend(page.items.iter().map(|job| job.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    ids.reverse();
    assert_eq!(seen, ids);
    let dead = Filter {
        state: Some(JobState::Dead),
        kind: Some("scripted".into()),
        lane: Some(LANE.into()),
        ..Filter::default()
    };
    assert_eq!(admin::list(&mut connection, &dead, None, None, 50).await.unwrap().items.len(), 3);
    engine.shutdown(Duration::from_secs(5)).await;
}
