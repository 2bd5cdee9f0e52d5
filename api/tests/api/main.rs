//! The routes against a real database, without a socket. One module per noun; `support::Api` is where they begin.

mod abuse;
mod audit;
mod auth;
mod contract;
mod foundation;
mod hooks;
mod incidents;
mod live;
mod notifications;
mod people;
mod refused;
mod reports;
mod sla;
mod support;
mod tenants;
