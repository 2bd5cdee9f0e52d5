//! All SQL of the product: one file per table family, and the tenant-scoped transaction.

pub mod alert_sources;
pub mod alerts;
pub mod api_tokens;
pub mod attachments;
pub mod blobs;
pub mod calendars;
pub mod channel_gates;
pub mod channels;
pub mod ci_categories;
pub mod ci_relationships;
pub mod configuration_items;
mod db;
pub mod deliveries;
pub mod departments;
pub mod discovery_runs;
pub mod discovery_sources;
mod error;
pub mod escalation_chains;
pub mod escalations;
pub mod events;
pub mod guard;
pub mod idempotency;
pub mod inbox;
mod lock;
pub mod mail_messages;
pub mod mailboxes;
pub mod organizations;
pub mod priority_matrix;
pub mod pruning;
pub mod reconciliation;
pub mod report_executions;
pub mod report_schedules;
pub mod reports;
pub mod rules;
pub mod sessions;
pub mod sla_breaches;
pub mod sla_clocks;
pub mod sla_policies;
pub mod teams;
pub mod ticket_comments;
pub mod ticket_configuration_items;
pub mod ticket_facts;
pub mod ticket_history;
pub mod ticket_links;
pub mod ticket_list;
pub mod ticket_people;
pub mod ticket_tags;
pub mod ticket_watchers;
pub mod tickets;
pub mod users;
mod words;

pub use db::{Clock, Db, Route, Tx};
pub use error::{Error, Result};

/// The schema history, run by `relaydesk migrate` as the owner of the database.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../migrations");
