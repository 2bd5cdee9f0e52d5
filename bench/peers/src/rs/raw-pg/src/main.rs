#[path = "../../pb.rs"]
mod pb;
// What a lean Rust worker can get out of this Postgres: setup | enqueue N C [PIPE] | bulk N B [CONNS] | drain N | latency RATE SECS
// env: MODE BATCH CONNS of the drain
// drain MODEs (all durable, at-least-once; claim returns id+payload, payload is decoded):
//   two    claim: UPDATE..RETURNING (commit)  then DELETE = ANY (commit)
//   fused  one statement per batch: DELETE previous batch + claim next batch (one commit per batch)
//   held   BEGIN; SELECT .. FOR UPDATE SKIP LOCKED; DELETE; COMMIT (row locks held while running)
//   done   claim, then UPDATE state=2 (completed rows kept, as job systems with history do)
//   log    claim, then DELETE + INSERT into a history table in the same statement
use futures::future::join_all;
use pb::*;
use std::sync::Arc;
use tokio_postgres::{Client, NoTls};
async fn conn() -> Client {
    let (c, k) = tokio_postgres::connect(&std::env::var("DATABASE_URL").unwrap(), NoTls).await.unwrap();
    tokio::spawn(async move {
        let _ = k.await;
    });
    if let Ok(s) = std::env::var("SYNC") {
        c.batch_execute(&format!("set synchronous_commit={s}")).await.unwrap();
    }
    c
}
const SETUP: &str = "drop table if exists rawj, rawh; create table rawj(id bigint generated always as identity primary key, state smallint not null default 0, run_at timestamptz not null default now(), payload text not null) with (fillfactor=85); create index rawj_ready on rawj(run_at, id) where state=0; create table rawh(id bigint primary key, done_at timestamptz not null default now(), payload text not null); analyze rawj";
const PICK: &str =
    "select id from rawj where state=0 and run_at<=now() order by run_at,id limit $1 for update skip locked";
