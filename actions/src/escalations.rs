//! Escalations: a chain is started by a warning or breach and then done step by step, each step once.
//! Lock the ticket before its escalation.

use crate::deliveries::{self, NewChannelMessage, NewMail};
use crate::jobs::Escalate;
use crate::tickets;
use crate::{Error, Result};
use domain::escalation::{Action, EscalationState, Step, StepOutcome};
use domain::sla::{Trigger, Verdict};
use domain::ticket::{Changes, Priority};
use domain::{Actor, ChainId, EscalationId, EventId, SlaClockId};
use queue::NewJob;
use serde_json::{Value, json};
use std::time::Duration;
use store::Tx;
use store::deliveries::Mail;
use store::escalations::{DoneStep, Escalation};
use store::ticket_history::NewEntry;
use store::tickets::Ticket;

/// What a timer did.
#[derive(Clone, Debug, PartialEq)]
pub enum Stepped {
    /// The escalation is over, or has another timer by now.
    Nothing,
    /// It is not time yet: look again after this long.
    NotYet(Duration),
    Stopped(String),
    Done {
        step: i32,
        outcome: StepOutcome,
        detail: String,
    },
}

fn actor(tx: &Tx) -> Actor {
    Actor::system(tx.organization(), "escalate")
}

/// Starts a chain with the steps it has now; a second time for the same cause does nothing.
pub(crate) async fn start(
    tx: &mut Tx,
    ticket: &Ticket,
    clock: SlaClockId,
    verdict: Verdict,
    chain: ChainId,
    event: EventId,
) -> Result<()> {
    let chain = store::escalation_chains::get(tx, chain).await?;
    let Some(first) = chain.steps.first() else { return Ok(()) };
    let now = tx.now();
    let escalation = Escalation {
        id: EscalationId::new(),
        ticket: ticket.id,
        clock,
        generation: verdict.generation,
        trigger: verdict.trigger,
        event: Some(event),
        chain: Some(chain.id),
        chain_name: chain.name,
        next_step: 0,
        next_at: Some(now + delay(first)),
        steps: chain.steps,
        state: EscalationState::Running,
        reason: String::new(),
        started_at: now,
        ended_at: None,
    };
    if store::escalations::insert(tx, &escalation).await? {
        let changes =
            change("started", &format!("{}: {} of the SLA", escalation.chain_name, verdict.trigger));
        remember(tx, &escalation, &changes).await?;
        set_timer(tx, &escalation).await?;
    }
    Ok(())
}

/// Does the next step if it is due. `step` is the one for which the timer was set.
pub async fn step(tx: &mut Tx, id: EscalationId, step: Option<i32>) -> Result<Stepped> {
    let ticket = match store::escalations::get(tx, id).await {
        Ok(escalation) => store::tickets::lock(tx, escalation.ticket).await?,
        Err(store::Error::NotFound) => return Ok(Stepped::Nothing),
        Err(error) => return Err(error.into()),
    };
    let mut escalation = store::escalations::lock(tx, id).await?;
    let (EscalationState::Running, Some(next_at)) = (escalation.state, escalation.next_at) else {
        return Ok(Stepped::Nothing);
    };
    let now = tx.now();
    if now < next_at {
        return Ok(match step {
            Some(step) if step != escalation.next_step => Stepped::Nothing,
            _ => Stepped::NotYet((next_at - now).to_std().unwrap_or_default()),
        });
    }
    if !ticket.status.is_open() {
        let reason = format!("the ticket is {}", ticket.status);
        stop(tx, escalation, &reason).await?;
        return Ok(Stepped::Stopped(reason));
    }
    let index = escalation.next_step;
    let Some(current) = usize::try_from(index).ok().and_then(|index| escalation.steps.get(index)).copied()
    else {
        stop(tx, escalation, "no step is left").await?;
        return Ok(Stepped::Nothing);
    };
    // Before the step is done: what it changes may end this very escalation, and then that stays.
    advance(&mut escalation, now);
    store::escalations::update(tx, &escalation).await?;
    let (outcome, detail) = attempt(tx, &escalation, &ticket, index, current.action).await?;
    let done = DoneStep {
        step: index,
        action: current.action.as_str().to_owned(),
        outcome,
        detail: detail.clone(),
        done_at: now,
    };
    store::escalations::insert_step(tx, id, &done).await?;
    let text =
        format!("{}, step {}: {} {} ({detail})", escalation.chain_name, index + 1, done.action, outcome);
    remember(tx, &escalation, &change("step", &text)).await?;
    set_timer(tx, &escalation).await?;
    Ok(Stepped::Done { step: index, outcome, detail })
}

