//! The thread that owns the child: starts it, notices when it ends, starts it again, stops it.
//!
//! The child asks the kernel to be told when its parent is gone (`PR_SET_PDEATHSIG`), so that it stops even when the
//! parent is killed with -9. The kernel ties this to the *thread* that spawned it: that is why one thread does all the
//! spawning and lives as long as the cluster.

use crate::error::Context;
use crate::folder::Folder;
use crate::{Binaries, Error, OWNER, Options, processes, wire};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getpid, getppid};
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a start waits for the remains of an earlier run (its pid file, its shared memory) to disappear.
const PATIENCE_WITH_REMAINS: Duration = Duration::from_secs(15);
/// How long crash recovery may take.
const PATIENCE_WITH_RECOVERY: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(10);
const FIRST_RESTART_DELAY: Duration = Duration::from_millis(200);
const LAST_RESTART_DELAY: Duration = Duration::from_secs(10);

/// What the cluster's owner and the supervising thread both look at.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub pid: Option<Pid>,
    pub restarts: u32,
    stopping: bool,
    finished: bool,
}

impl Shared {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fast shutdown (SIGINT: roll back, checkpoint, end). What does not obey is pressed harder.
    pub fn stop(&self) {
        self.state().stopping = true;
        self.changed.notify_all();
        for (signal, patience) in [(Signal::SIGINT, 30), (Signal::SIGQUIT, 10), (Signal::SIGKILL, 10)]
            .map(|(s, p)| (s, Duration::from_secs(p)))
        {
            let state = self.state();
            if let Some(pid) = state.pid {
                let _ = kill(pid, signal);
            }
            let (state, _) = self
                .changed
                .wait_timeout_while(state, patience, |state| !state.finished)
                .unwrap_or_else(PoisonError::into_inner);
            if state.finished {
                return;
            }
            tracing::warn!(?signal, "PostgreSQL did not stop in time");
        }
    }

    /// True as soon as the cluster is to stop, false after `delay`.
    fn stopping_within(&self, delay: Duration) -> bool {
        let (state, _) = self
            .changed
            .wait_timeout_while(self.state(), delay, |state| !state.stopping)
            .unwrap_or_else(PoisonError::into_inner);
        state.stopping
    }

    /// Collects a child that has ended. Under the lock, so that nobody sends a signal to a number that is free again.
    fn reap(&self, child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
        let mut state = self.state();
        let status = child.try_wait()?;
        if status.is_some() {
            state.pid = None;
        }
        Ok(status)
    }
}

/// Everything needed to start the server again.
#[derive(Debug)]
pub(crate) struct Server {
    pub folder: Arc<Folder>,
    pub binaries: Binaries,
    pub options: Options,
}

enum Launched {
    Ready(Child),
    Failed(Error),
    Stopped,
}

impl Server {
    /// The life of the supervising thread. `started` hears the outcome of the first start.
    pub fn supervise(self, shared: &Arc<Shared>, started: impl FnOnce(Result<(), Error>)) {
        let _finished = Finish(shared.clone());
        let mut child = match self.launch_patiently(shared) {
            Launched::Ready(child) => child,
            Launched::Failed(error) => return started(Err(error)),
            Launched::Stopped => return started(Err(self.failure("stopped before it was ready"))),
        };
        started(Ok(()));
        let mut delay = FIRST_RESTART_DELAY;
        loop {
            let since = Instant::now();
            let status = wait_for(&mut child, shared);
            if shared.state().stopping {
                return;
            }
            tracing::error!(status, "PostgreSQL ended by itself, starting it again");
            if since.elapsed() > 2 * LAST_RESTART_DELAY {
                delay = FIRST_RESTART_DELAY;
            }
            child = loop {
                if shared.stopping_within(delay) {
                    return;
                }
                delay = (delay * 2).min(LAST_RESTART_DELAY);
                match self.launch(shared) {
                    Launched::Ready(child) => break child,
                    Launched::Stopped => return,
                    Launched::Failed(error) => {
                        tracing::error!(%error, retry_ms = delay.as_millis(), "PostgreSQL does not start")
                    }
                }
            };
            shared.state().restarts += 1;
            tracing::info!("PostgreSQL is back");
        }
    }

    /// After a crash of everything the old processes may need a moment to disappear.
    fn launch_patiently(&self, shared: &Shared) -> Launched {
        let begun = Instant::now();
        // A killed run's server goes on until its last session has ended. It still answers on the socket and writes to the
        // log, and both would be taken for our own server's.
        while processes::working_in(&self.folder.data()).is_some_and(|pids| !pids.is_empty())
            && begun.elapsed() < PATIENCE_WITH_REMAINS
        {
            if shared.stopping_within(Duration::from_millis(50)) {
                return Launched::Stopped;
            }
        }
        loop {
            let failed = match self.launch(shared) {
                Launched::Failed(error) => error,
                other => return other,
            };
            let remains =
                ["lock file \"", "shared memory block"].iter().any(|sign| failed.to_string().contains(sign));
            if !remains {
                return Launched::Failed(failed);
            }
            if begun.elapsed() > PATIENCE_WITH_REMAINS {
                let dir = self.folder.dir.clone();
                return Launched::Failed(match processes::recorded_pid(&self.folder.data()) {
                    Some(pid) => Error::Orphan { dir, pid },
                    None => failed,
                });
            }
            if shared.stopping_within(Duration::from_millis(200)) {
                return Launched::Stopped;
            }
        }
    }

