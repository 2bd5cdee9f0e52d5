//! What can be done with tickets. Every verb checks permission, changes rows, writes history, records the event and
//! moves the SLA clocks, in the caller's transaction.
//!
//! A verb locks the ticket's row first, so two verbs on one ticket happen one after the other. Who only wants to change
//! what they have seen calls [`expect_version`] before it (`If-Match`).

mod assign;
mod attach;
pub mod bulk;
mod change;
mod comment;
mod configuration_items;
mod escalate;
mod history;
mod links;
mod open;
mod people;
mod see;
mod status;
mod tags;
mod update;
mod watchers;

pub(crate) use assign::release;
pub use assign::{Assignment, assign};
pub use attach::{StoredAttachment, attach_stored};
pub use comment::{NewComment, comment};
pub use configuration_items::set_configuration_items;
pub use escalate::{Escalation, escalate};
pub use history::history;
pub use links::{link, unlink};
pub use open::{NewTicket, open, open_all};
pub use see::{decision, expect_version, find, is_seen_by, require, see, sees_internal};
pub use status::{cancel, close, reopen, resolve, set_status};
pub use tags::{add_tag, remove_tag, set_tags};
pub use update::{TicketPatch, update};
pub use watchers::{add_watcher, remove_watcher};
