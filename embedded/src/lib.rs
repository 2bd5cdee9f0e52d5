//! A private PostgreSQL (and for tests a private RabbitMQ, `broker`) as a child process: found among the programs of the machine, initialised once, run in the
//! foreground on a unix socket that nobody else can open, restarted when it crashes, gone when its parent is gone.
//!
//! The demo and the tests run on it; a real installation names its own server in `DATABASE_URL` and never comes here.
//! Standard library and system calls only, no async runtime: the child must be spawned from a thread that lives as long
//! as the cluster (see `supervise`), and two programs start it before any runtime exists. Roles and the first database
//! are made once with `postgres --single`, so neither `psql` (missing in some packs) nor a driver is needed.
//!
//! `docs/embedded-postgres.md` describes it for users, `docs/adr/0020-own-supervisor.md` says why it exists.

mod account;
mod binaries;
mod broker;
mod cluster;
mod error;
mod folder;
mod initialize;
mod processes;
mod supervise;
mod wire;

pub use binaries::{Binaries, NotFound, OLDEST_MAJOR, find_binaries, usual_packs};
pub use broker::{Broker, BrokerNotFound, BrokerOptions, BrokerPrograms, find_broker};
pub use cluster::{Cluster, Options};
pub use error::Error;
pub use folder::sweep_leftovers;

/// The role that `initdb` makes: owner of everything, used for migrations only.
pub const OWNER: &str = "relaydesk";
/// The role the application connects as: owns nothing, cannot bypass row level security.
pub const APP_ROLE: &str = "relaydesk_app";
