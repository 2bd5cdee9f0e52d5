//! The clocks of tickets: started when a ticket is opened, led along when it changes, judged when a timer fires.
//! Everything happens in the transaction of its cause, and after the ticket's row was locked.

mod book;
mod judge;
mod view;

pub use judge::{Checked, check};
pub use view::{ClockView, TicketClocks, view};

use crate::jobs::{CheckSla, RecomputeSla};
use crate::{Result, escalations};
use book::Book;
use chrono::{DateTime, Utc};
use domain::sla::{Clock, Goal, Metric, Phase, Verdict, Work};
use domain::ticket::Status;
use domain::{Actor, OrganizationId, SlaClockId, TicketId};
use queue::{NewJob, Unique};
use store::Tx;
use store::sla_clocks::StoredClock;
use store::sla_policies::Policy;
use store::tickets::Ticket;

/// Tickets whose clocks are worked out anew in one transaction.
const BATCH: i64 = 50;

/// The clocks of tickets that are about to be opened.
pub(crate) struct Opening {
    book: Book,
    /// For each ticket.
    started: Vec<Vec<(StoredClock, Option<Verdict>)>>,
}

impl Opening {
    /// Reads what is needed and writes nothing: comes before the tickets' numbers are taken.
    pub async fn plan(tx: &mut Tx, tickets: &[Ticket]) -> Result<Self> {
        let mut book = Book::load(tx).await?;
        let mut started = Vec::with_capacity(tickets.len());
        for ticket in tickets {
            let mut clocks = Vec::new();
            if let Some(policy) = book.choose(ticket) {
                for metric in [Metric::FirstResponse, Metric::Resolution] {
                    clocks.push(start(tx, &mut book, &policy, ticket, metric, &[]).await?);
                }
            }
            started.push(clocks);
        }
        Ok(Opening { book, started })
    }

    /// Starts the clocks of the tickets that are there now. Answers the timers of each, for the caller to enqueue.
    pub async fn start(self, tx: &mut Tx, tickets: &[Ticket]) -> Result<Vec<Vec<NewJob>>> {
        let clocks: Vec<&StoredClock> = self.started.iter().flatten().map(|(stored, _)| stored).collect();
        store::sla_clocks::insert(tx, &clocks).await?;
        let organization = tx.organization();
        let mut timers = Vec::with_capacity(tickets.len());
        for (ticket, started) in tickets.iter().zip(&self.started) {
            for (stored, verdict) in started {
                if let Some(verdict) = verdict {
                    judge::record(tx, &self.book, ticket, stored, stored.policy, *verdict).await?;
                }
            }
            timers.push(started.iter().filter_map(|(stored, _)| timer(organization, stored)).collect());
        }
        Ok(timers)
    }
}

/// Leads the clocks along with a ticket that changed.
pub async fn on_changed(tx: &mut Tx, before: &Ticket, after: &Ticket) -> Result<()> {
    let concerned = |t: &Ticket| {
        (
            t.kind,
            t.status,
            t.priority,
            t.impact,
            t.urgency,
            t.team,
            t.requester,
            t.first_responded_at.is_some(),
        )
    };
    if concerned(before) == concerned(after) {
        return Ok(());
    }
    let mut book = Book::load(tx).await?;
    follow(tx, &mut book, after, false).await
}

/// Works out the clocks of the next open tickets anew, after `after`. Answers the last one, or `None` at the end.
pub async fn recompute(tx: &mut Tx, after: Option<TicketId>) -> Result<Option<TicketId>> {
    let tickets = store::sla_clocks::open_tickets(tx, after, BATCH).await?;
    let mut book = Book::load(tx).await?;
    for id in &tickets {
        let ticket = store::tickets::lock(tx, *id).await?;
        if ticket.status.is_open() {
            follow(tx, &mut book, &ticket, true).await?;
        }
    }
    Ok(tickets.last().copied().filter(|_| tickets.len() as i64 == BATCH))
}

/// Asks for [`recompute`] over all open tickets of the organization.
pub(crate) async fn request_recompute(tx: &mut Tx, actor: &Actor) -> Result<()> {
    let job = NewJob::of(&RecomputeSla { after: None })
        .organization(actor.organization)
        .unique("recompute_sla", Unique::WhileWaiting);
    crate::enqueue(tx, &[job]).await?;
    Ok(())
}

fn goal(policy: Option<&Policy>, ticket: &Ticket, metric: Metric) -> Goal {
    let Some(policy) = policy else { return Goal::default() };
    let target = policy.targets.iter().find(|target| target.priority == ticket.priority);
    let seconds = target.and_then(|target| match metric {
        Metric::FirstResponse => target.first_response_seconds,
        Metric::Resolution => target.resolution_seconds,
    });
    Goal { target: seconds.map(|s| chrono::TimeDelta::seconds(s.into())), warn_percent: policy.warn_percent }
}

/// A new clock, not stored yet. `moves`: the statuses that the ticket went through before.
async fn start(
    tx: &mut Tx,
    book: &mut Book,
    policy: &Policy,
    ticket: &Ticket,
    metric: Metric,
    moves: &[(DateTime<Utc>, Status)],
) -> Result<(StoredClock, Option<Verdict>)> {
    let rules = book.rules(tx, policy.calendar).await?;
    let (now, goal) = (tx.now(), goal(Some(policy), ticket, metric));
    let moves = moves.iter().map(|(at, status)| (*at, Work::from(*status)));
    let (clock, earlier) = Clock::start_late(metric, goal, ticket.created_at, moves, &rules, now);
    let mut stored = StoredClock {
        id: SlaClockId::new(),
        ticket: ticket.id,
        policy: Some(policy.id),
        calendar: policy.calendar,
        clock,
    };
    // A ticket that waits already, and is late already.
    let verdict = earlier.or(stored.clock.follow(ticket.status.into(), &rules, now));
    Ok((stored, verdict))
}

