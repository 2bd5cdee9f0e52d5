//! Other systems: mail, chat, monitoring payloads, discovery sources

pub mod monitoring;
