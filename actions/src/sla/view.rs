//! The clocks of tickets as they are shown.

use super::book::Book;
use crate::Result;
use chrono::{DateTime, Utc};
use domain::sla::{Metric, Phase, State};
use domain::{SlaPolicyId, TicketId};
use std::collections::HashMap;
use store::Tx;

/// A clock without a target is not shown.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TicketClocks {
    pub policy: Option<SlaPolicyId>,
    pub first_response: Option<ClockView>,
    pub resolution: Option<ClockView>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClockView {
    pub state: State,
    pub target_seconds: i64,
    /// Working time, as the policy's calendar counts it.
    pub elapsed_seconds: i64,
    /// Negative: late by so much.
    pub remaining_seconds: i64,
    /// `None` while it stands still.
    pub due_at: Option<DateTime<Utc>>,
    pub warned_at: Option<DateTime<Utc>>,
    pub breached_at: Option<DateTime<Utc>>,
    pub completed_at: Option<DateTime<Utc>>,
}

/// Those of all the given tickets; tickets without clocks are left out.
pub async fn view(tx: &mut Tx, tickets: &[TicketId]) -> Result<HashMap<TicketId, TicketClocks>> {
    if tickets.is_empty() {
        return Ok(HashMap::new());
    }
    let now = tx.now();
    let mut book = Book::default();
    let mut all: HashMap<TicketId, TicketClocks> = HashMap::new();
    for stored in store::sla_clocks::of_tickets(tx, tickets).await? {
        let clocks = all.entry(stored.ticket).or_default();
        clocks.policy = stored.policy;
        let rules = book.rules(tx, stored.calendar).await?;
        let clock = &stored.clock;
        let Some(target) = clock.goal.target else { continue };
        let elapsed = clock.elapsed_at(&rules, now);
        let shown = ClockView {
            state: clock.state(),
            target_seconds: target.num_seconds(),
            elapsed_seconds: elapsed.num_seconds(),
            remaining_seconds: (target - elapsed).num_seconds(),
            due_at: clock.due_at,
            warned_at: clock.warned_at,
            breached_at: clock.breached_at,
            completed_at: match clock.phase {
                Phase::Done { at } => Some(at),
                _ => None,
            },
        };
        match clock.metric {
            Metric::FirstResponse => clocks.first_response = Some(shown),
            Metric::Resolution => clocks.resolution = Some(shown),
        }
    }
    Ok(all)
}
