//! The HTTP interface: routes, authentication, problem responses, OpenAPI, the live stream.
//!
//! How a request travels: `router.rs` finds the handler; `envelope.rs` wraps it (trace, metrics, time limit, panics, every error
//! a problem document); `idempotency.rs` answers repeated writes; the handler in `routes/<noun>.rs` takes a [`Caller`], parses
//! with [`ApiJson`], calls a verb in `actions` inside `state.db.begin(caller.organization())`, commits and answers.

mod body;
mod caller;
mod envelope;
pub mod etag;
mod health;
pub mod idempotency;
mod live;
mod metrics;
mod moment;
mod openapi;
mod page;
mod parameters;
mod problem;
mod query;
mod router;
pub mod routes;
mod state;

pub use body::ApiJson;
pub use caller::{Caller, Credential};
pub use etag::IfMatch;
pub use page::{ListQuery, Ordering, Page, Search};
pub use problem::{OnConstraint, Problem};
pub use query::{ApiPath, Filters, OneOrMore};
pub use router::{app, app_with, description};
pub use state::{AppState, Settings};

/// What handlers answer.
pub type ApiResult<T> = Result<T, Problem>;
