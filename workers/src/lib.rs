//! What happens by itself: one file per job kind, the schedule, the table of reactions.

pub mod jobs;
mod shared;

pub use shared::Shared;
