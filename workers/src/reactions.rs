//! The table of reactions: what follows from which event, whoever caused it. The organization's own rules come on top.
//!
//! A reaction runs in the transaction that completes the `react` job: it changes rows and enqueues, and does nothing
//! outside of the database.

pub mod mail;
pub mod rules;

use crate::Shared;
use futures::future::BoxFuture;
use store::Tx;
use store::events::Event;

pub type Reaction = for<'a> fn(&'a mut Tx, &'a Shared, &'a Event) -> BoxFuture<'a, anyhow::Result<()>>;

/// Event → what is done, in this order.
pub const REACTIONS: &[(&str, Reaction)] =
    &[("incident.commented", mail::public_reply), ("incident.resolved", mail::resolved)];

/// The reactions to one kind of event.
pub fn to(kind: &str) -> impl Iterator<Item = Reaction> {
    REACTIONS.iter().filter(move |(event, _)| *event == kind).map(|(_, reaction)| *reaction)
}