fn advance(escalation: &mut Escalation, now: chrono::DateTime<chrono::Utc>) {
    escalation.next_step += 1;
    match usize::try_from(escalation.next_step).ok().and_then(|index| escalation.steps.get(index)) {
        Some(next) => escalation.next_at = Some(now + delay(next)),
        None => {
            escalation.next_at = None;
            escalation.state = EscalationState::Finished;
            escalation.ended_at = Some(now);
        }
    }
}

/// Ends what runs because of a clock that has ended, or (`before`) because of earlier generations of it.
pub(crate) async fn stop_of_clock(
    tx: &mut Tx,
    clock: SlaClockId,
    before: Option<i32>,
    reason: &str,
) -> Result<()> {
    for escalation in store::escalations::lock_running_of_clock(tx, clock).await? {
        if before.is_none_or(|generation| escalation.generation < generation) {
            stop(tx, escalation, reason).await?;
        }
    }
    Ok(())
}

async fn stop(tx: &mut Tx, mut escalation: Escalation, reason: &str) -> Result<()> {
    escalation.state = EscalationState::Stopped;
    escalation.reason = reason.to_owned();
    escalation.next_at = None;
    escalation.ended_at = Some(tx.now());
    store::escalations::update(tx, &escalation).await?;
    remember(tx, &escalation, &change("stopped", &format!("{}: {reason}", escalation.chain_name))).await
}

/// A step that cannot be done is noted and the chain goes on; only when the database fails is the whole tried again.
async fn attempt(
    tx: &mut Tx,
    escalation: &Escalation,
    ticket: &Ticket,
    index: i32,
    action: Action,
) -> Result<(StepOutcome, String)> {
    store::escalations::begin_step(tx).await?;
    let failed = |reason: String| (StepOutcome::Failed, reason);
    let outcome = match act(tx, escalation, ticket, index, action).await {
        Ok(done) => return Ok(done),
        Err(Error::Conflict(reason)) => (StepOutcome::Skipped, reason),
        Err(Error::NotFound) => failed("what the step names does not exist any more".to_owned()),
        Err(Error::Forbidden(reason)) => failed(reason),
        Err(Error::Invalid(fields)) => {
            failed(fields.into_iter().map(|field| field.detail).collect::<Vec<_>>().join("; "))
        }
        Err(error) => return Err(error),
    };
    store::escalations::rollback_step(tx).await?;
    Ok(outcome)
}

