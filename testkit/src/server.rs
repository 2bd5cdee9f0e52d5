//! A PostgreSQL of one test's own, which can go away, come back, crash and freeze.

use crate::TestDb;
use crate::database::{PREFIX, connect, programs};
use embedded::{Cluster, Options};
use sqlx::Connection;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::task::spawn_blocking;

/// Durable, unlike the cluster that the other tests share: what it has committed survives its crash.
#[derive(Debug)]
pub struct Server {
    options: Options,
    /// `None` while it is away.
    cluster: Option<Cluster>,
}

impl Server {
    pub async fn start() -> Server {
        let folder = format!("{PREFIX}{}-own-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        let options = Options { binaries: programs(), ..Options::new(Path::new("/tmp").join(folder)) };
        let mut server = Server { options, cluster: None };
        server.come_back().await;
        server
    }

    /// Its database, freshly migrated. Call it once.
    pub async fn database(&self) -> TestDb {
        TestDb::on(self.cluster()).await
    }

    /// Ends it: sessions are cut, nobody can connect.
    pub async fn go_away(&mut self) {
        let cluster = self.cluster.take();
        spawn_blocking(move || drop(cluster)).await.expect("it stops");
    }

    /// Starts it on the same data, reachable as before.
    pub async fn come_back(&mut self) {
        let options = self.options.clone();
        let started = spawn_blocking(move || Cluster::start(options)).await.expect("it starts");
        self.cluster = Some(started.unwrap_or_else(|error| panic!("the test needs a PostgreSQL: {error}")));
    }

    /// A tablespace of this name on a disk of its own, with so many megabytes. `false` where no disk can be mounted (it takes root).
    pub async fn small_disk(&self, tablespace: &str, megabytes: u32) -> bool {
        let disk = self.options.dir.join("disk");
        let data = std::fs::metadata(self.options.dir.join("data")).expect("the cluster's data");
        std::fs::create_dir(&disk).expect("a folder");
        let size = format!("size={megabytes}m,mode=700,uid={},gid={}", data.uid(), data.gid());
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&disk).output();
        if !mount.await.is_ok_and(|mount| mount.status.success()) {
            return false;
        }
        let mut owner = connect(&self.cluster().owner_url("relaydesk")).await;
        let tablespace = format!("create tablespace {tablespace} location '{}'", disk.display());
        sqlx::query(sqlx::AssertSqlSafe(tablespace)).execute(&mut owner).await.expect("a tablespace");
        let _ = owner.close().await;
        true
    }

    /// What `pg_ctl stop -m immediate` does: all its processes end at once, without a checkpoint. Returns when its supervisor
    /// has started it again and the log was replayed.
    pub async fn crash(&self) {
        let cluster = self.cluster();
        let (before, begun) = (cluster.restarts(), Instant::now());
        let pid = cluster.pid().expect("it runs").to_string();
        let told = Command::new("kill").args(["-QUIT", &pid]).status().await.expect("kill runs");
        assert!(told.success(), "kill {pid}");
        while cluster.restarts() == before {
            assert!(begun.elapsed() < Duration::from_secs(60), "it did not come back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops all its processes where they are: connections stay open, and nobody answers. Until [`Server::thaw`].
    pub fn freeze(&self) {
        signal_all(self.cluster(), "-STOP");
    }

    pub fn thaw(&self) {
        signal_all(self.cluster(), "-CONT");
    }

    fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("it is there")
    }
}

/// The postmaster first, so that it makes no more of them.
fn signal_all(cluster: &Cluster, signal: &str) {
    let Some(postmaster) = cluster.pid() else { return };
    let send = |pids: &[&str]| {
        // One of them may have ended since.
        let _ = std::process::Command::new("kill").arg(signal).args(pids).stderr(Stdio::null()).status();
    };
    send(&[&postmaster.to_string()]);
    let children = std::fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children"));
    send(&children.unwrap_or_default().split_whitespace().collect::<Vec<_>>());
}

/// Disks that were mounted in this folder.
fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for at in mounts.lines().filter_map(|mount| mount.split(' ').nth(1)) {
        if Path::new(at).starts_with(folder) {
            let _ = std::process::Command::new("umount").args(["--lazy", at]).status();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(cluster) = self.cluster.take() {
            // A test that failed may leave it frozen, and then it would not hear that it is to stop.
            signal_all(&cluster, "-CONT");
        }
        unmount_below(&self.options.dir);
        let _ = std::fs::remove_dir_all(&self.options.dir);
    }
}
