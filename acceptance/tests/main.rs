//! One binary; a module per user story. Each drives the built `relaydesk` from outside.

mod alerts_to_incidents;
mod console;
mod demo;
mod discovery_sync;
mod house;
mod incidents;
mod mail_to_ticket;
mod notifications;
mod power_cut;
mod reports;
mod sla_and_escalation;
