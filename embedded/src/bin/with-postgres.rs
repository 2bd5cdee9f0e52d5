//! Runs a command with a private PostgreSQL, for tests and for tools:
//!
//! ```text
//! with-postgres [--migrate FOLDER] [--durable] COMMAND [ARGUMENT…]
//! with-postgres --data FOLDER COMMAND [ARGUMENT…]
//! ```
//!
//! The command finds the owner's URL of the cluster in `RELAYDESK_TEST_CLUSTER` and, with `--migrate`, the URL of a database
//! with the schema of that folder in `DATABASE_URL`. Everything is gone afterwards; the exit code is the command's own.
//! Without `--durable` nothing is synced to disk. With `--data` the cluster in that folder is used, and stays: fully durable,
//! with passwords, `DATABASE_URL` being its owner's. `RELAYDESK_POSTGRES_BIN` may name the folder of the programs.

use embedded::{Cluster, Options, sweep_leftovers};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str =
    "usage: with-postgres [--migrate FOLDER] [--durable] | [--data FOLDER] COMMAND [ARGUMENT…]";
const PREFIX: &str = "relaydesk-test-";

fn main() -> ExitCode {
    match run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("with-postgres: {error}");
            ExitCode::from(125)
        }
    }
}

fn run() -> Result<u8, Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let (mut migrations, mut data, mut durable) = (None, None, false);
    while let Some(option) = arguments.next_if(|argument| argument.to_string_lossy().starts_with("--")) {
        match option.to_str() {
            Some("--migrate") => migrations = Some(PathBuf::from(arguments.next().ok_or(USAGE)?)),
            Some("--data") => data = Some(PathBuf::from(arguments.next().ok_or(USAGE)?)),
            Some("--durable") => durable = true,
            Some("--") => break,
            _ => return Err(USAGE.into()),
        }
    }
    let mut command = Command::new(arguments.next().ok_or(USAGE)?);
    command.args(arguments);

    let Some(dir) = data else {
        let parent = Path::new("/tmp");
        sweep_leftovers(parent, PREFIX);
        let dir = parent.join(format!("{PREFIX}{}", std::process::id()));
        let options = Options { throw_away: true, settings: settings(durable), ..Options::new(&dir) };
        let status = with_cluster(options, migrations.as_deref(), command);
        let _ = std::fs::remove_dir_all(&dir);
        return status;
    };
    if migrations.is_some() {
        return Err("--migrate is for throw-away clusters, use `relaydesk migrate`".into());
    }
    with_cluster(Options::new(dir), None, command)
}

fn with_cluster(
    options: Options,
    migrations: Option<&Path>,
    mut command: Command,
) -> Result<u8, Box<dyn std::error::Error>> {
    let throw_away = options.throw_away;
    let binaries =
        std::env::var_os("RELAYDESK_POSTGRES_BIN").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let cluster = Cluster::start(Options { binaries, ..options })?;
    command.env("RELAYDESK_TEST_CLUSTER", cluster.owner_url("postgres"));
    if let Some(folder) = migrations {
        migrate(&cluster, folder)?;
    }
    if migrations.is_some() || !throw_away {
        command.env("DATABASE_URL", cluster.owner_url("relaydesk"));
    }
    let status = command
        .status()
        .map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
    cluster.stop();
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(u8::try_from(code).unwrap_or(1))
}

fn settings(durable: bool) -> Vec<(String, String)> {
    let mut settings = vec![("max_connections", "300")];
    if durable {
        settings.extend([("fsync", "on"), ("synchronous_commit", "on"), ("full_page_writes", "on")]);
    }
    settings.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// One transaction a file, in the order of the names, as the migrator of `store` does it.
fn migrate(cluster: &Cluster, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let entries =
        std::fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "sql"));
    files.sort();
    for file in files {
        let sql = std::fs::read_to_string(&file)?;
        cluster.run_script("relaydesk", &sql).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}
