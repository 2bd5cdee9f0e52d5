#[path = "../../pb.rs"]
mod pb;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
};
use pb::*;
use std::sync::Arc;
use std::time::Duration;
// env: CFG=default|lq  CONC LQ (local queue size) CBD (complete batch delay ms) POOL
#[derive(serde::Deserialize, serde::Serialize)]
#[serde(transparent)]
struct J(Job);
#[derive(Clone)]
struct C(Ctr);
impl std::fmt::Debug for C {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("C")
    }
}
impl TaskHandler for J {
    const IDENTIFIER: &'static str = "noop";
    async fn run(self, ctx: WorkerContext) -> impl IntoTaskHandlerResult {
        ctx.get_ext::<C>().unwrap().0.hit(self.0.id);
        Ok::<(), String>(())
    }
}
async fn opts(ctr: Ctr, pool: sqlx::PgPool) -> graphile_worker::Worker {
    let mut o = WorkerOptions::default()
        .pg_pool(pool)
        .schema("gwrs")
        .concurrency(envn("CONC", 24))
        .poll_interval(Duration::from_millis(1000))
        .add_extension(C(ctr))
        .define_job::<J>();
    if env("CFG", "default") == "lq" {
        o = o
            .local_queue(LocalQueueConfig::default().with_size(envn("LQ", 1000)))
            .complete_job_batch_delay(Duration::from_millis(envn("CBD", 5) as u64));
    }
    o.init().await.unwrap()
}
async fn left(pool: &sqlx::PgPool) -> bool {
    use sqlx::Row;
    sqlx::query("select exists(select 1 from gwrs._private_jobs where run_at<=now()) e")
        .fetch_one(pool)
        .await
        .unwrap()
        .get::<bool, _>(0)
}
#[tokio::main]
async fn main() {
    let url = std::env::var("DATABASE_URL").unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(envn("POOL", 20) as u32)
        .connect(&url)
        .await
        .unwrap();
    let p2 = sqlx::postgres::PgPoolOptions::new().max_connections(2).connect(&url).await.unwrap();
    let raw = |i: usize| RawJobSpec {
        identifier: "noop".into(),
        payload: serde_json::to_value(job(i as i64)).unwrap(),
        spec: JobSpec::default(),
    };
    match arg(1).as_str() {
        "setup" => {
            sqlx::query("drop schema if exists gwrs cascade").execute(&pool).await.unwrap();
            opts(Ctr::default(), pool.clone()).await;
        }
        "enqueue" => {
            let w = Arc::new(opts(Ctr::default(), pool.clone()).await);
            let (n, c) = (argn(2, 1000), argn(3, 1));
            let u = Arc::new(w.create_utils());
            let t0 = now_ms();
            fanout(n, c, move |i| {
                let u = u.clone();
                async move {
                    u.add_job(J(job(i)), JobSpec::default()).await.unwrap();
                }
            })
            .await;
            out_rate(n, t0);
        }
        "bulk" => {
            let w = opts(Ctr::default(), pool.clone()).await;
            let u = w.create_utils();
            let (n, b) = (argn(2, 100000), argn(3, 1000));
            let t0 = now_ms();
            let mut i = 0;
            while i < n {
                let m = b.min(n - i);
                let v: Vec<_> = (i..i + m).map(raw).collect();
                u.add_raw_jobs(&v).await.unwrap();
                i += m;
            }
            out_rate(n, t0);
        }
        "drain" => {
            let n = argn(2, 1000) as u64;
            let ctr = Ctr::default();
            let w = Arc::new(opts(ctr.clone(), pool.clone()).await);
            let c0 = cpu();
            let t0 = now_ms();
            let h = {
                let w = w.clone();
                tokio::spawn(async move {
                    let _ = w.run().await;
                })
            };
            ctr.wait(n).await;
            let th = now_ms();
            while left(&p2).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            out_drain(n, t0, th, c0);
            w.request_shutdown();
            let _ = tokio::time::timeout(Duration::from_secs(3), h).await;
        }
        "latency" => {
            let ctr = Ctr::default();
            ctr.lat.store(true, std::sync::atomic::Ordering::Relaxed);
            let w = Arc::new(opts(ctr.clone(), pool.clone()).await);
            {
                let w = w.clone();
                tokio::spawn(async move {
                    let _ = w.run().await;
                });
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let u = Arc::new(w.create_utils());
            let (c, d) = paced(argn(2, 100), argn(3, 10), |i| {
                let u = u.clone();
                async move {
                    u.add_job(J(job(i)), JobSpec::default()).await.unwrap();
                }
            })
            .await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            lat_report(&c, &d, &ctr.t.lock().unwrap());
        }
        "idle" => {
            let w = Arc::new(opts(Ctr::default(), pool.clone()).await);
            {
                let w = w.clone();
                tokio::spawn(async move {
                    let _ = w.run().await;
                });
            }
            idle(argn(2, 5)).await;
        }
        x => panic!("unknown {x}"),
    }
    std::process::exit(0);
}
