use crate::scripted::{Bench, Scripted, Step, eventually};
use queue::Engine;
use queue::schedules::{self, Missed, Schedule};
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
