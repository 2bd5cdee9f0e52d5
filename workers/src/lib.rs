//! What happens by itself: one file per job kind, the schedule, the table of reactions.

pub mod jobs;
mod registry;
mod shared;

pub use registry::registry;
pub use shared::{Settings, Shared};
