//! Mail in and out: reading raw messages, the SMTP listener, sending through a relay.

mod folder;
pub mod html;
pub mod outgoing;
pub mod parse;
mod report;
pub mod smtp_server;

pub use outgoing::Mailer;
pub use parse::{Unreadable, parse};
