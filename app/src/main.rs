//! The one executable. Reads the configuration, wires the rooms together, runs a subcommand.

mod cli;
mod commands;
mod config;
mod demo;
mod memory;
mod telemetry;
mod wiring;

use clap::Parser;
use cli::{Cli, Command};
use commands::serve::{self, Parts};
use config::{Config, Values};
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
    memory::give_back_large_buffers();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = Cli::parse();
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relaydesk: {error:#}");
            ExitCode::from(exit_code(&cli.command, &error))
        }
    }
}

/// EX_TEMPFAIL (sysexits.h) tells a mail server to keep the mail and try again, EX_DATAERR to give it back.
fn exit_code(command: &Command, error: &anyhow::Error) -> u8 {
    match command {
        Command::Mail(_) if error.is::<commands::mail::TooLarge>() => 65,
        Command::Mail(_) => 75,
        _ => 1,
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let mut values = Values::collect(cli.config.as_deref(), |name| std::env::var(name).ok())?;
    if let Command::Worker(worker) = &cli.command
        && let Some(url) = &worker.amqp_url
    {
        values.set("AMQP_URL", url);
    }
    let config = values.understand()?;
    config.job_keys.clone().install();
    telemetry::start(&config);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Command::Demo(demo) = &cli.command {
        let listeners = runtime.block_on(serve::Listeners::bind(Some(demo.http), Some(demo.smtp)))?;
        // Dropped last, so that the database outlives everything that uses it.
        let prepared = commands::demo::prepare(demo, values)?;
        return runtime.block_on(commands::demo::run(&prepared, listeners));
    }
    runtime.block_on(dispatch(cli, &values, &config))
}

async fn dispatch(cli: &Cli, values: &Values, config: &Config) -> anyhow::Result<()> {
    // Those two say what is wrong instead.
    if !matches!(cli.command, Command::Config(_) | Command::Doctor(_)) {
        config.require_no_clear_text(matches!(cli.command, Command::Serve | Command::Api))?;
    }
    match &cli.command {
        Command::Config(command) => commands::config::run(command, values, config),
        Command::Migrate => commands::migrate::run(config).await,
        Command::Doctor(output) => commands::doctor::run(output, config).await,
        Command::Serve => {
            serve::run(config, Parts::all(config), serve::announce, wiring::stop_signal()).await
        }
        Command::Api => serve::run(config, Parts::api(config), serve::announce, wiring::stop_signal()).await,
        Command::Worker(worker) if worker.remote => {
            commands::remote::run(config, worker, wiring::stop_signal()).await
        }
        Command::Worker(worker) => {
            let parts = Parts::worker(config, &worker.lanes, worker.concurrency)?;
            serve::run(config, parts, serve::announce, wiring::stop_signal()).await
        }
        Command::Jobs(command) => commands::jobs::run(command, &wiring::fit(config).await?).await,
        Command::Lanes(command) => commands::lanes::run(command, &wiring::fit(config).await?).await,
        Command::Limits(command) => commands::limits::run(command, &wiring::fit(config).await?).await,
        Command::Kinds(command) => {
            commands::kinds::run(command, &wiring::fit(config).await?, &config.job_history).await
        }
        Command::Tenants(command) => commands::limits::tenants(command, &wiring::fit(config).await?).await,
        Command::Admin(command) => {
            let policy = wiring::passwords(config);
            let db = wiring::fit(config).await?;
            let context = store::context::Context::system("relaydesk admin");
            store::context::scope(context, commands::admin::run(command, &db, &policy, &config.job_keys))
                .await
        }
        Command::Audit(command) => {
            let context = store::context::Context::system("relaydesk audit");
            store::context::scope(context, commands::audit::run(command, config)).await
        }
        Command::Mail(command) => {
            commands::mail::run(command, &wiring::fit(config).await?, config.max_message_bytes).await
        }
        Command::Demo(_) => unreachable!("handled before the runtime starts"),
    }
}
