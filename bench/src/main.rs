//! Benchmarks and load generators. Each prints one line of JSON with its figures; `bench/README.md` says how to read them.

mod alerts;
mod audit;
mod cost;
mod demo;
mod flood;
mod idle;
mod jobs;
mod logins;
mod mail;
mod memory;
mod peer;
mod tickets;

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
    /// What the audit log costs, and how fast it is sealed and verified
    Audit(audit::Args),
    /// Lists, reads and creations of tickets per second, beside many tickets of many organizations
    Tickets(tickets::Args),
    /// Whether the time of a failed login tells who has an account
    Logins(logins::Args),
    /// What floods of requests, slow heads and hostile bodies cost in memory
    Flood(flood::Args),
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
        What::Audit(args) => audit::run(args).await?,
        What::Tickets(args) => tickets::run(args).await?,
        What::Logins(args) => logins::run(args).await?,
        What::Flood(args) => flood::run(args).await?,
        What::Idle(args) => idle::run(args).await?,
    };
    #[expect(clippy::print_stdout, reason = "the figures are the output")]
    {
        println!("{figures}");
    }
    Ok(())
}
