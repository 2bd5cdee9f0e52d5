//! A ClamAV daemon of one test's own, which knows the test's signatures and no others.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};

/// Killed when it is dropped.
pub struct Clamd {
    /// As `RELAYDESK_CLAMD` names it.
    pub address: String,
    process: Child,
    folder: tempfile::TempDir,
}

/// Whether there is a clamd for [`Clamd::start`].
///
/// # Panics
/// When there is none, unless `RELAYDESK_TESTS_WITHOUT_CLAMD` says that this is known.
pub fn has_clamd() -> bool {
    if program().is_some() {
        return true;
    }
    let known = std::env::var_os("RELAYDESK_TESTS_WITHOUT_CLAMD").is_some();
    assert!(
        known,
        "there is no clamd: script/setup --tests gets it; or set RELAYDESK_TESTS_WITHOUT_CLAMD=1 to leave such tests out"
    );
    eprintln!("testkit: this test is left out: there is no clamd");
    false
}

/// Out of its packages, where nobody has installed it.
fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.relaydesk/tools/usr")
}

fn program() -> Option<PathBuf> {
    [PathBuf::from("/usr/sbin/clamd"), tools().join("sbin/clamd")]
        .into_iter()
        .find(|program| program.exists())
}

/// The folders of its libraries, where it was unpacked.
fn libraries() -> String {
    let folders = std::fs::read_dir(tools().join("lib")).into_iter().flatten().flatten();
    let folders = folders.map(|folder| folder.path()).filter(|path| path.is_dir());
    folders.map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
}

impl Clamd {
    /// Finds `Test.Relaydesk` in whatever holds this text, also where it is packed into a mail; takes files of 1 MiB.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(infected: &str) -> Clamd {
        let folder = tempfile::tempdir().expect("a folder");
        let signatures = folder.path().join("signatures");
        std::fs::create_dir(&signatures).expect("a folder");
        finds(folder.path(), infected);
        let socket = folder.path().join("clamd.sock");
        let text = format!(
            "Foreground yes\nDatabaseDirectory {}\nLocalSocket {}\nTemporaryDirectory {}\nStreamMaxLength 1M\nAlertExceedsMax yes\n",
            signatures.display(),
            socket.display(),
            folder.path().display(),
        );
        std::fs::write(folder.path().join("clamd.conf"), text).expect("its settings");
        let process = run(folder.path());
        let mut clamd = Clamd { address: format!("unix:{}", socket.display()), process, folder };
        clamd.wait().await;
        clamd
    }

    /// From now on nobody answers.
    pub async fn stop(&mut self) {
        self.process.kill().await.expect("it ends");
    }

    /// The same again, which finds this text instead.
    pub async fn start_again(&mut self, infected: &str) {
        finds(self.folder.path(), infected);
        let _ = std::fs::remove_file(self.folder.path().join("clamd.sock"));
        self.process = run(self.folder.path());
        self.wait().await;
    }

    async fn wait(&mut self) {
        let socket = self.folder.path().join("clamd.sock");
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            if UnixStream::connect(&socket).await.is_ok() {
                return;
            }
            if self.process.try_wait().expect("its state").is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!(
            "clamd did not start: {}",
            std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
        )
    }
}

/// A signature of these bytes, wherever they stand (NDB format).
fn finds(folder: &Path, infected: &str) {
    let digits: String = infected.bytes().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(folder.join("signatures/test.ndb"), format!("Test.Relaydesk:0:*:{digits}\n"))
        .expect("signatures");
}

fn run(folder: &Path) -> Child {
    let log = std::fs::File::create(folder.join("log")).expect("a log file");
    let mut command = Command::new(program().expect("asked before"));
    command
        .arg("--config-file")
        .arg(folder.join("clamd.conf"))
        .env("LD_LIBRARY_PATH", libraries())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log file"))
        .stderr(log)
        .kill_on_drop(true);
    command.spawn().expect("clamd starts")
}
