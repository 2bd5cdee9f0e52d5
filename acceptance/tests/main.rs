//! One binary; a module per user story. Each drives the built `relaydesk` from outside.

mod house;
mod incidents;
