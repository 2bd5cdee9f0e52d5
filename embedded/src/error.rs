//! What can go wrong with a private PostgreSQL. The texts are shown to the person who typed the command.

use crate::NotFound;
use std::io;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    NotFound(#[from] NotFound),
    #[error("{} is in use by another process{}: stop that one, or choose another data folder", dir.display(), holder(*pid))]
    InUse { dir: PathBuf, pid: Option<u32> },
    #[error("PostgreSQL (process {pid}) still runs on {}: stop it with `kill -INT {pid}` and start again", dir.display())]
    Orphan { dir: PathBuf, pid: u32 },
    #[error(
        "the data in {} was made by PostgreSQL {made_by}, which was not found here: install postgresql-{made_by}, or start with an empty folder",
        dir.display()
    )]
    OtherVersion { dir: PathBuf, made_by: u32 },
    #[error(
        "PostgreSQL refuses to run as root, and there is neither a user `postgres` nor `nobody` to run it as: add one"
    )]
    NoAccount,
    #[error("{program} failed: {output}")]
    Program { program: &'static str, output: String },
    #[error("PostgreSQL did not start: {reason} (see {})", log.display())]
    Start { reason: String, log: PathBuf },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// About the private RabbitMQ of the tests.
    #[error("{0}")]
    Broker(String),
    /// An SQL script was refused by the server.
    #[error("{0}")]
    Sql(String),
}

fn holder(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (number {pid})")).unwrap_or_default()
}

/// Names the file or the step in an I/O error.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|errno| Error::Io { what: what(), source: errno.into() })
    }
}
