//! Every word Relaydesk sends: handlebars templates (`<folder>/<name>.<part>.hbs`) with typed contexts.
//!
//! A template is a struct that implements [`Context`] (with samples) plus its `.hbs` parts, and one line in
//! [`catalogue!`]. A test renders every sample of every template. Parts whose name ends in `html`, `slack` or `teams` are
//! escaped for where they go, all others are plain text. Missing variables are errors, partials do not exist.

mod context;
mod engine;
mod escape;
pub mod event;
pub mod mail;
pub mod report;

pub use context::Context;
pub use engine::{Error, MailWords, Templates};

/// Calls `$visit!(Type, Type, …)` with every template there is.
macro_rules! catalogue {
    ($visit:ident) => {
        $visit!(
            $crate::mail::Receipt,
            $crate::mail::PublicReply,
            $crate::mail::Resolved,
            $crate::mail::PasswordReset,
            $crate::mail::WebhookOff,
            $crate::event::Headline,
            $crate::event::Chat,
            $crate::event::Mail,
            $crate::event::ChatTest,
            $crate::event::MailTest,
            $crate::report::Report
        )
    };
}
pub(crate) use catalogue;
