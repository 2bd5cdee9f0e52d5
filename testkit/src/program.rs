//! The built executable `relaydesk`, driven from outside.

use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// `target/<profile>/relaydesk`, beside the folder of the running test.
///
/// # Panics
/// When it was not built: `script/test` builds it first.
pub fn executable() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let program = test.ancestors().nth(2).expect("target/<profile>/deps/<test>").join("relaydesk");
    assert!(program.exists(), "{} is not there: run `cargo build -p app` first", program.display());
    program
}

/// A running `relaydesk` that is killed when it is dropped.
pub struct Process {
    child: Child,
    /// The address in its `ready:` line.
    pub base: String,
}

impl Process {
    /// Starts it and waits for its `ready:` line.
    ///
    /// # Panics
    /// When it ends before, or is not ready within a minute; what it wrote to standard error is shown.
    pub async fn start(args: &[&str], env: &[(&str, &str)], folder: &Path) -> Process {
        let log = folder.join("relaydesk.log");
        let errors = std::fs::File::options().create(true).append(true).open(&log).expect("a log file");
        let mut child = Command::new(executable())
            .args(args)
            .env_remove("DATABASE_URL")
            .envs(env.iter().copied())
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .expect("relaydesk starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let ready = async {
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(base) = line.strip_prefix("ready: ") {
                    return Some(base.trim_end_matches('/').to_owned());
                }
            }
            None
        };
        let base = tokio::time::timeout(Duration::from_secs(60), ready).await.ok().flatten();
        let Some(base) = base else {
            panic!("relaydesk {args:?} did not become ready:\n{}", std::fs::read_to_string(&log).unwrap_or_default());
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Process { child, base }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("a running process")
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("killed");
    }

    /// SIGTERM, and its exit code.
    ///
    /// # Panics
    /// When it has not ended after a minute.
    pub async fn terminate(mut self) -> Option<i32> {
        let pid = self.pid().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().await.expect("kill runs");
        let ended = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
        ended.expect("ended within a minute").expect("waited").code()
    }
}

/// `relaydesk demo --quiet` on free ports with its own database.
pub struct Demo {
    pub process: Process,
    pub smtp: SocketAddr,
    /// `demo.json`.
    pub facts: Value,
    pub client: crate::Client,
}

impl Demo {
    /// Starts a demo on `folder`, which may hold the data of an earlier one.
    ///
    /// # Panics
    /// When it does not become ready, or leaves no `demo.json`.
    pub async fn start(folder: &Path, env: &[(&str, &str)]) -> Demo {
        let (http, smtp) = (crate::free_port(), crate::free_port());
        let data = folder.join("data");
        let (http, smtp) = (format!("127.0.0.1:{http}"), format!("127.0.0.1:{smtp}"));
        let args = ["demo", "--quiet", "--data-dir", data.to_str().expect("UTF-8"), "--http", &http, "--smtp", &smtp];
        let process = Process::start(&args, env, folder).await;
        let facts: Value =
            serde_json::from_slice(&std::fs::read(data.join("demo.json")).expect("demo.json")).expect("JSON");
        let client = crate::Client::new(&process.base, facts["token"].as_str().expect("a token"));
        Demo { process, smtp: smtp.parse().expect("an address"), facts, client }
    }

    pub fn mailbox(&self) -> &str {
        self.facts["mailboxes"][0].as_str().expect("a mailbox")
    }
}
