//! The built executable `relaydesk`, driven from outside.

use crate::sinks::SmtpSink;
use crate::{Client, TestDb};
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
        Process::start_of(&executable(), args, env, folder).await
    }

    /// The same of another version of the program.
    ///
    /// # Panics
    /// As [`Process::start`].
    pub async fn start_of(program: &Path, args: &[&str], env: &[(&str, &str)], folder: &Path) -> Process {
        let log = folder.join("relaydesk.log");
        let errors = std::fs::File::options().create(true).append(true).open(&log).expect("a log file");
        let mut child = Command::new(program)
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
            panic!(
                "relaydesk {args:?} did not become ready:\n{}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Process { child, base }
    }

    pub fn pid(&self) -> u32 {
        self.child.id().expect("a running process")
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(mut self) {
        self.end().await;
    }

    async fn end(&mut self) {
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
    pub client: Client,
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
        let args = [
            "demo",
            "--quiet",
            "--data-dir",
            data.to_str().expect("UTF-8"),
            "--http",
            &http,
            "--smtp",
            &smtp,
        ];
        let process = Process::start(&args, env, folder).await;
        let facts: Value =
            serde_json::from_slice(&std::fs::read(data.join("demo.json")).expect("demo.json")).expect("JSON");
        let client = Client::new(&process.base, facts["token"].as_str().expect("a token"));
        Demo { process, smtp: smtp.parse().expect("an address"), facts, client }
    }

    pub fn mailbox(&self) -> &str {
        self.facts["mailboxes"][0].as_str().expect("a mailbox")
    }
}

/// `relaydesk serve` on a database of its own, with an organization, its people, tokens and a mail relay to look into.
pub struct App {
    pub process: Process,
    pub organization: crate::Organization,
    /// With the admin's token.
    pub client: Client,
    pub agent: Client,
    pub end_user: Client,
    pub smtp: SocketAddr,
    /// Where its outgoing mail ends up.
    pub outbox: SmtpSink,
    /// The organization's folder in `RELAYDESK_DISCOVERY_DIR`.
    pub discovery: PathBuf,
    pub folder: tempfile::TempDir,
    env: Vec<(String, String)>,
    pub db: TestDb,
}

impl App {
    pub async fn start() -> App {
        App::start_with(&[]).await
    }

    /// With more settings, which win over the usual ones.
    pub async fn start_with(env: &[(&str, &str)]) -> App {
        App::start_on(crate::database().await, env).await
    }

    /// On a database that the test has got already.
    pub async fn start_on(db: TestDb, env: &[(&str, &str)]) -> App {
        let organization = crate::organization(&db, "acme").await;
        let folder = tempfile::tempdir().expect("a folder");
        let outbox = SmtpSink::start().await;
        let discovery = folder.path().join("discovery");
        std::fs::create_dir_all(discovery.join("acme")).expect("a folder");
        let smtp = format!("127.0.0.1:{}", crate::free_port());
        let mut settings: Vec<(String, String)> = [
            ("DATABASE_URL", db.app_url.as_str()),
            ("RELAYDESK_HTTP_LISTEN", "127.0.0.1:0"),
            ("RELAYDESK_SMTP_LISTEN", &smtp),
            ("RELAYDESK_DATA_DIR", folder.path().join("data").to_str().expect("UTF-8")),
            ("RELAYDESK_DISCOVERY_DIR", discovery.to_str().expect("UTF-8")),
            ("RELAYDESK_JWT_SECRET", "a secret for tests that is long enough"),
            ("RELAYDESK_MAIL_URL", &outbox.url()),
            ("RELAYDESK_ALLOW_PRIVATE_DESTINATIONS", "127.0.0.0/8"),
            ("RELAYDESK_DATABASE_CONNECTIONS", "10"),
            // Tests are hasty; those about this say so.
            ("RELAYDESK_RATE_LIMITS", ""),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        settings.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let process = Process::start(&["serve"], &borrowed(&settings), folder.path()).await;
        let client = Client::new(&process.base, &crate::token(&db, &organization.admin).await);
        let agent = client.with_token(&crate::token(&db, &organization.agent).await);
        let end_user = client.with_token(&crate::token(&db, &organization.end_user).await);
        let smtp = smtp.parse().expect("an address");
        App {
            process,
            organization,
            client,
            agent,
            end_user,
            smtp,
            outbox,
            discovery: discovery.join("acme"),
            folder,
            env: settings,
            db,
        }
    }

    /// A further process of the same installation, which goes on: `["worker", "--lanes", "outbound"]`.
    pub async fn beside(&self, args: &[&str]) -> Process {
        Process::start(args, &borrowed(&self.env), self.folder.path()).await
    }

    /// As [`App::beside`], of another version of the program. It takes no mail: the port for that is taken.
    pub async fn beside_as(&self, program: &Path, args: &[&str]) -> Process {
        let mut env = borrowed(&self.env);
        env.push(("RELAYDESK_SMTP_LISTEN", ""));
        Process::start_of(program, args, &env, self.folder.path()).await
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(&mut self) {
        self.process.end().await;
    }

    /// The same again, after [`App::kill`]. It listens somewhere else; the clients know.
    pub async fn start_again(&mut self) {
        self.process = Process::start(&["serve"], &borrowed(&self.env), self.folder.path()).await;
        for client in [&mut self.client, &mut self.agent, &mut self.end_user] {
            client.base.clone_from(&self.process.base);
        }
    }

    /// A command of the same installation, until it ends.
    pub async fn run(&self, args: &[&str]) -> std::process::Output {
        Command::new(executable())
            .args(args)
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .await
            .expect("relaydesk runs")
    }
}

fn borrowed(pairs: &[(String, String)]) -> Vec<(&str, &str)> {
    pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}
