//! The workers: an engine in this process, or processes of their own that say what they have seen.

use super::{Noop, Peer};
use anyhow::{Context, Result};
use queue::{Engine, JobResult, Outcome, Registry, Run, Running};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::task::JoinHandle;

/// What handlers have seen.
#[derive(Clone, Default)]
pub struct Seen {
    pub count: Arc<AtomicU64>,
    starts: Option<Arc<Mutex<HashMap<i64, f64>>>>,
}

impl Seen {
    /// When each job started, too.
    pub fn with_starts() -> Seen {
        Seen { starts: Some(Arc::default()), ..Seen::default() }
    }

    fn lock(&self) -> Option<MutexGuard<'_, HashMap<i64, f64>>> {
        Some(self.starts.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn see(&self, id: i64) {
        if let Some(mut starts) = self.lock() {
            starts.entry(id).or_insert_with(now_ms);
        }
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub fn starts(&self) -> HashMap<i64, f64> {
        self.lock().map(|starts| starts.clone()).unwrap_or_default()
    }

    pub async fn until(&self, jobs: u64) {
        while self.count.load(Ordering::Relaxed) < jobs {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl<const HISTORY: bool> Run<Seen> for Noop<HISTORY> {
    async fn run(self, _: &Running, seen: &Seen) -> JobResult {
        seen.see(self.id);
        Ok(Outcome::Done)
    }
}

fn engine(peer: &Peer, seen: &Seen) -> Result<Engine> {
    let registry = Registry::new().job::<Noop<true>>().job::<Noop<false>>();
    Ok(Engine::start(&peer.pool, registry, seen.clone(), peer.config()?))
}

pub struct Crew {
    pub seen: Seen,
    engine: Option<Engine>,
    others: Vec<(Child, JoinHandle<Result<()>>)>,
}

impl Crew {
    pub fn start(peer: &Peer, seen: Seen) -> Result<Crew> {
        let mut crew = Crew { seen, engine: None, others: Vec::new() };
        if peer.how.processes == 1 && !peer.how.apart {
            crew.engine = Some(engine(peer, &crew.seen)?);
            return Ok(crew);
        }
        for _ in 0..peer.how.processes {
            let how = &peer.how;
            let mut child = Command::new(std::env::current_exe()?)
                .args(["peer", "work", "--transport", how.transport.as_str()])
                .args(["--concurrency", &how.concurrency.to_string()])
                .args(crew.seen.starts.is_some().then_some("--starts"))
                .args(how.no_history.then_some("--no-history"))
                .envs(how.database_url.iter().map(|url| ("DATABASE_URL", url)))
                .envs(how.amqp_url.iter().map(|url| ("AMQP_URL", url)))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .kill_on_drop(true)
                .spawn()?;
            let (output, seen) = (child.stdout.take().context("no output")?, crew.seen.clone());
            crew.others.push((child, tokio::spawn(hear(output, seen))));
        }
        Ok(crew)
    }

    pub fn is_apart(&self) -> bool {
        self.engine.is_none()
    }

    pub async fn stop(self) -> Result<Seen> {
        if let Some(engine) = self.engine {
            engine.shutdown(Duration::from_secs(10)).await;
        }
        for (mut child, heard) in self.others {
            drop(child.stdin.take());
            heard.await??;
            anyhow::ensure!(child.wait().await?.success(), "a worker process failed");
        }
        Ok(self.seen)
    }
}

/// What a worker process says: how many jobs it has seen in all so far, and at its end when each started.
async fn hear(output: ChildStdout, seen: Seen) -> Result<()> {
    let (mut lines, mut before) = (BufReader::new(output).lines(), 0_u64);
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["seen", count] => {
                let count: u64 = count.parse()?;
                seen.count.fetch_add(count - before, Ordering::Relaxed);
                before = count;
            }
            ["start", id, at] => {
                if let Some(mut starts) = seen.lock() {
                    starts.insert(id.parse()?, at.parse()?);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The other end of [`hear`].
pub async fn work(peer: &Peer, starts: bool) -> Result<Value> {
    let seen = if starts { Seen::with_starts() } else { Seen::default() };
    let engine = engine(peer, &seen)?;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let (mut input, mut output) = (tokio::io::stdin(), tokio::io::stdout());
    let (mut said, mut nothing) = (0, [0; 16]);
    loop {
        tokio::select! {
            read = input.read(&mut nothing) => if read? == 0 { break },
            _ = ticks.tick() => {}
        }
        let count = seen.count.load(Ordering::Relaxed);
        if count != said {
            said = count;
            output.write_all(format!("seen {count}\n").as_bytes()).await?;
            output.flush().await?;
        }
    }
    engine.shutdown(Duration::from_secs(10)).await;
    output.write_all(format!("seen {}\n", seen.count.load(Ordering::Relaxed)).as_bytes()).await?;
    for (id, at) in seen.starts() {
        output.write_all(format!("start {id} {at}\n").as_bytes()).await?;
    }
    output.flush().await?;
    Ok(json!({}))
}

/// Milliseconds of a clock that all processes of the machine share.
pub fn now_ms() -> f64 {
    #[expect(clippy::disallowed_methods, reason = "two processes on one machine compare their clocks")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

/// What this process has used.
pub fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks =
        |n: usize| fields.get(n).and_then(|field| field.parse::<f64>().ok()).context("/proc/self/stat");
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}
