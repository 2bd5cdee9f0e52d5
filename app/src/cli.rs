//! The command line. Every command's help ends with an example.

mod audit;
mod jobs;
mod lanes;

pub use audit::AuditCommand;
pub use jobs::{JobFilter, JobsCommand, Which};
pub use lanes::{KindsCommand, LanesCommand, LimitsCommand, Per, Setting, TenantsCommand};

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, Parser)]
#[command(
    name = "relaydesk",
    version,
    about = "Service desk and durable job platform",
    propagate_version = true
)]
#[command(after_help = "Try it: relaydesk demo\nSettings: relaydesk config check --help")]
pub struct Cli {
    /// Configuration file [default: relaydesk.toml if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything in one process on a private PostgreSQL, with demo data: try Relaydesk with one command
    #[command(after_help = "Example: relaydesk demo --data-dir /tmp/desk --http 127.0.0.1:9000")]
    Demo(Demo),
    /// API, console, mail listener and workers in one process
    #[command(after_help = "Example: DATABASE_URL=postgresql://relaydesk_app:…@db/relaydesk relaydesk serve")]
    Serve,
    /// What comes in: API, console, mail listener; the work is done by `worker` processes
    #[command(after_help = "Example: RELAYDESK_HTTP_LISTEN=0.0.0.0:8080 relaydesk api")]
    Api,
    /// Workers alone; start as many as you like
    #[command(after_help = "Example: relaydesk worker --lanes outbound,reports --concurrency 8\n\
        Example: RELAYDESK_REMOTE_KEYS=a:… relaydesk worker --remote --lanes outbound,discovery --amqp-url amqps://…")]
    Worker(Worker),
    /// Bring the database's schema up to date; DATABASE_URL is the owner's here
    #[command(after_help = "Example: DATABASE_URL=postgresql://owner:…@db/relaydesk relaydesk migrate")]
    Migrate,
    /// The configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Organizations, users and tokens from the shell
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Verify the audit log, export it, keep its heads
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Look at jobs, retry (with other arguments), cancel and discard them, one or many
    #[command(subcommand)]
    Jobs(JobsCommand),
    /// Look at lanes, pause, drain and resume them, limit them
    #[command(subcommand)]
    Lanes(LanesCommand),
    /// Limits of kinds of jobs: look at them, change them
    #[command(subcommand)]
    Limits(LimitsCommand),
    /// Kinds of jobs: how long the history of each is kept
    #[command(subcommand)]
    Kinds(KindsCommand),
    /// Shares of tenants in busy lanes
    #[command(subcommand)]
    Tenants(TenantsCommand),
    /// Hand in mail
    #[command(subcommand)]
    Mail(MailCommand),
    /// Check what this installation needs: configuration, database, role, schema, folders, relay
    #[command(after_help = "Example: relaydesk doctor --json")]
    Doctor(Json),
}

#[derive(Debug, Args)]
pub struct Demo {
    /// Where the database, attachments and demo.json live
    #[arg(long, value_name = "DIR", default_value = ".relaydesk")]
    pub data_dir: PathBuf,
    /// Where the API and the console listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub http: SocketAddr,
    /// Where the SMTP listener listens
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:2525")]
    pub smtp: SocketAddr,
    /// Throw the data of an earlier demo away first
    #[arg(long)]
    pub fresh: bool,
    /// No traffic of its own: only what you send
    #[arg(long)]
    pub quiet: bool,
}

#[derive(Debug, Args)]
pub struct Worker {
    /// Only these lanes [default: all that RELAYDESK_LANES lists]
    #[arg(long, value_name = "LANE,…", value_delimiter = ',')]
    pub lanes: Vec<String>,
    /// Jobs of each lane at a time [default: as RELAYDESK_LANES says]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub concurrency: Option<u16>,
    /// Without a database: only does what is outside, for platforms that name these lanes in RELAYDESK_REMOTE_LANES
    #[arg(long)]
    pub remote: bool,
    /// The broker [default: AMQP_URL, where others who list the processes do not see its password]
    #[arg(long, value_name = "URL")]
    pub amqp_url: Option<String>,
    /// Where it says how it is (/livez, /readyz, /metrics) [default: nowhere]
    #[arg(long, value_name = "ADDRESS", requires = "remote")]
    pub listen: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub struct Json {
    /// Machine-readable output
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read the configuration and say what is wrong with it
    #[command(after_help = crate::config::help() + "\nExample: relaydesk --config /etc/relaydesk.toml config check")]
    Check,
    /// Print relaydesk.example.toml
    #[command(after_help = "Example: relaydesk config example > relaydesk.toml")]
    Example,
}

#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// Create an organization (a tenant)
    #[command(after_help = "Example: relaydesk admin create-organization --name 'Acme GmbH' --slug acme")]
    CreateOrganization {
        #[arg(long)]
        name: String,
        /// Lower-case letters, digits and dashes
        #[arg(long)]
        slug: String,
        /// IANA name
        #[arg(long, default_value = "UTC")]
        time_zone: String,
        #[command(flatten)]
        output: Json,
    },
    /// Create a user; the password comes from standard input or is made up and printed once
    #[command(
        after_help = "Example: relaydesk admin create-user --organization acme --email ada@acme.example --name Ada --role admin"
    )]
    CreateUser {
        /// The organization's slug
        #[arg(long)]
        organization: String,
        #[arg(long)]
        email: String,
        #[arg(long)]
        name: String,
        /// Shipped role: admin, manager, agent or end_user (an organization's own roles are given over the API, user-roles/{id}/grants)
        #[arg(long, default_value = "agent")]
        role: domain::Role,
        /// Read the password from standard input (one line)
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        output: Json,
    },
    /// Make and change many people by a table (CSV), all lines or none; exit code 1 when lines are wrong
    #[command(
        after_help = "Example: relaydesk admin import-users --organization acme --dry-run people.csv\n\nThe columns and rules stand in docs/people.md."
    )]
    ImportUsers {
        /// The organization's slug
        #[arg(long)]
        organization: String,
        /// Change nothing, and say what would be
        #[arg(long)]
        dry_run: bool,
        /// Make departments and teams that are not there
        #[arg(long)]
        create_missing: bool,
        file: PathBuf,
        #[command(flatten)]
        output: Json,
    },
    /// Seal the secrets of channels and inventories with the first key of RELAYDESK_JOB_KEYS
    #[command(
        after_help = "Example: relaydesk admin seal-secrets\n\nFor those that lie in clear text (after keys were set for the first time) or are sealed with another key (before one is taken away). Any number of times, while everything runs."
    )]
    SealSecrets {
        #[command(flatten)]
        output: Json,
    },
    /// Create an API token; it is printed once
    #[command(
        after_help = "Example: relaydesk admin create-token --organization acme --email ada@acme.example --name ci"
    )]
    CreateToken {
        #[arg(long)]
        organization: String,
        #[arg(long)]
        email: String,
        #[arg(long)]
        name: String,
        #[command(flatten)]
        output: Json,
    },
}

#[derive(Debug, Subcommand)]
pub enum MailCommand {
    /// Take one raw message (RFC 5322); exit code 75 (EX_TEMPFAIL) when it could not be kept
    #[command(
        after_help = "Example (Postfix pipe): relaydesk mail ingest --mailbox support@acme.example < message.eml"
    )]
    Ingest {
        /// The address of a configured mailbox
        #[arg(long)]
        mailbox: String,
        /// A file with the message [default: standard input]
        file: Option<PathBuf>,
    },
}
