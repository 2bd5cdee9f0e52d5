//! Finding the programs of PostgreSQL on this machine.

use crate::account::Account;
use nix::unistd::Uid;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The oldest major version that the schema is written for.
pub const OLDEST_MAJOR: u32 = 15;

/// A folder with `initdb` and `postgres` in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    pub folder: PathBuf,
    pub major: u32,
}

impl Binaries {
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Looks into a folder, or into its `bin`, or into the `native/bin` of an unpacked npm pack.
    fn inside(folder: &Path) -> Option<Binaries> {
        [folder.to_owned(), folder.join("bin"), folder.join("native/bin")].into_iter().find_map(|folder| {
            if !folder.join("initdb").is_file() {
                return None;
            }
            let told =
                Command::new(folder.join("postgres")).arg("--version").stderr(Stdio::null()).output().ok()?;
            let major = major_version(&String::from_utf8_lossy(&told.stdout))?;
            Some(Binaries { folder: fs::canonicalize(folder).ok()?, major })
        })
    }
}

/// One line that says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum NotFound {
    #[error(
        "no PostgreSQL {OLDEST_MAJOR} or newer was found: install it (Debian, Ubuntu: `apt-get install postgresql`), or name the folder of its programs in RELAYDESK_POSTGRES_BIN, or an existing server in DATABASE_URL"
    )]
    Nowhere,
    #[error("{} holds no PostgreSQL {OLDEST_MAJOR} or newer: expected a folder with `initdb` and `postgres`", .0.display())]
    NotThere(PathBuf),
}

/// The programs to use: from `explicit` if given (then nowhere else), else the newest of the system's own and those that
/// `pg_config` names, else an unpacked pack in one of the folders `packs`.
pub fn find_binaries(explicit: Option<&Path>, packs: &[PathBuf]) -> Result<Binaries, NotFound> {
    let mut found = candidates(explicit, packs);
    match (found.is_empty(), explicit) {
        (false, _) => Ok(found.swap_remove(0)),
        (true, Some(folder)) => Err(NotFound::NotThere(folder.to_owned())),
        (true, None) => Err(NotFound::Nowhere),
    }
}

/// Where `script/setup` unpacks the programs when there is no package manager to install them.
pub fn usual_packs() -> Vec<PathBuf> {
    let here = std::env::current_dir().unwrap_or_default();
    // A test runs in the folder of its crate, the pack lies in that of the workspace.
    let mut packs: Vec<PathBuf> =
        here.ancestors().map(|folder| folder.join(".relaydesk/postgresql")).collect();
    packs.extend(std::env::home_dir().map(|home| home.join(".cache/relaydesk/postgresql")));
    packs.push(PathBuf::from("/var/lib/relaydesk/postgresql"));
    packs.retain(|pack| is_trusted(pack));
    packs
}

/// Folders above the current one may be anybody's: programs are only run when they are our own or root's.
pub(crate) fn is_trusted(pack: &Path) -> bool {
    pack.metadata().is_ok_and(|found| found.uid() == 0 || found.uid() == Uid::effective().as_raw())
}

/// All usable programs, best first.
pub(crate) fn candidates(explicit: Option<&Path>, packs: &[PathBuf]) -> Vec<Binaries> {
    let mut found: Vec<Binaries> = match explicit {
        Some(folder) => Binaries::inside(folder).into_iter().collect(),
        None => {
            let mut system: Vec<Binaries> = fs::read_dir("/usr/lib/postgresql")
                .into_iter()
                .flatten()
                .filter_map(|entry| Binaries::inside(&entry.ok()?.path()))
                .collect();
            system.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
            let configured = || {
                let told = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output().ok()?;
                Binaries::inside(Path::new(String::from_utf8_lossy(&told.stdout).trim()))
            };
            system.extend(configured());
            system.extend(packs.iter().filter_map(|pack| Binaries::inside(pack)));
            system
        }
    };
    // Root does not run them itself: the account it drops to must get at them.
    let account = Account::choose(Path::new("")).ok().flatten();
    found.retain(|binaries| {
        binaries.major >= OLDEST_MAJOR && account.as_ref().is_none_or(|who| who.may_enter(&binaries.folder))
    });
    found
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` is 15.
fn major_version(told: &str) -> Option<u32> {
    let version = told.split_whitespace().nth(2)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_the_program_says() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major_version("something else"), None);
    }

    #[test]
    fn an_explicit_folder_without_programs_is_named_in_the_error() {
        let error = find_binaries(Some(Path::new("/nowhere")), &[]).unwrap_err();
        assert!(error.to_string().starts_with("/nowhere holds no PostgreSQL"), "{error}");
    }
}
