//! The folder of a cluster: where it is, who may read what, the lock, the passwords, the socket.
//!
//! ```text
//! DIR/lock              held by the process that runs the cluster; its number is inside
//! DIR/data/             PostgreSQL's own (0700, of the account it runs as)
//! DIR/run/              its socket (0700, of that account)
//! DIR/owner.password    0600
//! DIR/app.password      0600
//! DIR/postgres.log      what it says
//! ```

use crate::Error;
use crate::account::Account;
use crate::error::Context;
use nix::fcntl::OFlag;
use nix::unistd::chown;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// `sun_path` holds 107 bytes and an end mark; the socket is called `.s.PGSQL.5432`.
const LONGEST_SOCKET_FOLDER: usize = 107 - "/.s.PGSQL.5432".len();
/// A longer log starts anew at the next start.
const LONGEST_LOG: u64 = 16 << 20;

#[derive(Debug)]
pub(crate) struct Folder {
    pub dir: PathBuf,
    /// Where the caller wanted it, when the account could not have reached that place.
    pub instead_of: Option<PathBuf>,
    pub account: Option<Account>,
    pub socket: PathBuf,
    /// Held as long as the folder is used.
    _lock: File,
}

impl Folder {
    /// Finds the place, makes what is missing, and takes the lock.
    pub fn open(wanted: &Path) -> Result<Folder, Error> {
        let wanted = std::path::absolute(wanted).context(|| format!("cannot use {}", wanted.display()))?;
        let account = Account::choose(&wanted.join("data"))?;
        let dir = reachable(&wanted, account.as_ref())?;
        // Others may pass through (root's account has to) but not look around.
        make_folder(&dir, if account.is_some() { 0o711 } else { 0o700 })?;
        let dir = fs::canonicalize(&dir).context(|| format!("cannot open {}", dir.display()))?;
        // The data may be where the wanted folder was not: its owner decides.
        let account = Account::choose(&dir.join("data"))?.or(account);
        let lock = take_lock(&dir, Duration::from_secs(2))?;
        let socket = socket_folder(&dir, account.as_ref())?;
        let instead_of = (dir != fs::canonicalize(&wanted).unwrap_or(wanted.clone())).then_some(wanted);
        Ok(Folder { dir, instead_of, account, socket, _lock: lock })
    }

    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    pub fn open_log(&self) -> Result<File, Error> {
        let path = self.log();
        let log = private_file(&path)
            .append(true)
            .open(&path)
            .context(|| format!("cannot write {}", path.display()))?;
        if log.metadata().is_ok_and(|found| found.len() > LONGEST_LOG) {
            log.set_len(0).context(|| format!("cannot shorten {}", path.display()))?;
        }
        Ok(log)
    }

    /// A folder that belongs to the account PostgreSQL runs as.
    pub fn make_its_own(&self, path: &Path) -> Result<(), Error> {
        make_folder(path, 0o700)?;
        give(path, self.account.as_ref())
    }

    /// The password of a role, made when it is first asked for.
    pub fn password(&self, role: &str) -> Result<String, Error> {
        let path = self.dir.join(format!("{role}.password"));
        let failed = || format!("cannot keep a password in {}", path.display());
        match fs::read_to_string(&path) {
            Ok(kept) if !kept.trim().is_empty() => return Ok(kept.trim().to_owned()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(Error::Io { what: format!("cannot read {}", path.display()), source });
            }
        }
        let password = random_hex(24).context(|| "no randomness from /dev/urandom".to_owned())?;
        let mut file = private_file(&path).truncate(true).open(&path).context(failed)?;
        file.write_all(password.as_bytes()).and_then(|()| file.sync_all()).context(failed)?;
        Ok(password)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.socket.starts_with(&self.dir) {
            let _ = fs::remove_dir_all(&self.socket);
        }
    }
}

/// `wanted`, or (only as root, where the account can't get there) a folder of its own derived from that path.
fn reachable(wanted: &Path, account: Option<&Account>) -> Result<PathBuf, Error> {
    let Some(account) = account else {
        return Ok(wanted.to_owned());
    };
    let parent = wanted.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).context(|| format!("cannot make {}", parent.display()))?;
    let parent = fs::canonicalize(parent).context(|| format!("cannot open {}", parent.display()))?;
    if account.may_enter(&parent) {
        return Ok(wanted.to_owned());
    }
    let path = parent.join(wanted.file_name().unwrap_or_default());
    Ok(PathBuf::from(format!("/var/lib/relaydesk-{:016x}", fingerprint(path.as_os_str().as_encoded_bytes()))))
}

