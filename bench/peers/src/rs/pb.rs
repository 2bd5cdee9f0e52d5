// Shared helpers for our small Rust peer programs.
#![allow(dead_code)]
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
#[derive(serde::Serialize, serde::Deserialize, Clone, Debug)]
pub struct Job {
    pub id: i64,
    pub kind: String,
    pub data: String,
}
pub fn job(i: i64) -> Job {
    Job { id: i, kind: "noop".into(), data: "x".repeat(160) }
}
pub fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64() * 1e3
}
pub fn env(k: &str, d: &str) -> String {
    std::env::var(k).unwrap_or_else(|_| d.into())
}
pub fn envn(k: &str, d: usize) -> usize {
    std::env::var(k).ok().and_then(|v| v.parse().ok()).unwrap_or(d)
}
pub fn arg(i: usize) -> String {
    std::env::args().nth(i).unwrap_or_default()
}
pub fn argn(i: usize, d: usize) -> usize {
    std::env::args().nth(i).and_then(|v| v.parse().ok()).unwrap_or(d)
}
pub fn status(key: &str) -> f64 {
    let s = std::fs::read_to_string("/proc/self/status").unwrap();
    s.lines()
        .find(|l| l.starts_with(key))
        .and_then(|l| l.split_whitespace().nth(1))
        .and_then(|v| v.parse::<f64>().ok())
        .unwrap_or(0.0)
        / 1024.0
}
pub fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let r = &s[s.rfind(')').unwrap() + 2..];
    let f: Vec<&str> = r.split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
#[derive(Clone, Default)]
pub struct Ctr {
    pub n: Arc<AtomicU64>,
    pub t: Arc<Mutex<HashMap<i64, f64>>>,
    pub lat: Arc<std::sync::atomic::AtomicBool>,
}
impl Ctr {
    pub fn hit(&self, id: i64) {
        if self.lat.load(Ordering::Relaxed) {
            let t = now_ms();
            self.t.lock().unwrap().entry(id).or_insert(t);
        }
        self.n.fetch_add(1, Ordering::Relaxed);
    }
    pub async fn wait(&self, n: u64) {
        while self.n.load(Ordering::Relaxed) < n {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}
pub fn pct(v: &mut Vec<f64>, p: f64) -> f64 {
    v.sort_by(|a, b| a.partial_cmp(b).unwrap());
    if v.is_empty() {
        return -1.0;
    }
    v[((p * v.len() as f64) as usize).min(v.len() - 1)]
}
pub fn lat_report(call: &HashMap<i64, f64>, done: &HashMap<i64, f64>, start: &HashMap<i64, f64>) {
    let mut a: Vec<f64> = done.iter().filter_map(|(i, d)| start.get(i).map(|s| (s - d).max(0.0))).collect();
    let mut e: Vec<f64> = call.iter().filter_map(|(i, d)| start.get(i).map(|s| s - d)).collect();
    println!("OUT {{\"n\":{},\"p50\":{:.3},\"p95\":{:.3},\"p99\":{:.3},\"max\":{:.3},\"e50\":{:.3},\"e95\":{:.3},\"e99\":{:.3}}}", a.len(), pct(&mut a, 0.5), pct(&mut a, 0.95), pct(&mut a, 0.99), pct(&mut a, 1.0), pct(&mut e, 0.5), pct(&mut e, 0.95), pct(&mut e, 0.99));
}
pub fn out_drain(n: u64, t0: f64, th: f64, c0: f64) {
    println!(
        "OUT {{\"n\":{},\"secs\":{:.4},\"secs_handlers\":{:.4},\"cpu\":{:.3},\"hwm\":{:.1}}}",
        n,
        (now_ms() - t0) / 1e3,
        (th - t0) / 1e3,
        cpu() - c0,
        status("VmHWM:")
    );
}
pub fn out_rate(n: usize, t0: f64) {
    println!("OUT {{\"n\":{},\"secs\":{:.4}}}", n, (now_ms() - t0) / 1e3);
}
pub async fn idle(secs: usize) {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let c = cpu();
    tokio::time::sleep(Duration::from_secs(secs as u64)).await;
    println!("OUT {{\"rss\":{:.1},\"cpu_per_s\":{:.4}}}", status("VmRSS:"), (cpu() - c) / secs as f64);
}
/// open-loop paced producer at `rate`/s; each call is spawned.
pub async fn paced<F, Fut>(rate: usize, secs: usize, f: F) -> (HashMap<i64, f64>, HashMap<i64, f64>)
where
    F: Fn(i64) -> Fut,
    Fut: std::future::Future<Output = ()> + Send + 'static,
{
    let call = Arc::new(Mutex::new(HashMap::new()));
    let done = Arc::new(Mutex::new(HashMap::new()));
    let mut iv = tokio::time::interval(Duration::from_micros((1_000_000 / rate) as u64));
    let mut hs = vec![];
    for i in 0..(rate * secs) as i64 {
        iv.tick().await;
        call.lock().unwrap().insert(i, now_ms());
        let fut = f(i);
        let d = done.clone();
        hs.push(tokio::spawn(async move {
            fut.await;
            d.lock().unwrap().insert(i, now_ms());
        }));
    }
    for h in hs {
        h.await.unwrap();
    }
    let r = (call.lock().unwrap().clone(), done.lock().unwrap().clone());
    r
}
/// n calls with c concurrent loops
pub async fn fanout<F, Fut>(n: usize, c: usize, f: F)
where
    F: Fn(i64) -> Fut + Clone + Send + Sync + 'static,
    Fut: std::future::Future<Output = ()> + Send,
{
    let i = Arc::new(AtomicU64::new(0));
    let mut hs = vec![];
    for _ in 0..c {
        let i = i.clone();
        let f = f.clone();
        hs.push(tokio::spawn(async move {
            loop {
                let k = i.fetch_add(1, Ordering::Relaxed);
                if k >= n as u64 {
                    break;
                }
                f(k as i64).await
            }
        }));
    }
    for h in hs {
        h.await.unwrap();
    }
}
