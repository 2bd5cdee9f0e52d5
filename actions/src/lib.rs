//! Everything that can be *done*: one function per verb. Each checks permission, changes rows, records the event and
//! enqueues its reactions, in the caller's transaction. Shared by the API, mail, alerts and (later) chat and rules.

pub mod access;
pub mod alert_sources;
pub mod alerts;
pub mod api_tokens;
pub mod auth;
pub mod calendars;
pub mod channels;
mod check;
pub mod cmdb;
pub mod credentials;
pub mod deliveries;
pub mod departments;
pub mod discovery;
mod enqueue;
mod error;
pub mod escalation_chains;
pub mod escalations;
pub mod events;
pub mod hooks;
pub mod inbox;
pub mod jobs;
pub mod mail;
pub mod mailboxes;
pub mod operations;
pub mod organizations;
pub mod people;
pub mod priority_matrix;
pub mod pruning;
pub mod reports;
pub mod rules;
pub mod sla;
pub mod sla_policies;
mod stopped;
pub mod teams;
pub mod tickets;
pub mod users;

pub use enqueue::enqueue;
pub use error::{Error, FieldError, Result};
