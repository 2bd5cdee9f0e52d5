#[path = "../../pb.rs"]
mod pb;
// awa's queue storage (its default engine since 0.6).
// env: WORKERS CLAIMERS CLAIM (claim batch) DEADLINE=0|1 (0: the receipt path without a deadline, which its own throughput benchmark uses)
//      BULK=insert_many_copy|storage_copy (the public API, or the storage's own COPY, which its own comparison uses), POOL
use awa::{
    Client, InsertOpts, InsertParams, JobArgs, JobResult, QueueConfig, QueueStorage, QueueStorageConfig,
};
use pb::*;
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use std::time::Duration;
const Q: &str = "noop";
#[derive(Serialize, Deserialize, JobArgs)]
struct Noop {
    id: i64,
    kind: String,
    data: String,
}
fn noop(i: i64) -> Noop {
    let j = job(i);
    Noop { id: j.id, kind: j.kind, data: j.data }
}
fn opts() -> InsertOpts {
    InsertOpts { queue: Q.into(), ..Default::default() }
}
fn batch(from: usize, m: usize) -> Vec<InsertParams> {
    (from..from + m).map(|i| awa::model::insert::params_with(&noop(i as i64), opts()).unwrap()).collect()
}
async fn add(pool: &PgPool, i: i64) {
    awa::insert_with(pool, &noop(i), opts()).await.unwrap();
}
async fn worker(pool: &PgPool, ctr: Ctr) -> Client {
    let d = QueueConfig::default();
    let config = QueueConfig {
        max_workers: envn("WORKERS", d.max_workers as usize) as u32,
        claimers: envn("CLAIMERS", d.claimers as usize) as u16,
        claim_batch_size: envn("CLAIM", d.claim_batch_size),
        deadline_duration: if env("DEADLINE", "1") == "0" { Duration::ZERO } else { d.deadline_duration },
        poll_interval: Duration::from_millis(envn("POLLMS", 200) as u64),
        ..d
    };
    let client = Client::builder(pool.clone())
        .queue(Q, config)
        .register::<Noop, _, _>(move |j: Noop, _ctx| {
            let ctr = ctr.clone();
            async move {
                ctr.hit(j.id);
                Ok(JobResult::Completed)
            }
        })
        .build()
        .unwrap();
    client.start().await.unwrap();
    client
}
#[tokio::main]
async fn main() {
    let url = std::env::var("DATABASE_URL").unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(envn("POOL", 64) as u32)
        .connect(&url)
        .await
        .unwrap();
    match arg(1).as_str() {
        "setup" => {
            sqlx::query("drop schema if exists awa cascade").execute(&pool).await.unwrap();
            awa::migrations::run(&pool).await.unwrap();
            // What the first worker would do on a fresh database: without it the rows land in the old engine's tables.
            let fresh: bool = sqlx::query_scalar("select awa.storage_auto_finalize_if_fresh('awa')")
                .fetch_one(&pool)
                .await
                .unwrap();
            assert!(fresh, "queue storage is not active");
        }
        "enqueue" => {
            let (n, c) = (argn(2, 1000), argn(3, 1));
            let t0 = now_ms();
            let p = pool.clone();
            fanout(n, c, move |i| {
                let p = p.clone();
                async move { add(&p, i).await }
            })
            .await;
            out_rate(n, t0);
        }
        "bulk" => {
            let (n, b) = (argn(2, 100000), argn(3, 1000));
            let store = QueueStorage::new(QueueStorageConfig::default()).unwrap();
            let own = env("BULK", "insert_many_copy") == "storage_copy";
            let t0 = now_ms();
            let mut i = 0;
            while i < n {
                let jobs = batch(i, b.min(n - i));
                if own {
                    store.enqueue_params_copy(&pool, &jobs).await.unwrap();
                } else {
                    awa::insert_many_copy_from_pool(&pool, &jobs).await.unwrap();
                }
                i += jobs.len();
            }
            out_rate(n, t0);
        }
        "drain" => {
            let n = argn(2, 1000) as u64;
            let ctr = Ctr::default();
            let (c0, t0) = (cpu(), now_ms());
            let client = worker(&pool, ctr.clone()).await;
            ctr.wait(n).await;
            let th = now_ms();
            // A worker's permit is free again when its completion was acknowledged by the database.
            while client.health_check().await.queues.values().any(|q| q.in_flight > 0) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            out_drain(n, t0, th, c0);
            if env("CHECK", "0") == "1" {
                client.shutdown(Duration::from_secs(10)).await;
                let rows: Vec<(String, i64)> =
                    sqlx::query_as("select state::text, count(*) from awa.jobs group by 1")
                        .fetch_all(&pool)
                        .await
                        .unwrap();
                eprintln!("{rows:?}");
            }
        }
        "latency" => {
            let ctr = Ctr::default();
            ctr.lat.store(true, std::sync::atomic::Ordering::Relaxed);
            let _client = worker(&pool, ctr.clone()).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let (c, d) = paced(argn(2, 100), argn(3, 10), |i| {
                let p = pool.clone();
                async move { add(&p, i).await }
            })
            .await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            lat_report(&c, &d, &ctr.t.lock().unwrap());
        }
        "idle" => {
            let _client = worker(&pool, Ctr::default()).await;
            idle(argn(2, 5)).await;
        }
        x => panic!("unknown {x}"),
    }
    std::process::exit(0);
}
