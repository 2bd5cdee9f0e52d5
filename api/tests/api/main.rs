//! The routes against a real database, without a socket. One module per noun; `support::Api` is where they begin.

mod auth;
mod foundation;
mod live;
mod people;
mod incidents;
mod sla;
mod notifications;
mod reports;
mod support;
mod tenants;
