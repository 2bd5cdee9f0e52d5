#[path = "../../pb.rs"]
mod pb;
// pgmq (SQL-only install) via the pgmq crate: read_batch + delete_batch loops (it is a queue, not a job runner)
use pb::*;
use pgmq::PGMQueueExt;
use std::sync::Arc;
use std::time::Duration;
#[tokio::main]
async fn main() {
    let url = std::env::var("DATABASE_URL").unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(envn("POOL", 20) as u32)
        .connect(&url)
        .await
        .unwrap();
    let q = Arc::new(PGMQueueExt::new_with_pool(pool).await);
    let b = envn("BATCH", 1000) as i32;
    let conc = envn("CONC", 2);
    let run = |ctr: Ctr| {
        for _ in 0..conc {
            let q = q.clone();
            let ctr = ctr.clone();
            tokio::spawn(async move {
                loop {
                    match q
                        .read_batch_with_poll::<Job>(
                            "noop",
                            30,
                            b,
                            Some(Duration::from_secs(1)),
                            Some(Duration::from_millis(envn("POLLMS", 10) as u64)),
                        )
                        .await
                        .unwrap()
                    {
                        Some(v) if !v.is_empty() => {
                            let mut ids = vec![];
                            for m in v {
                                ctr.hit(m.message.id);
                                ids.push(m.msg_id);
                            }
                            q.delete_batch("noop", &ids).await.unwrap();
                        }
                        _ => {}
                    }
                }
            });
        }
    };
    match arg(1).as_str() {
        "setup" => {
            q.install_sql_from_embedded().await.unwrap();
            let _ = q.drop_queue("noop").await;
            q.create("noop").await.unwrap();
        }
        "enqueue" => {
            let (n, c) = (argn(2, 1000), argn(3, 1));
            let t0 = now_ms();
            let q = q.clone();
            fanout(n, c, move |i| {
                let q = q.clone();
                async move {
                    q.send("noop", &job(i)).await.unwrap();
                }
            })
            .await;
            out_rate(n, t0);
        }
        "bulk" => {
            let (n, b) = (argn(2, 100000), argn(3, 1000));
            let t0 = now_ms();
            let mut i = 0;
            while i < n {
                let m = b.min(n - i);
                let v: Vec<Job> = (i..i + m).map(|k| job(k as i64)).collect();
                q.send_batch("noop", &v).await.unwrap();
                i += m;
            }
            out_rate(n, t0);
        }
        "drain" => {
            let n = argn(2, 1000) as u64;
            let c0 = cpu();
            let t0 = now_ms();
            let ctr = Ctr::default();
            run(ctr.clone());
            ctr.wait(n).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            out_drain(n, t0, now_ms(), c0);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        "latency" => {
            let ctr = Ctr::default();
            ctr.lat.store(true, std::sync::atomic::Ordering::Relaxed);
            run(ctr.clone());
            let (c, d) = paced(argn(2, 100), argn(3, 10), |i| {
                let q = q.clone();
                async move {
                    q.send("noop", &job(i)).await.unwrap();
                }
            })
            .await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            lat_report(&c, &d, &ctr.t.lock().unwrap());
        }
        "idle" => {
            run(Ctr::default());
            idle(argn(2, 5)).await;
        }
        x => panic!("unknown {x}"),
    }
    std::process::exit(0);
}
