//! Resident memory of the demo process when nothing happens.

use crate::demo::Demo;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(clap::Args)]
pub struct Args {
    /// How long to leave it alone before looking
    #[arg(long, default_value_t = 30)]
    seconds: u64,
}

pub async fn run(args: Args) -> Result<Value> {
    let demo = Demo::start().await?;
    tokio::time::sleep(Duration::from_secs(args.seconds)).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", demo.pid()))?;
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .context("no VmRSS")?;
    let ready = demo.ready_after;
    demo.stop().await?;
    Ok(
        json!({"bench": "idle", "resident_mb": kib as f64 / 1024.0, "ready_after_ms": ready.as_millis() as u64}),
    )
}
