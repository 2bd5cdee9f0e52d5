//! From nothing to a job that has run. In the root of the repository:
//!
//! ```sh
//! cargo build -p embedded
//! target/debug/with-postgres --migrate migrations cargo run -p queue --example greet
//! ```
//!
//! or with `DATABASE_URL` naming a database with this repository's migrations on it.
#![expect(clippy::print_stdout, reason = "what the example shows")]

use queue::{Engine, EngineConfig, Job, JobResult, LaneConfig, NewJob, Outcome, Registry, Run, Running};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use std::time::Duration;
use tokio::sync::mpsc;

/// What is to be done: all that whoever enqueues it needs to know.
#[derive(Serialize, Deserialize)]
struct Greet {
    name: String,
}

impl Job for Greet {
    const KIND: &'static str = "greet";
    const LANE: &'static str = "default";
    const MAX_ATTEMPTS: i16 = 5;
}

/// What the handlers of a process share.
struct Shared {
    said: mpsc::UnboundedSender<String>,
}

/// How it is done.
impl Run<Shared> for Greet {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        if job.attempt == 1 {
            return Err(anyhow::anyhow!("nobody opens the door").into()); // again, in about a second
        }
        shared.said.send(format!("hello, {} (attempt {})", self.name, job.attempt))?;
        Ok(Outcome::Done)
    }
}

pub async fn greet(pool: &PgPool, name: &str) -> anyhow::Result<String> {
    // A worker process.
    let (said, mut hears) = mpsc::unbounded_channel();
    let registry = Registry::new().job::<Greet>();
    let config = EngineConfig { lanes: vec![LaneConfig::new("default", 4)], ..EngineConfig::default() };
    let engine = Engine::start(pool, registry, Shared { said }, config);

    // Anybody, in any process: the job exists if and only if this transaction commits.
    let mut tx = pool.begin().await?;
    queue::enqueue(&mut tx, &[NewJob::of(&Greet { name: name.to_owned() })]).await?;
    tx.commit().await?;

    let heard = hears.recv().await;
    engine.shutdown(Duration::from_secs(5)).await;
    heard.ok_or_else(|| anyhow::anyhow!("it said nothing"))
}

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "the configuration of an example is one variable")]
async fn main() -> anyhow::Result<()> {
    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    println!("{}", greet(&pool, "Ada").await?);
    Ok(())
}
