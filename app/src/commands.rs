//! The subcommands, one file each.

pub mod admin;
pub mod audit;
pub mod config;
pub mod demo;
pub mod doctor;
pub mod jobs;
pub mod kinds;
pub mod lanes;
pub mod limits;
pub mod mail;
pub mod migrate;
pub mod remote;
pub mod serve;
