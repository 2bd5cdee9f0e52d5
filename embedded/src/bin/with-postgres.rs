//! Runs a command with a private PostgreSQL, for tests and for tools:
//!
//! ```text
//! with-postgres [--migrate FOLDER] [--durable] COMMAND [ARGUMENT…]
//! ```
//!
//! The command finds the owner's URL of the cluster in `RELAYDESK_TEST_CLUSTER` and, with `--migrate`, the URL of a database
//! with the schema of that folder in `DATABASE_URL`. Everything is gone afterwards; the exit code is the command's own.
//! Without `--durable` nothing is synced to disk. `RELAYDESK_POSTGRES_BIN` may name the folder of the programs.

use embedded::{Cluster, Options, sweep_leftovers, usual_packs};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "usage: with-postgres [--migrate FOLDER] [--durable] COMMAND [ARGUMENT…]";
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
    let (mut migrations, mut durable) = (None, false);
    loop {
        match arguments.peek().and_then(|argument| argument.to_str()) {
            Some("--migrate") => {
                arguments.next();
                migrations = Some(PathBuf::from(arguments.next().ok_or(USAGE)?));
            }
            Some("--durable") => {
                arguments.next();
                durable = true;
            }
            _ => break,
        }
    }
    let program = arguments.next().ok_or(USAGE)?;

    let parent = Path::new("/tmp");
    sweep_leftovers(parent, PREFIX);
    let dir = parent.join(format!("{PREFIX}{}", std::process::id()));
    let cluster = Cluster::start(Options {
        throw_away: true,
        binaries: std::env::var_os("RELAYDESK_POSTGRES_BIN").map(PathBuf::from),
        packs: usual_packs(),
        settings: settings(durable),
        ..Options::new(&dir)
    })?;
    let status = (|| -> Result<_, Box<dyn std::error::Error>> {
        let mut command = Command::new(&program);
        command
            .args(arguments)
            .env("RELAYDESK_TEST_CLUSTER", cluster.owner_url("postgres"));
        if let Some(folder) = &migrations {
            migrate(&cluster, folder)?;
            command.env("DATABASE_URL", cluster.owner_url("relaydesk"));
        }
        command
            .status()
            .map_err(|error| format!("cannot run {}: {error}", program.display()).into())
    })();
    drop(cluster);
    let _ = std::fs::remove_dir_all(&dir);
    let status = status?;
    let code = status
        .code()
        .or(status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    Ok(u8::try_from(code).unwrap_or(1))
}

fn settings(durable: bool) -> Vec<(String, String)> {
    let mut settings = vec![("max_connections", "300")];
    if durable {
        settings.extend([
            ("fsync", "on"),
            ("synchronous_commit", "on"),
            ("full_page_writes", "on"),
        ]);
    }
    settings
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
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
        cluster
            .run_script("relaydesk", &sql)
            .map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}
