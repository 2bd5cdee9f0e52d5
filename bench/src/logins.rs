//! H18: whether the time of an answer tells who has an account. Wrong passwords for a known and for unknown addresses, by turns and with a pause,
//! each from an address of its own, so that no throttle has a say.

use crate::demo::Demo;
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(20);

#[derive(clap::Args)]
pub struct Args {
    /// Tries of each kind
    #[arg(long, default_value_t = 400)]
    tries: usize,
}

pub async fn run(args: Args) -> Result<Value> {
    let settings = [("RELAYDESK_TRUSTED_PROXIES", "127.0.0.0/8")];
    let demo = Demo::start_with(&settings).await?;
    let known = demo.facts["admin"]["email"].as_str().unwrap_or_default().to_owned();
    let (mut of_known, mut of_unknown) = (Vec::new(), Vec::new());
    // The first few open connections and fill caches.
    for n in 0..args.tries + 20 {
        for (email, times) in
            [(known.clone(), &mut of_known), (format!("nobody{n}@demo.example"), &mut of_unknown)]
        {
            // What the last one left behind (its entry in the log, a flush) is not part of this one's time.
            tokio::time::sleep(PAUSE).await;
            let took = attempt(&demo, &email, n).await?;
            if n >= 20 {
                times.push(took);
            }
        }
    }
    let (known, unknown) = (quantiles(&mut of_known), quantiles(&mut of_unknown));
    demo.stop().await?;
    let apart = (known[0] - unknown[0]).abs();
    Ok(json!({"bench": "logins", "tries": args.tries, "known_p50_ms": known[0], "unknown_p50_ms": unknown[0],
              "known_p95_ms": known[1], "unknown_p95_ms": unknown[1], "p50_apart_ms": round(apart)}))
}

async fn attempt(demo: &Demo, email: &str, n: usize) -> Result<Duration> {
    // Of a net each: 10.0.0.0/8 has room for sixteen million.
    let address = format!("10.{}.{}.{}", n / 65536 % 256, n / 256 % 256, n % 256);
    let body = json!({"email": email, "password": "a wrong one, of course"});
    let request = demo
        .http
        .post(format!("{}/api/v1/auth/login", demo.api))
        .header("x-forwarded-for", address)
        .json(&body);
    let begun = Instant::now();
    let answer = request.send().await?;
    let took = begun.elapsed();
    ensure!(answer.status() == 401, "{} instead of 401", answer.status());
    answer.bytes().await?;
    Ok(took)
}

/// In the middle, and what one of twenty takes longer than; milliseconds.
fn quantiles(times: &mut [Duration]) -> [f64; 2] {
    times.sort_unstable();
    [2, 20].map(|part| {
        let at = times.len() - times.len() / part - 1;
        times.get(at).map_or(0.0, |time| round(time.as_secs_f64() * 1000.0))
    })
}

fn round(ms: f64) -> f64 {
    (ms * 100.0).round() / 100.0
}
