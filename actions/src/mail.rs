//! What a mail that was read does: a ticket, a comment, or nothing. And the mails that a ticket's people get.

mod answer;
mod facts;
mod take_in;

pub use answer::{About, Words, about_ticket, receipt};
pub use take_in::{Incoming, Outcome, take_in};