#[tokio::main]
async fn main() {
    match arg(1).as_str() {
        "setup" => conn().await.batch_execute(SETUP).await.unwrap(),
        "enqueue" => {
            let (n, c, p) = (argn(2, 10000), argn(3, 1), argn(4, 1));
            let mut hs = vec![];
            let c0 = cpu();
            let t0 = now_ms();
            for w in 0..c {
                hs.push(tokio::spawn(async move {
                    let k = conn().await;
                    let st = k.prepare("insert into rawj(payload) values($1) returning id").await.unwrap();
                    let (k, st) = (Arc::new(k), st);
                    let m = n / c;
                    let mut i = 0;
                    while i < m {
                        let q = p.min(m - i);
                        let v: Vec<String> = (0..q)
                            .map(|x| serde_json::to_string(&job((w * m + i + x) as i64)).unwrap())
                            .collect();
                        join_all(v.iter().map(|s| {
                            let k = k.clone();
                            let st = st.clone();
                            async move {
                                k.query_one(&st, &[s]).await.unwrap();
                            }
                        }))
                        .await;
                        i += q;
                    }
                }));
            }
            for h in hs {
                h.await.unwrap();
            }
            println!("OUT {{\"n\":{},\"secs\":{:.4},\"cpu\":{:.3}}}", n, (now_ms() - t0) / 1e3, cpu() - c0);
        }
        "bulk" => {
            let (n, b, c) = (argn(2, 100000), argn(3, 1000), argn(4, 1));
            let mut hs = vec![];
            let c0 = cpu();
            let t0 = now_ms();
            for _ in 0..c {
                hs.push(tokio::spawn(async move {
                    let k = conn().await;
                    let st = k
                        .prepare("insert into rawj(payload) select unnest($1::text[]) returning id")
                        .await
                        .unwrap();
                    let mut i = 0;
                    while i < n / c {
                        let v: Vec<String> =
                            (0..b).map(|x| serde_json::to_string(&job((i + x) as i64)).unwrap()).collect();
                        k.query(&st, &[&v]).await.unwrap();
                        i += b;
                    }
                }));
            }
            for h in hs {
                h.await.unwrap();
            }
            println!("OUT {{\"n\":{},\"secs\":{:.4},\"cpu\":{:.3}}}", n, (now_ms() - t0) / 1e3, cpu() - c0);
        }
        "drain" => {
            let (n, b, w, mode) =
                (argn(2, 100000), envn("BATCH", 500), envn("CONNS", 2), env("MODE", "fused"));
            let ctr = Ctr::default();
            let mut hs = vec![];
            let mut ks = vec![];
            for _ in 0..w {
                ks.push(conn().await);
            }
            let c0 = cpu();
            let t0 = now_ms();
            for mut k in ks {
                let ctr = ctr.clone();
                let mode = mode.clone();
                hs.push(tokio::spawn(async move {
                let b = b as i64; let claim = k.prepare(&format!("with s as ({PICK}) update rawj j set state=1 from s where j.id=s.id returning j.id, j.payload")).await.unwrap();
                let del = k.prepare("delete from rawj where id=any($1)").await.unwrap(); let done = k.prepare("update rawj set state=2 where id=any($1)").await.unwrap();
                let log = k.prepare("with d as (delete from rawj where id=any($1) returning id,payload) insert into rawh(id,payload) select id,payload from d").await.unwrap();
                let fused = k.prepare(&format!("with d as (delete from rawj where id=any($2)), s as ({PICK}) update rawj j set state=1 from s where j.id=s.id returning j.id, j.payload")).await.unwrap();
                let pick = k.prepare("select id,payload from rawj where state=0 and run_at<=now() order by run_at,id limit $1 for update skip locked").await.unwrap();
                let mut prev: Vec<i64> = vec![];
                let eat = |rows: &[tokio_postgres::Row]| -> Vec<i64> { rows.iter().map(|r| { let j: Job = serde_json::from_str(r.get::<_, &str>(1)).unwrap(); ctr.hit(j.id); r.get::<_, i64>(0) }).collect() };
                loop { match mode.as_str() {
                    "fused" => { let r = k.query(&fused, &[&b, &prev]).await.unwrap(); prev = eat(&r); if prev.is_empty() { break } }
                    "held" => { let t = k.transaction().await.unwrap(); let r = t.query(&pick, &[&b]).await.unwrap(); let ids = eat(&r); if ids.is_empty() { break } t.execute(&del, &[&ids]).await.unwrap(); t.commit().await.unwrap(); }
                    m => { let r = k.query(&claim, &[&b]).await.unwrap(); let ids = eat(&r); if ids.is_empty() { break } k.execute(if m == "done" { &done } else if m == "log" { &log } else { &del }, &[&ids]).await.unwrap(); }
                } } }));
            }
            for h in hs {
                h.await.unwrap();
            }
            out_drain(ctr.n.load(std::sync::atomic::Ordering::Relaxed), t0, now_ms(), c0);
            let _ = n;
        }
        "latency" => {
            // LISTEN/NOTIFY wake-up + claim up to 10 + delete
            let ctr = Ctr::default();
            ctr.lat.store(true, std::sync::atomic::Ordering::Relaxed);
            let (tx, mut rx) = tokio::sync::mpsc::channel::<()>(1);
            let (lc, mut lk) =
                tokio_postgres::connect(&std::env::var("DATABASE_URL").unwrap(), NoTls).await.unwrap();
            tokio::spawn(async move {
                loop {
                    match futures::future::poll_fn(|cx| lk.poll_message(cx)).await {
                        Some(Ok(tokio_postgres::AsyncMessage::Notification(_))) => {
                            let _ = tx.try_send(());
                        }
                        None => break,
                        _ => {}
                    }
                }
            });
            lc.batch_execute("listen rawj").await.unwrap();
            let c2 = ctr.clone();
            tokio::spawn(async move {
                let k = conn().await;
                let claim = k.prepare(&format!("with s as ({PICK}) update rawj j set state=1 from s where j.id=s.id returning j.id, j.payload")).await.unwrap();
                let del = k.prepare("delete from rawj where id=any($1)").await.unwrap();
                loop {
                    loop {
                        let r = k.query(&claim, &[&10i64]).await.unwrap();
                        let ids: Vec<i64> = r
                            .iter()
                            .map(|r| {
                                let j: Job = serde_json::from_str(r.get::<_, &str>(1)).unwrap();
                                c2.hit(j.id);
                                r.get(0)
                            })
                            .collect();
                        if ids.is_empty() {
                            break;
                        }
                        k.execute(&del, &[&ids]).await.unwrap();
                        if ids.len() < 10 && rx.is_empty() {
                            break;
                        }
                    }
                    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), rx.recv()).await;
                }
            });
            let p = Arc::new(conn().await);
            let st = p.prepare("with i as (insert into rawj(payload) values($1) returning id) select id, pg_notify('rawj','') from i").await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            let (c, d) = paced(argn(2, 100), argn(3, 10), |i| {
                let p = p.clone();
                let st = st.clone();
                async move {
                    let s = serde_json::to_string(&job(i)).unwrap();
                    p.query(&st, &[&s]).await.unwrap();
                }
            })
            .await;
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            lat_report(&c, &d, &ctr.t.lock().unwrap());
            drop(lc);
        }
        x => panic!("unknown {x}"),
    }
    std::process::exit(0);
}