async fn act(
    tx: &mut Tx,
    escalation: &Escalation,
    ticket: &Ticket,
    index: i32,
    action: Action,
) -> Result<(StepOutcome, String)> {
    let actor = actor(tx);
    let key = format!("escalation:{}:{index}", escalation.id);
    let message_kind = match escalation.trigger {
        Trigger::Warning => "sla.warning",
        Trigger::Breach => "sla.breached",
    };
    match action {
        // Its members would see it.
        Action::AssignTeam { .. } if ticket.is_confidential => {
            Ok((StepOutcome::Skipped, "the ticket is confidential: people assign it".to_owned()))
        }
        Action::AssignTeam { team } => {
            let wanted = tickets::Escalation {
                reason: reason(escalation, index),
                team: Some(team),
                ..Default::default()
            };
            tickets::escalate(tx, &actor, ticket.id, wanted).await?;
            Ok((StepOutcome::Done, "assigned".to_owned()))
        }
        Action::RaisePriority => {
            if ticket.priority == Priority::Critical {
                return Ok((StepOutcome::Skipped, "the priority is critical already".to_owned()));
            }
            let to = ticket.priority.raised();
            let wanted = tickets::Escalation {
                reason: reason(escalation, index),
                priority: Some(to),
                ..Default::default()
            };
            tickets::escalate(tx, &actor, ticket.id, wanted).await?;
            Ok((StepOutcome::Done, format!("{} to {to}", ticket.priority)))
        }
        Action::NotifyManager => {
            let Some(manager) = store::escalations::manager_of(tx, ticket.id).await? else {
                let detail = "neither the ticket's team nor its assignee has a manager";
                return Ok((StepOutcome::Failed, detail.to_owned()));
            };
            let (manager, told) = match store::absences::stand_in(tx, manager.id).await? {
                Some(substitute) => {
                    let substitute = store::escalations::person(tx, substitute).await?;
                    let told =
                        format!("{}, who stands in for {} (out of office)", substitute.name, manager.name);
                    (substitute, told)
                }
                None => (manager.clone(), manager.name),
            };
            if !tickets::is_seen_by(tx, manager.id, ticket).await? {
                let detail = format!("{told} may not see the ticket");
                return Ok((StepOutcome::Skipped, detail));
            }
            let mail = NewMail {
                key,
                to: store::contact_ways::mail_address(tx, manager.id, manager.email.as_str()).await?,
                message_kind: message_kind.to_owned(),
                event: escalation.event,
                ticket: Some(ticket.id),
                mail: Mail {
                    to_name: Some(manager.name.clone()),
                    auto_submitted: Some("auto-generated".to_owned()),
                    ..Mail::default()
                },
                ..NewMail::default()
            };
            deliveries::queue_mail(tx, actor.organization, mail).await?;
            Ok((StepOutcome::Done, format!("mail to {told}")))
        }
        Action::NotifyChannel { .. } if ticket.is_confidential => {
            let detail = "the ticket is confidential: nothing of it goes to channels";
            Ok((StepOutcome::Skipped, detail.to_owned()))
        }
        Action::NotifyChannel { channel } => {
            let name = store::channels::get(tx, channel).await?.name;
            let message = NewChannelMessage {
                key,
                channel,
                rule: None,
                message_kind: message_kind.to_owned(),
                event: escalation.event,
                ticket: Some(ticket.id),
                trace: None,
            };
            let queued = deliveries::queue_channel(tx, actor.organization, message).await?;
            match queued.is_empty() {
                true => Ok((StepOutcome::Skipped, format!("the channel {name} is switched off"))),
                false => Ok((StepOutcome::Done, format!("message to {name}"))),
            }
        }
    }
}

fn reason(escalation: &Escalation, index: i32) -> String {
    let what = match escalation.trigger {
        Trigger::Warning => "warning before an SLA target passes",
        Trigger::Breach => "an SLA target has passed",
    };
    format!("{}, step {}: {what}", escalation.chain_name, index + 1)
}

fn delay(step: &Step) -> chrono::TimeDelta {
    chrono::TimeDelta::seconds(step.after_seconds.into())
}

fn change(what: &str, text: &str) -> Changes {
    let mut changes = Changes::default();
    changes.add("escalation", &Value::Null, &json!({"what": what, "detail": text}));
    changes
}

/// History tells what was done and why it stopped.
async fn remember(tx: &mut Tx, escalation: &Escalation, changes: &Changes) -> Result<()> {
    let trace_id = queue::trace::current().map(|context| context.trace_id_hex());
    let actor = actor(tx);
    // Whom it calls is nothing for the requester.
    let entry =
        NewEntry { ticket: escalation.ticket, action: "escalation", changes, is_internal: true, trace_id };
    store::ticket_history::insert(tx, &actor, &[entry]).await?;
    Ok(())
}

async fn set_timer(tx: &mut Tx, escalation: &Escalation) -> Result<()> {
    let Some(at) = escalation.next_at else { return Ok(()) };
    let organization = tx.organization();
    let job = NewJob::of(&Escalate { escalation: escalation.id, step: Some(escalation.next_step) })
        .organization(organization);
    // A step without a wait is ready with the commit of the one before: no timer has to come round first.
    let job = if at > tx.now() { job.run_at(at) } else { job };
    crate::enqueue(tx, &[job]).await?;
    Ok(())
}