/// FNV-1a: the same path must lead to the same folder in every version of this program.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

pub(crate) fn take_lock(dir: &Path, patience: Duration) -> Result<File, Error> {
    let path = dir.join("lock");
    let mut lock = private_file(&path).read(true).open(&path).context(|| {
        format!("cannot write {} (does the folder belong to somebody else? choose another)", path.display())
    })?;
    let begun = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            // Whoever was killed a moment ago may not be quite gone.
            Err(TryLockError::WouldBlock) if begun.elapsed() < patience => sleep(Duration::from_millis(50)),
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let _ = lock.read_to_string(&mut holder);
                return Err(Error::InUse { dir: dir.to_owned(), pid: holder.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(Error::Io { what: format!("cannot lock {}", path.display()), source });
            }
        }
    }
    let note = || format!("cannot write {}", path.display());
    lock.set_len(0).context(note)?;
    lock.write_all(std::process::id().to_string().as_bytes()).context(note)?;
    Ok(lock)
}

/// `DIR/run`, or a short path in the temporary folder when that is too long for a socket.
fn socket_folder(dir: &Path, account: Option<&Account>) -> Result<PathBuf, Error> {
    let own = dir.join("run");
    let note = dir.join("socket-folder");
    if let Ok(left) = fs::read_to_string(&note) {
        let _ = fs::remove_dir(left.trim()); // of a run that was killed; only ever an empty folder
        let _ = fs::remove_file(&note);
    }
    let socket = if own.as_os_str().len() <= LONGEST_SOCKET_FOLDER {
        make_folder(&own, 0o700)?;
        own
    } else {
        let random = random_hex(6).context(|| "no randomness from /dev/urandom".to_owned())?;
        let short = PathBuf::from(format!("/tmp/relaydesk-{random}"));
        DirBuilder::new()
            .mode(0o700)
            .create(&short)
            .context(|| format!("cannot make {}", short.display()))?;
        fs::write(&note, short.as_os_str().as_encoded_bytes())
            .context(|| format!("cannot write {}", note.display()))?;
        short
    };
    give(&socket, account)?;
    Ok(socket)
}

fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    let failed = || format!("cannot make {}", path.display());
    DirBuilder::new().recursive(true).mode(0o755).create(path).context(failed)?;
    match fs::set_permissions(path, Permissions::from_mode(mode)) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(Error::Io {
            what: format!("{} belongs to somebody else, choose another data folder", path.display()),
            source: error,
        }),
        done => done.context(failed),
    }
}

pub(crate) fn give(path: &Path, account: Option<&Account>) -> Result<(), Error> {
    match account {
        Some(account) => chown(path, Some(account.uid), Some(account.gid))
            .context(|| format!("cannot give {} to {}", path.display(), account.name)),
        None => Ok(()),
    }
}

/// Never follows a link, so that nobody can point root at another file.
pub(crate) fn private_file(_path: &Path) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    options
}

pub(crate) fn random_hex(bytes: usize) -> std::io::Result<String> {
    let mut random = vec![0; bytes];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Removes clusters and brokers of tests (`PARENT/PREFIX<process>*`) whose process was killed before it could tidy up. Those of a process that
/// lives stay, also while their server is away: it may come back.
pub fn sweep_leftovers(parent: &Path, prefix: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let dir = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(prefix) else { continue };
        let owner = rest.split('-').next().unwrap_or_default();
        let is_owned =
            owner.parse::<u32>().is_ok_and(|process| Path::new("/proc").join(process.to_string()).exists());
        if !is_owned
            && dir.join("lock").exists()
            && crate::processes::working_in(&dir.join("data")).is_none_or(|found| found.is_empty())
            && let Ok(lock) = take_lock(&dir, Duration::ZERO)
        {
            let _ = fs::remove_dir_all(&dir);
            drop(lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_a_process_that_lives_is_not_swept() {
        let parent = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let dir = parent.path().join(name);
            fs::create_dir(&dir).unwrap();
            File::create(dir.join("lock")).unwrap();
            dir
        };
        let away = folder(&format!("swept-{}-own", std::process::id()));
        let left = folder("swept-4294967295-own");
        sweep_leftovers(parent.path(), "swept-");
        assert!(away.exists() && !left.exists());
    }

    #[test]
    fn the_fingerprint_of_a_path_never_changes() {
        assert_eq!(fingerprint(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fingerprint(b"a"), 0xaf63_dc4c_8601_ec8c);
    }
}
