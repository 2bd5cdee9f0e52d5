//! What leaves the house, from the event to the peer: real PostgreSQL, real jobs, real sockets.

mod chat;
mod gate;
mod ledger;
mod mail;
mod remote;
mod reports;
mod sealed;
mod storm;
mod webhook_jobs;
mod webhooks;
mod world;
