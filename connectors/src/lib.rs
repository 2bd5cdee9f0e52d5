//! Other systems: mail, chat, monitoring payloads, discovery sources. Wire formats in, domain values out, and back.
//! Never touches the database.

pub mod bytes64;
pub mod clamd;
pub mod discovery;
pub mod http;
pub mod mail;
pub mod monitoring;
pub mod oidc;
pub mod people_csv;
pub mod sending;
pub mod slack;
pub mod teams;
pub mod webhook;
