//! H25: what floods cost in memory, and how soon they are turned away. Three at a time of those that cost an attacker little: requests without an
//! end of their heads, bodies that are deep or large, and more requests than anybody is allowed.

use crate::demo::Demo;
use crate::memory::megabytes;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

#[derive(clap::Args)]
pub struct Args {
    /// How long
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Connections that begin a head and never end it
    #[arg(long, default_value_t = 2000)]
    slow: usize,
    /// Connections that send requests as fast as they are answered
    #[arg(long, default_value_t = 16)]
    fast: usize,
}

#[derive(Default)]
struct Seen {
    answered: AtomicU64,
    turned_away: AtomicU64,
    with_retry_after: AtomicU64,
    closed: AtomicU64,
}

pub async fn run(args: Args) -> Result<Value> {
    let demo = Demo::start_with(&[("RELAYDESK_RATE_LIMITS", "address=60")]).await?;
    // A while of ordinary life first, so that what is made once is there.
    for _ in 0..200 {
        demo.http.get(format!("{}/livez", demo.api)).send().await?.bytes().await?;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = megabytes(Some(demo.pid()), "VmRSS").context("no VmRSS")?;
    let (seen, over) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
    let mut crowd = JoinSet::new();
    let address = demo.api.trim_start_matches("http://").to_owned();
    for _ in 0..args.slow {
        let (address, seen, over) = (address.clone(), seen.clone(), over.clone());
        crowd.spawn(async move {
            dawdle(&address, &seen, &over).await;
            Vec::new()
        });
    }
    for n in 0..args.fast {
        let (demo_api, seen, over) = (demo.api.clone(), seen.clone(), over.clone());
        crowd.spawn(async move { rush(&demo_api, n, &seen, &over).await });
    }
    let (begun, mut most) = (Instant::now(), before);
    while begun.elapsed() < Duration::from_secs(args.seconds) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(megabytes(Some(demo.pid()), "VmRSS").unwrap_or_default());
    }
    over.store(true, Ordering::Relaxed);
    let mut times: Vec<Duration> = Vec::new();
    while let Some(one) = crowd.join_next().await {
        times.extend(one?);
    }
    times.sort_unstable();
    let at = |part: usize| {
        let time = times.get(times.len().saturating_sub(times.len() / part + 1));
        time.map_or(0.0, |time| (time.as_secs_f64() * 100_000.0).round() / 100.0)
    };
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let figures = json!({"bench": "flood", "seconds": args.seconds, "slow_connections": args.slow, "fast_connections": args.fast,
        "resident_before_mb": before, "resident_most_mb": most, "grown_mb": ((most - before) * 10.0).round() / 10.0,
        "answered": of(&seen.answered), "turned_away": of(&seen.turned_away), "with_retry_after": of(&seen.with_retry_after),
        "slow_heads_closed": of(&seen.closed), "turned_away_p50_ms": at(2), "turned_away_p99_ms": at(100)});
    demo.stop().await?;
    Ok(figures)
}

/// A byte of a head every two seconds, again and again.
async fn dawdle(address: &str, seen: &Seen, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            tokio::time::sleep(Duration::from_millis(200)).await;
            continue;
        };
        if stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: ").await.is_err() {
            continue;
        }
        while !over.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_secs(2)).await;
            if stream.write_all(b"a").await.is_err() {
                seen.closed.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
}

/// Logins with deep, large and ordinary bodies. Answers how long it took to be turned away.
async fn rush(api: &str, n: usize, seen: &Seen, over: &AtomicBool) -> Vec<Duration> {
    let deep = format!("{}{}", "[".repeat(400_000), "]".repeat(400_000));
    let bodies = [deep, "x".repeat(1 << 20), json!({"email": "a@demo.example", "password": "x"}).to_string()];
    let body = bodies.into_iter().nth(n % 3).unwrap_or_default();
    #[expect(clippy::disallowed_methods, reason = "a load generator talks to its own loopback server")]
    let client = reqwest::Client::new();
    let mut times = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let request =
            client.post(format!("{api}/api/v1/auth/login")).header("content-type", "application/json");
        let Ok(answer) = request.body(body.clone()).send().await else { continue };
        seen.answered.fetch_add(1, Ordering::Relaxed);
        if answer.status() == 429 {
            times.push(begun.elapsed());
            seen.turned_away.fetch_add(1, Ordering::Relaxed);
            seen.with_retry_after
                .fetch_add(u64::from(answer.headers().contains_key("retry-after")), Ordering::Relaxed);
        }
        let _ = answer.bytes().await;
    }
    times
}
