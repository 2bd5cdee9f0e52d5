//! The one executable. Reads the configuration, wires the rooms together, runs a subcommand.

mod cli;
mod config;
mod telemetry;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    if let cli::Command::Config(cli::ConfigCommand::Example) = cli.command {
        print!("{}", config::example());
    }
    ExitCode::SUCCESS
}
