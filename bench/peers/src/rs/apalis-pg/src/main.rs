#[path = "../../pb.rs"]
mod pb;
use apalis::prelude::*;
use apalis_postgres::*;
use pb::*;
use std::time::Duration;
// env: BATCH (fetch batch, default 500) CONC (concurrency layer, 0=none) SPAWN=1 parallelize(tokio::spawn) LOCK=0|1 POLL=pubsub|ms
const Q: &str = "noop";
async fn handle(j: Job, c: Data<Ctr>) -> Result<(), BoxDynError> {
    c.hit(j.id);
    Ok(())
}
async fn worker(pool: PgPool, ctr: Ctr) {
    let cfg = Config::default().queue(Q).batch_size(envn("BATCH", 10)).lock_tasks(env("LOCK", "1") == "1");
    let b = PostgresStorage::<Job>::new(&pool)
        .with_config(cfg)
        .with_pubsub()
        .poll_with_interval(Duration::from_millis(envn("POLLMS", 100) as u64));
    let conc = envn("CONC", 100);
    let w = WorkerBuilder::new("pb-worker").backend(b).data(ctr);
    let r = if env("SPAWN", "0") == "1" {
        w.concurrency(conc).parallelize(tokio::spawn).build(handle).run().await
    } else {
        w.concurrency(conc).build(handle).run().await
    };
    if let Err(e) = r {
        eprintln!("worker: {e:?}");
    }
}
async fn left(pool: &PgPool) -> bool {
    use sqlx::Row;
    sqlx::query("select exists(select 1 from apalis.jobs where job_type='noop' and status <> 'Done' and run_at < now()) e").fetch_one(pool).await.unwrap().get::<bool, _>(0)
}
// Worker::run() futures do not pass tokio::spawn's Send check ("FnOnce not general enough"), so drive it by block_on on its own thread
fn on_thread(p: PgPool, c: Ctr) {
    let h = tokio::runtime::Handle::current();
    std::thread::spawn(move || h.block_on(worker(p, c)));
}
#[tokio::main]
async fn main() {
    let url = std::env::var("DATABASE_URL").unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(20).connect(&url).await.unwrap();
    let cfg = Config::default().queue(Q);
    let store = PostgresStorage::<Job>::new(&pool).with_config(cfg);
    match arg(1).as_str() {
        "setup" => {
            sqlx::query("drop schema if exists apalis cascade").execute(&pool).await.unwrap();
            PostgresStorage::setup(&pool).await.unwrap();
        }
        "enqueue" => {
            let (n, c) = (argn(2, 1000), argn(3, 1));
            let t0 = now_ms();
            fanout(n, c, move |i| {
                let mut s = store.clone();
                async move {
                    s.push(job(i)).await.unwrap();
                }
            })
            .await;
            out_rate(n, t0);
        }
        "bulk" => {
            let (n, b) = (argn(2, 100000), argn(3, 1000));
            let t0 = now_ms();
            let mut s = store.clone();
            let mut i = 0;
            while i < n {
                let m = b.min(n - i);
                s.push_bulk((0..m).map(|k| job((i + k) as i64)).collect()).await.unwrap();
                i += m;
            }
            out_rate(n, t0);
        }
        "drain" => {
            let n = argn(2, 1000) as u64;
            let ctr = Ctr::default();
            let c0 = cpu();
            let t0 = now_ms();
            on_thread(pool.clone(), ctr.clone());
            ctr.wait(n).await;
            let th = now_ms();
            while left(&pool).await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            out_drain(n, t0, th, c0);
        }
        "latency" => {
            let ctr = Ctr::default();
            ctr.lat.store(true, std::sync::atomic::Ordering::Relaxed);
            on_thread(pool.clone(), ctr.clone());
            tokio::time::sleep(Duration::from_secs(1)).await;
            let (c, d) = paced(argn(2, 100), argn(3, 10), |i| {
                let mut s = store.clone();
                async move {
                    s.push(job(i)).await.unwrap();
                }
            })
            .await;
            tokio::time::sleep(Duration::from_secs(3)).await;
            lat_report(&c, &d, &ctr.t.lock().unwrap());
        }
        "idle" => {
            on_thread(pool.clone(), Ctr::default());
            idle(argn(2, 5)).await;
        }
        x => panic!("unknown {x}"),
    }
    std::process::exit(0);
}
