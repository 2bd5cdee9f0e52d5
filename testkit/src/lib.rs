//! What the tests stand on: a real PostgreSQL with a database for every test, and small real servers that stand in for
//! the systems Relaydesk talks to. A dev-dependency only.
//!
//! Inside a crate that `testkit` itself depends on (`store`, `queue`, `actions`), put such tests into `tests/`, not into a
//! `mod tests`: there the crate under test and the one `testkit` knows would be two different ones.
//!
//! Everything panics instead of returning errors: a harness that fails is a test that fails.

mod broker;
mod clamd;
mod client;
mod database;
mod follower;
mod mail;
mod net;
mod oidc_provider;
mod people;
mod pooler;
mod program;
mod proxy;
mod report;
mod schemathesis;
mod server;
pub mod sinks;
mod statements;

pub use broker::{BrokerNode, TestBroker, broker, has_broker};
pub use clamd::{Clamd, has_clamd};
pub use client::{Answer, Client};
pub use database::{TestDb, database};
pub use follower::{Follower, Message};
pub use mail::{SmtpClient, send_mail};
pub use net::{free_port, http_client, install_crypto};
pub use oidc_provider::OidcProvider;
pub use people::{Organization, organization, token};
pub use pooler::{Pooler, has_pooler};
pub use program::{App, Demo, Process, executable};
pub use proxy::{Proxy, Way};
pub use report::{in_full, report};
pub use schemathesis::schemathesis;
pub use server::Server;
pub use statements::{count_statements, statements_sent};
