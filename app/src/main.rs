//! The one executable. Reads the configuration, wires the rooms together, runs a subcommand.

mod cli;
mod commands;
mod config;
mod telemetry;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

/// A line on standard output: what the user asked for. Everything else goes to the log.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        // A closed pipe is the reader's wish, not our error.
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

fn main() -> ExitCode {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relaydesk: {error:#}");
            ExitCode::from(exit_code(&cli.command))
        }
    }
}

/// EX_TEMPFAIL (sysexits.h) tells a mail server to keep the mail and try again.
fn exit_code(command: &Command) -> u8 {
    match command {
        Command::Mail(_) => 75,
        _ => 1,
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let values = config::Values::collect(cli.config.as_deref(), |name| std::env::var(name).ok())?;
    let config = values.understand()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match &cli.command {
            Command::Config(command) => commands::config::run(command, &values, &config),
            Command::Migrate => commands::migrate::run(&config).await,
            Command::Doctor(output) => commands::doctor::run(output, &config).await,
            _ => anyhow::bail!("being wired"),
        }
    })
}
