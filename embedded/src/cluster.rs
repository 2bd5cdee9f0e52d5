//! A running cluster, and what can be chosen about it.

use crate::binaries::{candidates, usual_packs};
use crate::error::Context;
use crate::folder::Folder;
use crate::initialize::initialize;
use crate::supervise::{Server, Shared};
use crate::{APP_ROLE, Binaries, Error, NotFound, OWNER, wire};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

/// How to run a cluster. `Options::new(dir)` is right for the demo.
#[derive(Clone, Debug)]
pub struct Options {
    /// A folder of its own for the cluster.
    pub dir: PathBuf,
    /// Where the programs are, if not where they are usually found.
    pub binaries: Option<PathBuf>,
    /// Folders in which an unpacked pack of programs may lie.
    pub packs: Vec<PathBuf>,
    /// The database that is made with the cluster.
    pub database: String,
    /// Delete what is there and begin anew.
    pub fresh: bool,
    /// For tests only: no fsync, no passwords (the socket is still for this account alone). Such data does not survive
    /// a crash of the machine.
    pub throw_away: bool,
    /// More settings of PostgreSQL, which win over ours.
    pub settings: Vec<(String, String)>,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            binaries: None,
            packs: usual_packs(),
            database: "relaydesk".to_owned(),
            fresh: false,
            throw_away: false,
            settings: Vec::new(),
        }
    }
}

/// A PostgreSQL that runs as long as this value lives; dropping it stops the server cleanly.
#[derive(Debug)]
pub struct Cluster {
    folder: Arc<Folder>,
    binaries: Binaries,
    owner_password: Option<String>,
    app_password: Option<String>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the supervising thread reports when the server accepts connections.
struct Started {
    folder: Arc<Folder>,
    binaries: Binaries,
    owner_password: Option<String>,
    app_password: Option<String>,
}

impl Cluster {
    /// Blocks until the server accepts connections: half a second for new data, less for old.
    pub fn start(options: Options) -> Result<Cluster, Error> {
        let shared = Arc::new(Shared::default());
        let (sender, receiver) = mpsc::channel();
        let its_shared = shared.clone();
        // `initdb` too runs in that thread, so that it dies with us.
        let work = move || match set_up(options) {
            Err(error) => {
                let _ = sender.send(Err(error));
            }
            Ok((started, server)) => {
                server.supervise(&its_shared, |outcome| {
                    let _ = sender.send(outcome.map(|()| started));
                });
            }
        };
        let thread = std::thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(work)
            .context(|| "no thread".to_owned())?;
        let died = || Error::Sql("the supervising thread died".to_owned());
        let started = match receiver.recv() {
            Ok(outcome) => outcome?,
            Err(_) => return Err(died()),
        };
        let Started { folder, binaries, owner_password, app_password } = started;
        Ok(Cluster { folder, binaries, owner_password, app_password, shared, thread: Some(thread) })
    }

    /// For migrations and administration.
    pub fn owner_url(&self, database: &str) -> String {
        self.url(OWNER, self.owner_password.as_deref(), database)
    }

    /// For the application: this role owns nothing and row level security holds for it.
    pub fn app_url(&self, database: &str) -> String {
        self.url(APP_ROLE, self.app_password.as_deref(), database)
    }

    fn url(&self, role: &str, password: Option<&str>, database: &str) -> String {
        let password = password.map(|password| format!(":{password}")).unwrap_or_default();
        let host = percent_encoded(self.folder.socket.as_os_str().as_encoded_bytes());
        format!("postgresql://{role}{password}@localhost/{database}?host={host}&port=5432")
    }

    /// Runs SQL as the owner. Only on throw-away clusters, which ask for no password.
    pub fn run_script(&self, database: &str, sql: &str) -> Result<(), Error> {
        wire::run_script(&self.folder.socket.join(".s.PGSQL.5432"), OWNER, database, sql)
    }

    /// The folder that is really used.
    pub fn dir(&self) -> &Path {
        &self.folder.dir
    }

    /// The folder that was asked for, when (as root) another one had to be used; worth telling the user.
    pub fn instead_of(&self) -> Option<&Path> {
        self.folder.instead_of.as_deref()
    }

    /// The account it runs as, when this process is root.
    pub fn account(&self) -> Option<&str> {
        self.folder.account.as_ref().map(|account| account.name.as_str())
    }

    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    pub fn log(&self) -> PathBuf {
        self.folder.log()
    }

    /// The process number of the server, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.shared.state().pid.map(|pid| pid.as_raw().cast_unsigned())
    }

    /// How often it had to be started again.
    pub fn restarts(&self) -> u32 {
        self.shared.state().restarts
    }

    /// Rolls back what is open, writes a checkpoint, ends the server and waits for that.
    pub fn stop(self) {}
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Everything before the first start of the server.
fn set_up(options: Options) -> Result<(Started, Server), Error> {
    let folder = Folder::open(&options.dir)?;
    let data = folder.data();
    if options.fresh {
        forget(&folder)?;
    }
    let binaries = suitable(&options, &data)?;
    initialize(&folder, &binaries, &options)?;
    let password = |role| {
        if options.throw_away { Ok(None) } else { folder.password(role).map(Some) }
    };
    let (owner_password, app_password) = (password("owner")?, password("app")?);
    let folder = Arc::new(folder);
    let server = Server { folder: folder.clone(), binaries: binaries.clone(), options };
    Ok((Started { folder, binaries, owner_password, app_password }, server))
}

/// The programs to use: the best, or those that the existing data was made with.
fn suitable(options: &Options, data: &Path) -> Result<Binaries, Error> {
    let mut found = candidates(options.binaries.as_deref(), &options.packs);
    let made_by: Option<u32> =
        fs::read_to_string(data.join("PG_VERSION")).ok().and_then(|version| version.trim().parse().ok());
    if let (Some(made_by), false) = (made_by, found.is_empty()) {
        found.retain(|binaries| binaries.major == made_by);
        if found.is_empty() {
            return Err(Error::OtherVersion { dir: data.to_owned(), made_by });
        }
    }
    let nothing = || match &options.binaries {
        Some(folder) => NotFound::NotThere(folder.clone()),
        None => NotFound::Nowhere,
    };
    Ok(found.into_iter().next().ok_or_else(nothing)?)
}

/// Deletes the data. A server that a killed run left behind is given time to finish first.
fn forget(folder: &Folder) -> Result<(), Error> {
    let data = folder.data();
    for _ in 0..100 {
        match crate::processes::working_in(&data) {
            Some(pids) if !pids.is_empty() => std::thread::sleep(std::time::Duration::from_millis(100)),
            _ => break,
        }
    }
    if let Some([pid, ..]) = crate::processes::working_in(&data).as_deref() {
        return Err(Error::Orphan { dir: folder.dir.clone(), pid: *pid });
    }
    for name in ["owner.password", "app.password"] {
        let _ = fs::remove_file(folder.dir.join(name));
    }
    match fs::remove_dir_all(&data) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { what: format!("cannot remove {}", data.display()), source: error })
        }
        _ => Ok(()),
    }
}

fn percent_encoded(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(*byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
