//! The routes against a real database, without a socket. One module per noun; `support::Api` is where they begin.

mod foundation;
mod incidents;
mod support;
