//! Limits over all processes: never exceeded, never leaked, in nobody's way.

use crate::scripted::{Bench, LANE, OTHER_LANE, Scripted, Step, eventually};
use crate::yard::{Alone, Call, End, Fetch, Yard};
use queue::admin::{self, JobState, LimitChange};
use queue::{Drain, LaneConfig, NewJob};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;
use uuid::Uuid;

#[tokio::test]
async fn combined_limits_hold_over_two_processes() {
    let yard = Yard::new().await;
    let tenants: Vec<_> = (1..=3).map(Uuid::from_u128).collect();
    let jobs: Vec<_> = (0..500)
        .map(|n| {
            let end = if n % 3 == 0 { End::Inside } else { End::Done };
            NewJob::of(&Fetch { key: format!("{}", n % 7), end }).organization(tenants[n % 3])
        })
        .collect();
    yard.enqueue_all(&jobs).await;
    let engines = [yard.start(50), yard.start(50)];
    yard.work_off().await;
    let gauge = &yard.world.gauge;
    assert!((6..=8).contains(&gauge.most("all")), "{} at once of 8", gauge.most("all"));
    for tenant in tenants {
        let most = gauge.most(&format!("tenant {tenant}"));
        assert!((2..=4).contains(&most), "{most} at once of 4");
    }
    for key in 0..7 {
        let most = gauge.most(&format!("key {key}"));
        assert!((1..=2).contains(&most), "{most} at once of 2");
    }
    for engine in engines {
        engine.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn every_end_gives_its_place_to_the_next() {
    let yard = Yard::new().await;
    let ends = [
        End::Done,
        End::Inside,
        End::RolledBack,
        End::Fail,
        End::Panic,
        End::Timeout,
        End::GiveUp,
        End::Snooze,
        End::CancelItself,
    ];
    let jobs: Vec<_> = ends
        .iter()
        .cycle()
        .take(36)
        .map(|end| NewJob::of(&Fetch { key: "one".into(), end: end.clone() }))
        .collect();
    yard.enqueue_all(&jobs).await;
    let engine = yard.start(16);
    yard.work_off().await;
    assert_eq!(yard.world.gauge.most("key one"), 2);
    assert_eq!(yard.bench.count("select count(*) from queue.jobs where state = 'dead'").await, 4);
    assert_eq!(yard.bench.count("select count(*) from queue.attempts where outcome = 'lost'").await, 0);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_full_key_stands_in_nobodys_way_and_is_not_looked_at_again() {
    let yard = Yard::new().await;
    let slow: Vec<_> = (0..3000).map(|_| NewJob::of(&Fetch { key: "slow".into(), end: End::Gate })).collect();
    yard.enqueue_all(&slow).await;
    let engine = yard.start(4);
    // All of them are older than these.
    for _ in 0..5 {
        let quick = yard.fetch("quick", End::Done).await;
        yard.bench.reaches(quick, JobState::Done).await;
        let other = yard.bench.enqueue(NewJob::of(&Scripted { steps: vec![Step::Done] })).await;
        yard.bench.reaches(other, JobState::Done).await;
    }
    eventually("the others to be put aside", || async { (yard.limited().await == 2998).then_some(()) }).await;
    let claims = "select sum(run)::bigint from queue.jobs";
    let before = yard.bench.count(claims).await;
    let quick = yard.fetch("quick", End::Done).await;
    yard.bench.reaches(quick, JobState::Done).await;
    // On RabbitMQ a message may have been on its way when its job was put aside.
    let on_their_way = if Bench::is_on_rabbitmq() { 50 } else { 0 };
    let in_vain = yard.bench.count(claims).await - before;
    assert!((0..=on_their_way).contains(&in_vain), "{in_vain} of those who wait were claimed in vain");
    // A place is free: the next one is called.
    yard.world.gate.add_permits(1);
    eventually("the next one", || async { (yard.limited().await == 2997).then_some(()) }).await;
    assert_eq!(yard.permits().await % 3, 0, "each that runs holds a place of each of three limits");
    engine.shutdown(Duration::ZERO).await;
    assert_eq!(yard.permits().await, 0, "handed back with the jobs");
}

#[tokio::test]
async fn a_lost_worker_leaks_no_place() {
    let yard = Yard::new().await;
    let victim = yard.start_mortal(16);
    for _ in 0..2 {
        let id = yard.fetch("k", End::Gate).await;
        yard.bench.reaches(id, JobState::Running).await;
    }
    let waits = yard.fetch("k", End::Done).await;
    yard.bench.reaches(waits, JobState::Limited).await;
    let engine = yard.start_mortal(16);
    victim.abort();
    yard.world.gate.add_permits(2);
    yard.bench.reaches(waits, JobState::Done).await;
    yard.work_off().await;
    assert_eq!(yard.bench.count("select count(*) from queue.attempts where outcome = 'lost'").await, 2);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn cancelling_frees_a_place_and_leaves_the_line() {
    let yard = Yard::new().await;
    let engine = yard.start(16);
    let mut running = Vec::new();
    for _ in 0..2 {
        running.push(yard.fetch("k", End::UntilCancelled).await);
        yard.bench.reaches(running[running.len() - 1], JobState::Running).await;
    }
    let (first, second) = (yard.fetch("k", End::Done).await, yard.fetch("k", End::Done).await);
    yard.bench.reaches(first, JobState::Limited).await;
    yard.bench.reaches(second, JobState::Limited).await;
    let mut connection = yard.bench.pool().acquire().await.unwrap();
    assert_eq!(
        admin::cancel(&mut connection, first, None, &admin::Note::default()).await.unwrap(),
        admin::Cancelled::Now
    );
    assert_eq!(
        admin::cancel(&mut connection, running[0], None, &admin::Note::default()).await.unwrap(),
        admin::Cancelled::Requested
    );
    yard.bench.reaches(second, JobState::Done).await;
    admin::cancel(&mut connection, running[1], None, &admin::Note::default()).await.unwrap();
    yard.work_off().await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_rate_lets_start_what_arithmetic_says() {
    let yard = Yard::new().await;
    let config = Bench::patient();
    let clock = config.clock.clone();
    let engine = yard.start_with(config);
    let jobs: Vec<_> = (0..20).map(|_| NewJob::of(&Call { key: "a".into() })).collect();
    yard.enqueue_all(&jobs).await;
    let other = yard.bench.enqueue(NewJob::of(&Call { key: "b".into() })).await;
    yard.bench.reaches(other, JobState::Done).await;
    let done = || async { yard.bench.count("select count(*) from queue.history").await - 1 };
    let mut elapsed = 0;
    for (step, expected) in [(0, 3), (1000, 4), (2500, 6), (500, 7), (999, 7), (1, 8), (8000, 11), (1000, 12)]
    {
        elapsed += step;
        clock.advance(Duration::from_secs(step));
        eventually(&format!("{expected} at {elapsed} s"), || async {
            (done().await >= expected).then_some(())
        })
        .await;
        // A round of the leader later (it hands out tokens) there are not more.
        let key = format!("at {elapsed}");
        let witness = yard.bench.enqueue(NewJob::of(&Call { key })).await;
        yard.bench.reaches(witness, JobState::Done).await;
        sqlx::query("delete from queue.history where id = $1")
            .bind(witness.0)
            .execute(&mut yard.bench.db.owner().await)
            .await
            .unwrap();
        assert_eq!(done().await, expected, "after {elapsed} s");
    }
    // After a rest it is full, and no fuller than the burst: so it was when the clock went 8,000 s ahead.
    clock.advance(Duration::from_secs(1_000_000));
    let jobs: Vec<_> = (0..5).map(|_| NewJob::of(&Call { key: "a".into() })).collect();
    yard.enqueue_all(&jobs).await;
    eventually("a burst", || async { (done().await == 15).then_some(()) }).await;
    eventually("the others to wait", || async { (yard.limited().await == 10).then_some(()) }).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn tenants_take_turns_at_a_limit() {
    let yard = Yard::new().await;
    let (noisy, quiet) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let jobs: Vec<_> = (0..300).map(|_| NewJob::of(&Alone {}).organization(noisy)).collect();
    yard.enqueue_all(&jobs).await;
    let engine = yard.start(8);
    eventually("a line", || async { (yard.limited().await > 200).then_some(()) }).await;
    let jobs: Vec<_> = (0..5).map(|_| NewJob::of(&Alone {}).organization(quiet)).collect();
    yard.enqueue_all(&jobs).await;
    yard.work_off().await;
    assert_eq!(yard.world.gauge.most("alone"), 1);
    let overtaken = yard
        .bench
        .count(
            "select count(*) from queue.history n, \
                    (select min(due_at) as first, max(started_at) as last from queue.history where organization_id = '00000000-0000-0000-0000-000000000002') q \
             where n.organization_id = '00000000-0000-0000-0000-000000000001' and n.started_at between q.first and q.last",
        )
        .await;
    assert!(overtaken <= 40, "five jobs waited for {overtaken} of the other's");
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_lane_keeps_its_limit_over_two_processes() {
    let yard = Yard::new().await;
    let config = || {
        let mut config = Bench::patient();
        config.lanes[0] = LaneConfig { concurrency: 20, ..config.lanes[0].clone().at_once(3) };
        config
    };
    let jobs: Vec<_> = (0..150).map(|_| NewJob::of(&Scripted { steps: vec![Step::Done] })).collect();
    yard.enqueue_all(&jobs).await;
    let engines = [yard.start_with(config()), yard.start_with(config())];
    yard.work_off().await;
    assert!((2..=3).contains(&yard.world.gauge.most("lane")), "{}", yard.world.gauge.most("lane"));
    // An operator lifts it to five.
    let mut connection = yard.bench.pool().acquire().await.unwrap();
    assert!(admin::limit_lane(&mut connection, LANE, Some(5)).await.unwrap());
    assert!(!admin::limit_lane(&mut connection, OTHER_LANE, Some(5)).await.unwrap());
    yard.enqueue_all(&jobs).await;
    yard.work_off().await;
    assert!((4..=5).contains(&yard.world.gauge.most("lane")), "{}", yard.world.gauge.most("lane"));
    for engine in engines {
        engine.shutdown(Duration::from_secs(5)).await;
    }
}

#[tokio::test]
async fn an_operator_changes_a_limit_while_jobs_wait() {
    let yard = Yard::new().await;
    let engine = yard.start(16);
    for _ in 0..6 {
        yard.fetch("k", End::Gate).await;
    }
    eventually("four to wait", || async { (yard.limited().await == 4).then_some(()) }).await;
    let mut connection = yard.bench.pool().acquire().await.unwrap();
    let change = LimitChange { at_once: Some(4), ..LimitChange::default() };
    assert!(admin::set_limit(&mut connection, "fetch/key", change).await.unwrap());
    eventually("two more to run", || async { (yard.permits().await == 12).then_some(()) }).await;
    assert_eq!(yard.limited().await, 2);
    let limits = admin::limits(&mut connection, None).await.unwrap();
    let names: Vec<_> = limits.iter().map(|limit| (limit.name.as_str(), limit.at_once, limit.held)).collect();
    assert_eq!(
        names,
        [
            ("alone", Some(1), 0),
            ("call/rate/key", None, 0),
            ("fetch", Some(8), 4),
            ("fetch/key", Some(2), 4),
            ("fetch/tenant", Some(4), 4)
        ]
    );
    yard.world.gate.add_permits(6);
    yard.work_off().await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn all_that_wait_for_a_limit_run_when_it_is_lifted() {
    let yard = Yard::new().await;
    let jobs: Vec<_> = (0..1500).map(|_| NewJob::of(&Fetch { key: "k".into(), end: End::Gate })).collect();
    yard.enqueue_all(&jobs).await;
    let engine = yard.start(16);
    eventually("a line", || async { (yard.limited().await == 1498).then_some(()) }).await;
    engine.shutdown(Duration::ZERO).await;
    let mut connection = yard.bench.pool().acquire().await.unwrap();
    for name in ["fetch", "fetch/tenant", "fetch/key"] {
        let change = LimitChange { at_once: Some(100_000), ..LimitChange::default() };
        assert!(admin::set_limit(&mut connection, name, change).await.unwrap());
    }
    // A piece at a time, because each of them steps over what it has moved.
    let call = "select count(*) filter (where again = 'fetch/key:k' and rest = 99500) \
                from queue.call(array['fetch/key:k'], '0', '2 s')";
    let before = yard.limited().await;
    assert_eq!(yard.bench.count(call).await, 1);
    assert_eq!(yard.limited().await, before - 500);
    yard.world.gate.add_permits(1500);
    let engine = yard.start(16);
    yard.work_off().await;
    assert_eq!(yard.bench.count("select count(*) from queue.history where outcome = 'done'").await, 1500);
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_permit_without_a_job_is_found_and_taken_away() {
    let yard = Yard::new().await;
    for _ in 0..2 {
        sqlx::query(
            "insert into queue.permits (slot, job_id, run) values ('fetch/key:k', gen_random_uuid(), 1)",
        )
        .execute(&mut yard.bench.db.owner().await)
        .await
        .unwrap();
    }
    let engine = yard.start_mortal(4);
    let id = yard.fetch("k", End::Done).await;
    yard.bench.reaches(id, JobState::Done).await;
    yard.work_off().await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_drain_keeps_to_limits_too() {
    let yard = Yard::new().await;
    for n in 0..12 {
        yard.fetch("k", if n % 2 == 0 { End::Done } else { End::Inside }).await;
    }
    let drained = Drain::new(Yard::registry(), yard.world.clone()).run(yard.bench.pool()).await.unwrap();
    assert_eq!(drained.done, 12);
    assert_eq!(yard.world.gauge.most("key k"), 2);
    assert_eq!(yard.permits().await, 0);
}

/// As the first test here, with every sort of end, processes that come and go, and one that is killed.
#[tokio::test]
async fn the_books_are_right_whatever_happens() {
    let yard = Yard::new().await;
    let ends = [End::Done, End::Inside, End::Fail, End::RolledBack, End::Snooze, End::Panic, End::Done];
    let jobs: Vec<_> = (0..400)
        .map(|n| {
            NewJob::of(&Fetch { key: format!("{}", (n * n) % 11), end: ends[n % ends.len()].clone() })
                .organization(Uuid::from_u128((n % 5) as u128))
        })
        .collect();
    yard.enqueue_all(&jobs).await;
    let stays = yard.start_mortal(10);
    for round in 0..4 {
        let before = yard.bench.count("select count(*) from queue.history").await;
        let visitor = yard.start_mortal(20);
        eventually("some progress", || async {
            (yard.bench.count("select count(*) from queue.history").await >= before + 30).then_some(())
        })
        .await;
        if round % 2 == 0 { visitor.abort() } else { visitor.shutdown(Duration::ZERO).await }
    }
    yard.work_off().await;
    for key in 0..11 {
        // A killed process' handlers may still be at it when its lease has ended.
        assert!(yard.world.gauge.most(&format!("key {key}")) <= 4);
    }
    stays.shutdown(Duration::from_secs(5)).await;
}

/// A classic bucket, kept in thousandths of a token, against the one in the database: random arrivals, random rests.
#[tokio::test]
async fn a_rate_is_a_token_bucket() {
    let yard = Yard::new().await;
    for round in 0..4 {
        let (mut level, mut waiting, mut now) = (3000, 0, 0);
        let mut story = Vec::new();
        for _ in 0..8 {
            let (rest, arrive) =
                (250 * i64::from(rand::random::<u8>() % 14), usize::from(rand::random::<u8>() % 5));
            story.push((rest, arrive));
            now += rest;
            level = (level + rest).min(3000);
            waiting += arrive as i64;
            let expected = waiting.min(level / 1000);
            waiting -= expected;
            level -= expected * 1000;

            let jobs: Vec<_> =
                (0..arrive).map(|_| NewJob::of(&Call { key: format!("round {round}") })).collect();
            yard.enqueue_all(&jobs).await;
            let clock = Arc::new(AtomicI64::new((round * 1_000_000 + now) * 1000));
            let drain = Drain::new(Yard::registry(), yard.world.clone()).clock(clock);
            let done = drain.run(yard.bench.pool()).await.unwrap().done;
            assert_eq!(done as i64, expected, "after (rest in s, arrivals) {story:?}");
        }
        yard.forget_jobs().await;
    }
}

/// Whenever nothing moves any more: each running job holds a place of each of its limits and nobody else does, no slot holds more
/// than it may, and nobody waits who could run.
#[tokio::test]
async fn at_rest_the_books_are_exact_and_no_place_is_wasted() {
    let yard = Yard::new().await;
    let engines = [yard.start(30), yard.start(30)];
    let random = |n: u8| u128::from(rand::random::<u8>() % n);
    for _ in 0..3 {
        let jobs: Vec<_> = (0..25)
            .map(|_| {
                NewJob::of(&Fetch { key: random(5).to_string(), end: End::Gate })
                    .organization(Uuid::from_u128(1 + random(3)))
            })
            .collect();
        yard.enqueue_all(&jobs).await;
        for _ in 0..3 {
            yard.comes_to_rest().await;
            let freed = 1 + random(6) as usize;
            yard.world.gate.add_permits(freed);
            eventually("some to end", || async { (yard.world.gate.available_permits() == 0).then_some(()) })
                .await;
        }
    }
    yard.comes_to_rest().await;
    yard.world.gate.add_permits(1000);
    yard.work_off().await;
    for engine in engines {
        engine.shutdown(Duration::from_secs(5)).await;
    }
}
