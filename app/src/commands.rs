//! The subcommands, one file each.

pub mod config;
pub mod doctor;
pub mod jobs;
pub mod lanes;
pub mod migrate;
pub mod serve;
