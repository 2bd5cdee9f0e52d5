//! Everything that can be *done*: one function per verb. Each checks permission, changes rows, records the event and
//! enqueues its reactions, in the caller's transaction. Shared by the API, mail, alerts and (later) chat and rules.

pub mod access;
pub mod api_tokens;
pub mod auth;
mod check;
pub mod calendars;
pub mod credentials;
pub mod channels;
pub mod deliveries;
mod error;
pub mod escalation_chains;
pub mod escalations;
pub mod events;
pub mod departments;
pub mod jobs;
pub mod organizations;
pub mod people;
pub mod teams;
pub mod users;
pub mod priority_matrix;
pub mod rules;
pub mod sla;
pub mod sla_policies;
pub mod tickets;

pub use error::{Error, FieldError, Result};
