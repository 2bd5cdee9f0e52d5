#[path = "../../pb.rs"]
mod pb;
use fang::asynk::async_queue::{AsyncQueue, AsyncQueueable};
use fang::asynk::async_worker_pool::AsyncWorkerPool;
use fang::{async_trait, typetag, AsyncRunnable, FangError};
use pb::*;
use std::sync::OnceLock;
use std::time::Duration;
static CTR: OnceLock<Ctr> = OnceLock::new();
fn ctr() -> &'static Ctr {
    CTR.get_or_init(Ctr::default)
}
#[derive(serde::Serialize, serde::Deserialize)]
struct Noop {
    j: Job,
}
#[typetag::serde]
#[async_trait]
impl AsyncRunnable for Noop {
    async fn run(&self, _q: &dyn AsyncQueueable) -> Result<(), FangError> {
        ctr().hit(self.j.id);
        Ok(())
    }
}
async fn left(pool: &sqlx::PgPool) -> bool {
    use sqlx::Row;
    sqlx::query("select exists(select 1 from fang_tasks) e").fetch_one(pool).await.unwrap().get::<bool, _>(0)
}
#[tokio::main]
async fn main() {
    let url = std::env::var("DATABASE_URL").unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(2).connect(&url).await.unwrap();
    let mut q = AsyncQueue::builder().uri(url.clone()).max_pool_size(envn("POOL", 24) as u32).build();
    q.connect().await.unwrap();
    let run = || {
        let mut p: AsyncWorkerPool<AsyncQueue> =
            AsyncWorkerPool::builder().number_of_workers(envn("CONC", 16) as u32).queue(q.clone()).build();
        async move {
            p.start().await;
        }
    };
    match arg(1).as_str() {
        "enqueue" => {
            let (n, c) = (argn(2, 1000), argn(3, 1));
            let t0 = now_ms();
            let q = q.clone();
            fanout(n, c, move |i| {
                let q = q.clone();
                async move {
                    q.insert_task(&Noop { j: job(i) }).await.unwrap();
                }
            })
            .await;
            out_rate(n, t0);
        }
        "drain" => {
            let n = argn(2, 1000) as u64;
            let c0 = cpu();
            let t0 = now_ms();
            run().await;
            ctr().wait(n).await;
            let th = now_ms();
            while left(&pool).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            out_drain(n, t0, th, c0);
        }
        "latency" => {
            ctr().lat.store(true, std::sync::atomic::Ordering::Relaxed);
            run().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            let (c, d) = paced(argn(2, 100), argn(3, 10), |i| {
                let q = q.clone();
                async move {
                    q.insert_task(&Noop { j: job(i) }).await.unwrap();
                }
            })
            .await;
            tokio::time::sleep(Duration::from_secs(6)).await;
            lat_report(&c, &d, &ctr().t.lock().unwrap());
        }
        "idle" => {
            run().await;
            idle(argn(2, 5)).await;
        }
        x => panic!("unknown {x}"),
    }
    std::process::exit(0);
}
