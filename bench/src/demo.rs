//! A demo of its own for each measurement: the release executable, a fresh data folder, free ports, no own traffic.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

pub struct Demo {
    child: Child,
    dir: PathBuf,
    pub api: String,
    pub smtp: SocketAddr,
    pub facts: Value,
    pub http: reqwest::Client,
    /// From the start of the process to its `ready:` line.
    pub ready_after: Duration,
}

impl Demo {
    pub async fn start() -> Result<Demo> {
        Demo::start_with(&[]).await
    }

    pub async fn start_with(settings: &[(&str, &str)]) -> Result<Demo> {
        let program = std::env::current_exe()?.with_file_name("relaydesk");
        if !program.exists() {
            bail!("{} is not there: run `cargo build --release -p app` first", program.display());
        }
        let dir = std::env::temp_dir().join(format!("relaydesk-bench-{}", std::process::id()));
        let (http, smtp) = (free_address()?, free_address()?);
        let began = Instant::now();
        let mut child = Command::new(program)
            .args(["demo", "--quiet", "--fresh", "--data-dir"])
            .arg(&dir)
            .args(["--http", &http.to_string(), "--smtp", &smtp.to_string()])
            .env("RELAYDESK_LOG", "warn")
            .env("RELAYDESK_RATE_LIMITS", "")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        loop {
            match lines.next_line().await? {
                Some(line) if line.starts_with("ready:") => break,
                Some(_) => {}
                None => bail!("the demo ended before it was ready"),
            }
        }
        let ready_after = began.elapsed();
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let facts: Value = serde_json::from_slice(&std::fs::read(dir.join("demo.json"))?)?;
        let token = facts["token"].as_str().context("no token in demo.json")?;
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert("authorization", format!("Bearer {token}").parse()?);
        #[expect(clippy::disallowed_methods, reason = "a load generator talks to its own loopback server")]
        let client = reqwest::Client::builder().default_headers(headers).build()?;
        Ok(Demo { child, dir, api: format!("http://{http}"), smtp, facts, http: client, ready_after })
    }

    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    /// The value of a counter or gauge in `/metrics`, summed over its label sets that contain `with`.
    pub async fn metric(&self, name: &str, with: &str) -> Result<f64> {
        let text = self.http.get(format!("{}/metrics", self.api)).send().await?.text().await?;
        Ok(text
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(with))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum())
    }

    pub async fn stop(mut self) -> Result<()> {
        if let Some(pid) = self.child.id() {
            Command::new("kill").args(["-INT", &pid.to_string()]).status().await?;
        }
        tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await??;
        let _ = std::fs::remove_dir_all(&self.dir);
        Ok(())
    }
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
