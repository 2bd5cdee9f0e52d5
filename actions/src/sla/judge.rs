//! Warnings and breaches: found by a timer or by the change that ends a clock, recorded once.

use super::book::Book;
use crate::{Error, Result, escalations, events};
use chrono::{DateTime, TimeDelta, Utc};
use domain::sla::{Trigger, Verdict};
use domain::{Actor, BreachId, SlaClockId, SlaPolicyId};
use serde_json::json;
use std::time::Duration;
use store::Tx;
use store::sla_breaches::Breach;
use store::sla_clocks::StoredClock;
use store::tickets::Ticket;

/// What a timer found.
#[derive(Clone, Debug, PartialEq)]
pub enum Checked {
    /// The clock has ended, was judged before, or has another timer by now.
    Nothing,
    /// It is not time yet: look again after this long.
    NotYet(Duration),
    /// `lag`: how long after the moment at which it could first be known.
    Judged { trigger: Trigger, lag: Duration },
}

/// Judges one clock by the clock of the database. `at` is the deadline for which the timer was set.
pub async fn check(tx: &mut Tx, id: SlaClockId, at: Option<DateTime<Utc>>) -> Result<Checked> {
    let ticket = match store::sla_clocks::get(tx, id).await {
        Ok(stored) => store::tickets::lock(tx, stored.ticket).await?,
        Err(store::Error::NotFound) => return Ok(Checked::Nothing),
        Err(error) => return Err(error.into()),
    };
    let clocks = store::sla_clocks::lock_of_ticket(tx, ticket.id).await?;
    let mut stored = clocks.into_iter().find(|stored| stored.id == id).ok_or(Error::NotFound)?;
    let now = tx.now();
    let Some(verdict) = stored.clock.judge(now) else {
        return Ok(match stored.clock.next_check() {
            Some(next) if Some(next) == at => Checked::NotYet((next - now).to_std().unwrap_or_default()),
            _ => Checked::Nothing,
        });
    };
    store::sla_clocks::update(tx, &stored).await?;
    let book = Book::load(tx).await?;
    record(tx, &book, &ticket, &stored, stored.policy, verdict).await?;
    let organization = tx.organization();
    super::set_timer(tx, organization, &stored).await?;
    let known_since = verdict.at.max(stored.clock.armed_at);
    Ok(Checked::Judged { trigger: verdict.trigger, lag: (now - known_since).to_std().unwrap_or_default() })
}

/// The row, the event and the chain that follow from a verdict.
pub(super) async fn record(
    tx: &mut Tx,
    book: &Book,
    ticket: &Ticket,
    stored: &StoredClock,
    policy: Option<SlaPolicyId>,
    verdict: Verdict,
) -> Result<()> {
    let now = tx.now();
    let policy = match policy {
        Some(id) => book.policy(tx, id).await?,
        None => None,
    };
    let policy_name = policy.as_ref().map(|policy| policy.name.clone()).unwrap_or_default();
    let target_seconds = verdict.goal.target.unwrap_or(TimeDelta::zero()).num_seconds();
    if verdict.trigger == Trigger::Breach {
        let breach = Breach {
            id: BreachId::new(),
            clock: stored.id,
            generation: verdict.generation,
            ticket: ticket.id,
            metric: stored.clock.metric,
            policy: policy.as_ref().map(|policy| policy.id),
            policy_name: policy_name.clone(),
            priority: ticket.priority,
            team: ticket.team,
            assignee: ticket.assignee,
            target_seconds: i32::try_from(target_seconds).unwrap_or(i32::MAX),
            breached_at: verdict.at,
            detected_at: now,
            fulfilled_at: None,
            overrun_seconds: None,
        };
        if !store::sla_breaches::insert(tx, &breach).await? {
            return Ok(());
        }
    }
    let kind = match verdict.trigger {
        Trigger::Warning => "sla.warning",
        Trigger::Breach => "sla.breached",
    };
    let due_at = match verdict.trigger {
        Trigger::Warning => stored.clock.due_at,
        Trigger::Breach => Some(verdict.at),
    };
    let payload = json!({
        "number": ticket.number,
        "kind": ticket.kind,
        "title": ticket.title,
        "status": ticket.status,
        "priority": ticket.priority,
        "impact": ticket.impact,
        "urgency": ticket.urgency,
        "source": ticket.source,
        "requester": ticket.requester,
        "assignee": ticket.assignee,
        "team": ticket.team,
        "clock": stored.id,
        "metric": stored.clock.metric,
        "policy": policy_name,
        "target_seconds": target_seconds,
        "due_at": due_at,
        "generation": verdict.generation,
    });
    let actor = Actor::system(tx.organization(), "check_sla");
    let event = events::record(tx, &actor, kind, Some(ticket.id), payload).await?;
    tracing::info!(
        ticket.id = %ticket.id, ticket.number = %ticket.number, metric = %stored.clock.metric, trigger = %verdict.trigger,
        lag_ms = (now - verdict.at).num_milliseconds(), "SLA"
    );
    let chain = policy.and_then(|policy| match verdict.trigger {
        Trigger::Warning => policy.warning_chain,
        Trigger::Breach => policy.breach_chain,
    });
    match chain {
        // Nobody needs to be called to a ticket that is finished, or to a response that was just given.
        Some(chain) if ticket.status.is_open() && stored.clock.is_open() => {
            escalations::start(tx, ticket, stored.id, verdict, chain, event).await
        }
        _ => Ok(()),
    }
}
