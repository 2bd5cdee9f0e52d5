//! Benchmarks and load generators. Each prints one line of JSON with its figures; `bench/README.md` says how to read them.

mod alerts;
mod cost;
mod demo;
mod idle;
mod jobs;
mod mail;
mod peer;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "bench", about = "Measures Relaydesk from outside and its job engine from inside")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The job engine alone: jobs per second, pickup latency
    Jobs(jobs::Args),
    /// The job engine on a database that is there: for the comparison in `bench/peers`
    Peer(peer::Args),
    /// Mails per second from SMTP to durable tickets
    Mail(mail::Args),
    /// Alerts per second from the Alertmanager hook to durable incidents
    Alerts(alerts::Args),
    /// Resident memory of the idle demo process, without Postgres
    Idle(idle::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let figures = match Cli::parse().what {
        What::Jobs(args) => jobs::run(args).await?,
        What::Peer(args) => peer::run(args).await?,
        What::Mail(args) => mail::run(args).await?,
        What::Alerts(args) => alerts::run(args).await?,
        What::Idle(args) => idle::run(args).await?,
    };
    #[expect(clippy::print_stdout, reason = "the figures are the output")]
    {
        println!("{figures}");
    }
    Ok(())
}
