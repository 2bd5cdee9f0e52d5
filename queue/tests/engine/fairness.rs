//! Several tenants in one lane, priorities and age: who goes first is told by the order in which jobs were claimed.

use crate::scripted::{Bench, LANE, Scripted, Step, eventually};
use queue::admin::{self, JobState};
use queue::{EngineConfig, JobId, NewJob};
use std::time::Duration;
use uuid::Uuid;

fn done() -> NewJob {
    NewJob::of(&Scripted { steps: vec![Step::Done] })
}

async fn add_many(bench: &Bench, tenant: Uuid, count: usize) -> Vec<JobId> {
    let jobs: Vec<_> = (0..count).map(|_| done().organization(tenant)).collect();
    let mut tx = bench.pool().begin().await.unwrap();
    let ids = queue::enqueue(&mut tx, &jobs).await.unwrap();
    tx.commit().await.unwrap();
    ids
}

fn places(concurrency: usize) -> EngineConfig {
    let mut config = Bench::patient();
    config.lanes[0].concurrency = concurrency;
    config
}

/// Whose jobs were claimed, in order.
async fn claimed(bench: &Bench) -> Vec<Option<Uuid>> {
    sqlx::query_scalar("select organization_id from queue.history order by started_at, id")
        .fetch_all(&mut bench.db.owner().await)
        .await
        .unwrap()
}

async fn finished(bench: &Bench, jobs: i64) {
    eventually("the jobs to be done", || async {
        (bench.count("select count(*) from queue.history").await >= jobs).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_tenant_with_one_job_does_not_wait_behind_thousands_of_another() {
    let bench = Bench::new().await;
    let (noisy, quiet) = (Uuid::from_u128(1), Uuid::from_u128(2));
    add_many(&bench, noisy, 6000).await;
    let (engine, _) = bench.start_other(places(4));
    for _ in 0..3 {
        let before = bench.count("select count(*) from queue.history").await;
        finished(&bench, before + 20).await;
        let ours = bench.enqueue(done().organization(quiet)).await;
        bench.reaches(ours, JobState::Done).await;
    }
    let overtaken: i64 = sqlx::query_scalar(
        "select max(o.overtaken) from queue.history q cross join lateral ( \
           select count(*) as overtaken from queue.history n \
           where n.organization_id = $1 and n.started_at between q.due_at and q.started_at) o \
         where q.organization_id = $2",
    )
    .bind(noisy)
    .bind(quiet)
    .fetch_one(&mut bench.db.owner().await)
    .await
    .unwrap();
    // On RabbitMQ besides: what is published already, the work of a fifth of a second.
    let most = if Bench::is_on_rabbitmq() { 1500 } else { 200 };
    assert!(overtaken <= most, "{overtaken} of the other's 6,000 went first");
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn tenants_take_turns_in_proportion_to_their_weights() {
    let bench = Bench::new().await;
    let (heavy, light, nobody) = (Uuid::from_u128(1), Uuid::from_u128(2), None);
    admin::set_weight(&mut bench.pool().acquire().await.unwrap(), heavy, 3.0).await.unwrap();
    add_many(&bench, heavy, 300).await;
    add_many(&bench, light, 300).await;
    let system: Vec<_> = (0..300).map(|_| done()).collect();
    let mut tx = bench.pool().begin().await.unwrap();
    queue::enqueue(&mut tx, &system).await.unwrap();
    tx.commit().await.unwrap();
    let (engine, _) = bench.start_other(places(3));
    finished(&bench, 900).await;
    engine.shutdown(Duration::from_secs(5)).await;
    let order = claimed(&bench).await;
    // The first claim takes what it finds; from then on 3 : 1 : 1, and jobs of no organization are a tenant like others.
    for count in [50, 100, 400] {
        let of = |who: Option<Uuid>| order[3..3 + count].iter().filter(|tenant| **tenant == who).count();
        let (third, rest) = (of(Some(heavy)), [of(Some(light)), of(nobody)]);
        assert!(third.abs_diff(count * 3 / 5) <= 4, "{third} of {count}");
        assert!(rest.iter().all(|share| share.abs_diff(count / 5) <= 4), "{rest:?} of {count}");
    }
}

#[tokio::test]
async fn one_place_goes_round_many_tenants() {
    let bench = Bench::new().await;
    let tenants: Vec<_> = (1..=20).map(Uuid::from_u128).collect();
    for tenant in &tenants {
        add_many(&bench, *tenant, 5).await;
    }
    let (engine, _) = bench.start_other(places(1));
    finished(&bench, 100).await;
    engine.shutdown(Duration::from_secs(5)).await;
    let order = claimed(&bench).await;
    // On RabbitMQ each batch is mixed evenly, and a round may lie across the edge of two.
    let least = if Bench::is_on_rabbitmq() { 15 } else { 19 };
    for round in order[1..81].chunks(20) {
        let mut round: Vec<_> = round.iter().flatten().copied().collect();
        round.sort_unstable();
        round.dedup();
        assert!(round.len() >= least, "everybody once a round: {round:?}");
    }
}

#[tokio::test]
async fn tenants_take_turns_at_the_limit_of_a_lane() {
    let bench = Bench::new().await;
    let (noisy, quiet) = (Uuid::from_u128(1), Uuid::from_u128(2));
    add_many(&bench, noisy, 1000).await;
    add_many(&bench, quiet, 5).await;
    let mut config = places(20);
    config.lanes[0] = config.lanes[0].clone().at_once(2);
    let (engine, _) = bench.start_other(config);
    eventually("the quiet tenant's jobs", || async {
        let sql = "select count(*) from queue.history where organization_id = '00000000-0000-0000-0000-000000000002'";
        (bench.count(sql).await == 5).then_some(())
    })
    .await;
    let first = bench
        .count(
            "select count(*) from queue.history n where n.organization_id = '00000000-0000-0000-0000-000000000001' \
             and started_at < (select max(started_at) from queue.history where organization_id = '00000000-0000-0000-0000-000000000002')",
        )
        .await;
    // On RabbitMQ in the order of the messages.
    assert!(first <= 100 || Bench::is_on_rabbitmq(), "{first} of the other's 1,000 went first");
    engine.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn what_waits_long_goes_before_what_is_important_and_new() {
    let bench = Bench::new().await;
    let mut connection = bench.pool().acquire().await.unwrap();
    admin::know_lanes(&mut connection, &[LANE]).await.unwrap();
    let low = bench.enqueue(done().priority(-5)).await;
    let usual = bench.enqueue(done()).await;
    // 20 minutes pass.
    sqlx::query("update queue.jobs set rank = rank - interval '20 minutes'")
        .execute(&mut bench.db.owner().await)
        .await
        .unwrap();
    let important = bench.enqueue(done().priority(10)).await; // worth ten minutes: behind both
    let urgent = bench.enqueue(done().priority(18)).await; // 18: before what had -5 and waited 20, behind what had 0
    assert!(admin::set_aging(&mut connection, LANE, Duration::from_secs(7200)).await.unwrap());
    let most = bench.enqueue(done().priority(1)).await; // now worth two hours
    let (engine, _) = bench.start_other(places(1));
    finished(&bench, 5).await;
    let order: Vec<Uuid> = sqlx::query_scalar("select id from queue.history order by started_at")
        .fetch_all(&mut *connection)
        .await
        .unwrap();
    assert_eq!(order, [most, usual, urgent, low, important].map(|id| id.0));
    engine.shutdown(Duration::from_secs(5)).await;
}
