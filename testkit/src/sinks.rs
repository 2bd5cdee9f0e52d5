//! Small real servers that a test starts in place of other people's systems.

mod http;
mod record;
mod smtp;

pub use http::{Answer, HttpSink, Request};
pub use smtp::{Mail, SmtpSink};
