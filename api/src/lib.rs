//! The HTTP interface: routes, authentication, problem responses, OpenAPI, the live stream.
//!
//! How a request travels: `server.rs` takes it from its connection; `router.rs` finds the handler; `envelope.rs` wraps it (address, trace,
//! metrics, time limit, panics, every error a problem document); `rates.rs` counts it; `idempotency.rs` answers repeated writes; the handler in `routes/<noun>.rs` takes a [`Caller`], parses
//! with [`ApiJson`], calls a verb in `actions` inside `state.db.begin(caller.organization())`, commits and answers.

mod answers;
mod body;
mod caller;
mod client;
mod deprecated;
mod envelope;
pub mod etag;
mod examples;
mod filters;
mod followers;
mod health;
pub mod idempotency;
mod listener;
mod live;
mod metrics;
mod moment;
mod openapi;
mod page;
mod parameters;
mod problem;
mod query;
mod rates;
mod refusals;
mod router;
pub mod routes;
mod scanning;
mod scim_errors;
pub mod server;
mod shape;
mod state;
mod whole;

pub use answers::origin;
pub use body::ApiJson;
pub use caller::{Caller, Credential, Reading};
pub use client::{Forwarding, Proxies};
pub use etag::IfMatch;
pub use page::{ListQuery, Page, Search};
pub use problem::{OnConstraint, Problem};
pub use query::{ApiPath, Filters, OneOrMore};
pub use rates::Rates;
pub use router::{app, app_with, description, metrics_alone};
pub use state::{AppState, Settings};

/// What handlers answer.
pub type ApiResult<T> = Result<T, Problem>;
