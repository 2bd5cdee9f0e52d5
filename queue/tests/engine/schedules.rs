use crate::scripted::{Bench, Scripted, Step, eventually};
use queue::schedules::{self, Missed, Schedule};
use queue::{Engine, EngineConfig};
use std::time::Duration;
use uuid::Uuid;

fn done() -> Scripted {
    Scripted { steps: vec![Step::Done] }
}

#[tokio::test]
async fn each_tick_once_with_two_leaders() {
    let bench = Bench::new().await;
    let mut owner = bench.db.owner().await;
    schedules::upsert(
        &mut owner,
        &Schedule::every("tick", Duration::from_secs(1), &done()).missed(Missed::RunAll),
    )
    .await
    .unwrap();
    let (a, _) = bench.start_other(Bench::config());
    let (b, _) = bench.start_other(Bench::config());
    eventually("a leader", || async { (a.is_leading() || b.is_leading()).then_some(()) }).await;
    // The one that leads is frozen out: the other takes over while the first still believes.
    sqlx::query(
        "update queue.leaders set holder = gen_random_uuid(), held_until = now() + interval '300 ms'",
    )
    .execute(&mut owner)
    .await
    .unwrap();
    eventually("six ticks", || async {
        (bench.count("select count(*) from queue.history").await >= 6).then_some(())
    })
    .await;
    a.shutdown(Duration::from_secs(5)).await;
    b.shutdown(Duration::from_secs(5)).await;
    assert_eq!(
        bench.count("select count(*) - count(distinct due_at) from queue.history").await,
        0,
        "no tick twice"
    );
    let gaps = bench
        .count("select count(*) from (select due_at - lag(due_at) over (order by due_at) as gap from queue.history) g where gap <> interval '1 second'")
        .await;
    assert_eq!(gaps, 0, "no tick missed");
}

#[tokio::test]
async fn code_schedules_come_and_go_with_the_code() {
    let bench = Bench::new().await;
    let registry = |keys: &[&str]| {
        keys.iter().fold(Bench::registry(), |registry, key| {
            registry.schedule(Schedule::cron(*key, "0 3 * * *", "Europe/Berlin", &done()))
        })
    };
    let keys = || async {
        let mut connection = bench.pool().acquire().await.unwrap();
        schedules::list(&mut connection, None).await.unwrap().into_iter().map(|s| s.key).collect::<Vec<_>>()
    };
    let engine = Engine::start(bench.pool(), registry(&["a", "b"]), bench.shared.clone(), Bench::config());
    eventually("both", || async { (keys().await.len() == 2).then_some(()) }).await;
    engine.shutdown(Duration::from_secs(5)).await;
    let engine = Engine::start(bench.pool(), registry(&["b"]), bench.shared.clone(), Bench::config());
    eventually("one", || async { (keys().await == ["b"]).then_some(()) }).await;
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_dynamic_schedule_belongs_to_its_organization() {
    let bench = Bench::new().await;
    let organization = Uuid::now_v7();
    let config = Bench::config();
    let clock = config.clock.clone();
    let (engine, _) = bench.start_other(config);
    let mut tx = bench.pool().begin().await.unwrap();
    sqlx::query("select set_config('app.organization_id', $1, true)")
        .bind(organization.to_string())
        .execute(&mut *tx)
        .await
        .unwrap();
    schedules::upsert(&mut tx, &Schedule::cron("weekly", "0 7 * * 1", "Europe/Berlin", &done()))
        .await
        .unwrap();
    let bad = schedules::upsert(&mut tx, &Schedule::cron("bad", "0 7 * *", "Europe/Berlin", &done()))
        .await
        .unwrap_err();
    assert!(bad.to_string().contains("five fields"), "{bad}");
    tx.commit().await.unwrap();
    clock.advance(Duration::from_secs(7 * 86_400));
    eventually("its job", || async {
        (bench.count("select count(*) from queue.history where organization_id is not null").await == 1)
            .then_some(())
    })
    .await;
    let mut connection = bench.pool().acquire().await.unwrap();
    assert!(!schedules::remove(&mut connection, "weekly", Some(Uuid::now_v7())).await.unwrap());
    assert!(schedules::remove(&mut connection, "weekly", Some(organization)).await.unwrap());
    engine.shutdown(Duration::from_secs(5)).await;
}

/// Each leader is killed in the middle of a tick: its row is moved, its job is about to be inserted.
#[tokio::test]
async fn a_tick_is_fired_once_whenever_its_leader_dies() {
    let bench = Bench::new().await;
    let mut owner = bench.db.owner().await;
    let schedule = Schedule::every("tick", Duration::from_secs(1), &done()).missed(Missed::RunAll);
    schedules::upsert(&mut owner, &schedule).await.unwrap();
    for _ in 0..3 {
        let (engine, _) = bench.start_other(Bench::config());
        eventually("a leader", || async { engine.is_leading().then_some(()) }).await;
        sqlx::raw_sql("begin; lock table queue.jobs in share row exclusive mode")
            .execute(&mut owner)
            .await
            .unwrap();
        let firing = "select count(*) from pg_stat_activity where query like '%with moved as%' and wait_event_type = 'Lock' \
                      and datname = current_database()";
        eventually("a tick that waits", || async { (bench.count(firing).await > 0).then_some(()) }).await;
        engine.abort();
        sqlx::raw_sql("rollback").execute(&mut owner).await.unwrap();
    }
    let (engine, _) = bench.start_other(Bench::config());
    eventually("the ticks of eight seconds", || async {
        (bench.count("select count(*) from queue.history").await >= 8).then_some(())
    })
    .await;
    engine.shutdown(Duration::from_secs(5)).await;
    let gaps = bench
        .count(
            "select count(*) from (select due_at - lag(due_at) over (order by due_at) as gap from ( \
               select due_at from queue.history) t) g where gap <> interval '1 second'",
        )
        .await;
    assert_eq!(gaps, 0, "each tick once, none left out");
}

#[tokio::test]
async fn two_that_fire_at_once_fire_a_tick_once() {
    let bench = Bench::new().await;
    let mut owner = bench.db.owner().await;
    for n in 0..20 {
        let schedule = Schedule::every(format!("tick {n}"), Duration::from_secs(3600), &done());
        schedules::upsert(&mut owner, &schedule).await.unwrap();
    }
    let config = EngineConfig { leader_lease: Duration::from_millis(10), ..Bench::config() };
    config.clock.advance(Duration::from_secs(3600));
    // Leadership changes hands all the time, so several believe to have it.
    let engines = [
        bench.start_other(config.clone()).0,
        bench.start_other(config.clone()).0,
        bench.start_other(config).0,
    ];
    eventually("twenty ticks", || async {
        (bench.count("select count(*) from queue.history").await == 20).then_some(())
    })
    .await;
    for engine in engines {
        engine.shutdown(Duration::from_secs(5)).await;
    }
    assert_eq!(bench.count("select count(*) from queue.jobs").await, 0);
    assert_eq!(bench.count("select count(*) from queue.history").await, 20);
}
