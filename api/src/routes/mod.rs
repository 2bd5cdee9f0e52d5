//! One file per noun: parameters, bodies, responses, documentation, handlers.

pub mod alert_hooks;
pub mod alert_sources;
pub mod alerts;
pub mod incidents;
pub mod api_tokens;
pub mod auth;
pub mod departments;
pub mod events;
pub mod jobs;
pub mod lanes;
pub mod organizations;
pub mod notification_channels;
pub mod notification_rules;
pub mod notifications;
pub mod permissions;
pub mod teams;
pub mod users;
pub mod priority_matrix;
pub mod business_calendars;
pub mod escalation_chains;
pub mod sla_breaches;
pub mod sla_policies;
pub mod inbox;
pub mod mail_hook;
pub mod mailboxes;