/// `edited`: the contents of a policy or calendar may be different though their ids are the same.
async fn follow(tx: &mut Tx, book: &mut Book, ticket: &Ticket, edited: bool) -> Result<()> {
    let policy = book.choose(ticket);
    let clocks = store::sla_clocks::lock_of_ticket(tx, ticket.id).await?;
    let work = Work::from(ticket.status);
    for metric in [Metric::FirstResponse, Metric::Resolution] {
        match (clocks.iter().find(|stored| stored.clock.metric == metric), &policy) {
            (Some(stored), policy) => lead(tx, book, policy.as_ref(), ticket, stored.clone(), edited).await?,
            // A policy holds only now: time counts from the ticket's beginning.
            (None, Some(policy)) if matches!(work, Work::Active | Work::Waiting) => {
                if metric == Metric::Resolution || ticket.first_responded_at.is_none() {
                    let moves = store::ticket_history::statuses(tx, ticket.id).await?;
                    let (stored, verdict) = start(tx, book, policy, ticket, metric, &moves).await?;
                    store::sla_clocks::insert(tx, &[&stored]).await?;
                    if let Some(verdict) = verdict {
                        judge::record(tx, book, ticket, &stored, stored.policy, verdict).await?;
                    }
                    let mut begun = stored.clone();
                    begun.clock.phase = Phase::Running { since: ticket.created_at };
                    note_end(tx, ticket, &begun, &stored).await?;
                    let organization = tx.organization();
                    set_timer(tx, organization, &stored).await?;
                }
            }
            (None, _) => {}
        }
    }
    Ok(())
}

async fn lead(
    tx: &mut Tx,
    book: &mut Book,
    policy: Option<&Policy>,
    ticket: &Ticket,
    mut stored: StoredClock,
    edited: bool,
) -> Result<()> {
    let now = tx.now();
    let before = stored.clone();
    let old_rules = book.rules(tx, before.calendar).await?;
    let calendar = policy.map_or(before.calendar, |policy| policy.calendar);
    let new_rules = book.rules(tx, calendar).await?;
    let goal = goal(policy, ticket, before.clock.metric);
    let clock = &mut stored.clock;

    let mut verdicts = Vec::new();
    if ticket.first_responded_at.is_some() {
        verdicts.extend(clock.reply(&old_rules, now));
    }
    verdicts.extend(clock.follow(ticket.status.into(), &old_rules, now));
    if clock.is_open() {
        if edited || goal != clock.goal || calendar != before.calendar {
            let left = (calendar != before.calendar).then_some(&*old_rules);
            verdicts.extend(clock.retarget(goal, left, &new_rules, now));
        }
        (stored.policy, stored.calendar) = (policy.map(|policy| policy.id), calendar);
    }
    let armed_at = std::mem::replace(&mut stored.clock.armed_at, before.clock.armed_at);
    if stored == before {
        return Ok(());
    }
    stored.clock.armed_at = armed_at;
    store::sla_clocks::update(tx, &stored).await?;
    for verdict in verdicts {
        // What was due under the old goal is a breach of the old policy.
        let policy = if verdict.goal == before.clock.goal { before.policy } else { stored.policy };
        judge::record(tx, book, ticket, &stored, policy, verdict).await?;
    }
    if stored.clock.generation > before.clock.generation {
        escalations::stop_of_clock(tx, stored.id, Some(stored.clock.generation), "the target was changed")
            .await?;
    }
    note_end(tx, ticket, &before, &stored).await?;
    if stored.clock.next_check() != before.clock.next_check() {
        let organization = tx.organization();
        set_timer(tx, organization, &stored).await?;
    }
    Ok(())
}

/// Breaches learn when they were made good, and escalations end with their clock.
async fn note_end(tx: &mut Tx, ticket: &Ticket, before: &StoredClock, after: &StoredClock) -> Result<()> {
    match (before.clock.is_open(), after.clock.is_open()) {
        (true, false) => {
            if let (Phase::Done { at }, Some(_), Some(target)) =
                (after.clock.phase, after.clock.breached_at, after.clock.goal.target)
            {
                let overrun = (after.clock.elapsed - target).num_seconds();
                store::sla_breaches::fulfil(tx, after.id, after.clock.generation, at, overrun).await?;
            }
            let reason = match after.clock.metric {
                _ if !ticket.status.is_open() => format!("the ticket is {}", ticket.status),
                Metric::FirstResponse => "the first response was given".to_owned(),
                Metric::Resolution => "the clock has ended".to_owned(),
            };
            escalations::stop_of_clock(tx, after.id, None, &reason).await
        }
        (false, true) => Ok(store::sla_breaches::unfulfil(tx, after.id).await?),
        _ => Ok(()),
    }
}

async fn set_timer(tx: &mut Tx, organization: OrganizationId, stored: &StoredClock) -> Result<()> {
    if let Some(job) = timer(organization, stored) {
        crate::enqueue(tx, &[job]).await?;
    }
    Ok(())
}

fn timer(organization: OrganizationId, stored: &StoredClock) -> Option<NewJob> {
    let at = stored.clock.next_check()?;
    Some(NewJob::of(&CheckSla { clock: stored.id, at: Some(at) }).organization(organization).run_at(at))
}