    /// One start: until it accepts connections, or ends, or is to stop.
    fn launch(&self, shared: &Shared) -> Launched {
        processes::forget_stale_pid_file(&self.folder.data());
        let begun = Instant::now();
        let (mut child, log_start) = match self.spawn(shared) {
            Ok(spawned) => spawned,
            Err(error) => return Launched::Failed(error),
        };
        let socket = self.folder.socket.join(".s.PGSQL.5432");
        loop {
            match shared.reap(&mut child) {
                Ok(None) => {}
                Ok(Some(_)) | Err(_) if shared.state().stopping => return Launched::Stopped,
                Ok(Some(status)) => {
                    let reason = reason(&self.folder.log(), log_start).unwrap_or_else(|| status.to_string());
                    return Launched::Failed(self.failure(&reason));
                }
                Err(error) => return Launched::Failed(self.failure(&error.to_string())),
            }
            // The pid file says whose answer it is: the server of a killed run may not be quite gone.
            let ours = processes::recorded_pid(&self.folder.data()) == Some(child.id());
            if ours && wire::is_ready(&socket, OWNER) {
                return Launched::Ready(child);
            }
            if begun.elapsed() > PATIENCE_WITH_RECOVERY {
                let _ = child.kill();
                let _ = wait_for(&mut child, shared);
                return Launched::Failed(self.failure("it was not ready after five minutes"));
            }
            std::thread::sleep(POLL);
        }
    }

    fn spawn(&self, shared: &Shared) -> Result<(Child, u64), Error> {
        let log = self.folder.open_log()?;
        let log_start = log.metadata().map(|found| found.len()).unwrap_or(0);
        let errors = log.try_clone().context(|| "cannot share the log".to_owned())?;
        let mut command = Command::new(self.binaries.program("postgres"));
        command.arg("-D").arg(self.folder.data());
        for (name, value) in self.settings() {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        prepare(&mut command, &self.folder);
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        let mut state = shared.state();
        let child = command
            .spawn()
            .context(|| format!("cannot run {}", self.binaries.program("postgres").display()))?;
        state.pid = Some(Pid::from_raw(child.id().cast_signed()));
        Ok((child, log_start))
    }

    /// Given on the command line, where they win over the files in the data folder.
    fn settings(&self) -> Vec<(String, String)> {
        let durable = if self.options.throw_away { "off" } else { "on" };
        let fixed = [
            ("listen_addresses", ""),
            ("port", "5432"),
            ("unix_socket_permissions", "0700"),
            ("fsync", durable),
            ("synchronous_commit", durable),
            ("full_page_writes", durable),
            ("cluster_name", "relaydesk"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            // Light, because it shares a laptop with everything else.
            ("shared_buffers", "64MB"),
            ("max_connections", "80"),
            ("max_wal_size", "512MB"),
            // Short statements: compiling them costs more than it gains.
            ("jit", "off"),
            // Job tables turn over fast.
            ("autovacuum_naptime", "10s"),
        ];
        let socket = ("unix_socket_directories".to_owned(), quoted(&self.folder.socket));
        fixed
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .chain([socket])
            .chain(self.options.settings.iter().cloned())
            .collect()
    }

    fn failure(&self, reason: &str) -> Error {
        Error::Start { reason: reason.to_owned(), log: self.folder.log() }
    }
}

/// The setting is a list; quotes keep a comma in a path from splitting it.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display())
}

/// What all programs of PostgreSQL get: the account, a clean environment, and a death with their parent.
pub(crate) fn prepare(command: &mut Command, folder: &Folder) {
    command
        .env_clear()
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env("PATH", "/usr/bin:/bin")
        .current_dir("/");
    if let Some(account) = &folder.account {
        // The standard library also clears the supplementary groups when root sets another user.
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
    }
    die_with_parent(command, Signal::SIGINT);
}

/// The kernel sends `signal` to the child when the thread that spawns it ends. Call it from a thread that stays.
pub(crate) fn die_with_parent(command: &mut Command, signal: Signal) {
    // Ctrl-C in a terminal goes to the whole group: the child must outlive what is being finished.
    command.process_group(0);
    let parent = getpid();
    let ask = move || {
        prctl::set_pdeathsig(signal)?;
        if getppid() == parent { Ok(()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
    };
    #[expect(
        unsafe_code,
        reason = "runs between fork and exec; it makes two system calls and allocates nothing"
    )]
    // SAFETY: `prctl` and `getppid` are async-signal-safe, and the closure touches no memory but its own copy of a number.
    unsafe {
        command.pre_exec(ask);
    }
}

/// Blocks until the child has ended.
fn wait_for(child: &mut Child, shared: &Shared) -> String {
    let pid = Pid::from_raw(child.id().cast_signed());
    // Only looks; `reap` collects under the lock.
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::errno::Errno::EINTR) {
    }
    match shared.reap(child) {
        Ok(Some(status)) => status.to_string(),
        Ok(None) => "unknown status".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// The last complaint in the log since `start`.
fn reason(log: &Path, start: u64) -> Option<String> {
    let mut file = fs::File::open(log).ok()?;
    file.seek(SeekFrom::Start(start)).ok()?;
    let mut text = String::new();
    file.take(1 << 20).read_to_string(&mut text).ok()?;
    let complaint = |mark: &str| {
        text.lines().rev().find_map(|line| line.split_once(mark)).map(|(_, said)| said.trim().to_owned())
    };
    complaint("FATAL:")
        .or_else(|| complaint("PANIC:"))
        .or_else(|| text.lines().next_back().map(str::to_owned))
}

/// Tells `stop` that the thread is through, whichever way it ended.
struct Finish(Arc<Shared>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.state().finished = true;
        self.0.changed.notify_all();
    }
}
