//! One binary; a module per user story. Each drives the built `relaydesk` from outside.

mod alerts_to_incidents;
mod cluster_crash;
mod console;
mod database_away;
mod dead_letters;
mod demo;
mod disconnects;
mod discovery_by_itself;
mod discovery_sync;
mod failed_payloads;
mod gauges;
mod hooks_by_broker;
mod house;
mod incidents;
mod killed_in_a_chain;
mod live_progress;
mod mail_to_ticket;
mod notifications;
mod pooler;
mod power_cut;
mod rabbitmq_lanes;
mod remote_workers;
mod reports;
mod schema_floor;
mod sla_and_escalation;
mod two_versions;
