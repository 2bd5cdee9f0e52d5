//! Resident memory of the demo process when nothing happens.

use crate::demo::Demo;
use crate::memory::megabytes;
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
    let resident = megabytes(Some(demo.pid()), "VmRSS").context("no VmRSS")?;
    let ready = demo.ready_after;
    demo.stop().await?;
    Ok(json!({"bench": "idle", "resident_mb": resident, "ready_after_ms": ready.as_millis() as u64}))
}
