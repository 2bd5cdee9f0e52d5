//! What the rules decided for a group, done to its incident.

use super::{Concern, Ingested, Move, Outcome, Payload, Rest, Settled};
use crate::tickets::{self, NewComment, NewTicket, TicketPatch};
use crate::{Result, alerts::incident::IncidentMove::*};
use chrono::TimeDelta;
use domain::Actor;
use domain::alert::{
    Grading, GroupState, IncidentMove, Notification, Signal, description, group_comment, group_title,
    judge_group, note_of_resolution,
};
use domain::ticket::Source;
use store::Tx;
use store::alert_sources::AlertSource;
use store::tickets::Ticket;

/// Opens the incidents that are still to be opened, all together: from here on nobody else gets a number.
pub(super) async fn open(tx: &mut Tx, actor: &Actor, settled: &mut [Settled<'_>]) -> Result<()> {
    let moves = settled.iter_mut().flat_map(|settled| &mut settled.moves).map(|(_, moved)| moved);
    let (mut open, mut new) = (Vec::new(), Vec::new());
    for moved in moves {
        if let Move::Open(ticket) = moved {
            new.push((**ticket).clone());
            open.push(moved);
        }
    }
    if new.is_empty() {
        return Ok(());
    }
    let tickets = tickets::open_all(tx, actor, new).await?;
    for (moved, ticket) in open.into_iter().zip(tickets) {
        *moved = Move::Done(Ingested { outcome: Outcome::Opened, incident: Some(ticket.id) });
    }
    Ok(())
}

/// Does what there is to do to the group's incident, except for opening one.
pub(super) async fn settle(
    tx: &mut Tx,
    actor: &Actor,
    source: &AlertSource,
    payload: &Payload<'_>,
    concern: &Concern<'_>,
    rest: Rest,
) -> Result<Move> {
    let Rest { firing, unnamed } = rest;
    let unnamed_ended = concern.group.has_unnamed && !unnamed;
    // Repetitions are the bulk of what arrives, and need no look at the ticket.
    let may_move = concern.change.started + concern.change.ended > 0 || rises(concern) || unnamed_ended;
    let ticket = match concern.group.incident {
        Some(id) if may_move => Some(store::tickets::lock(tx, id).await?),
        _ => None,
    };
    let state = GroupState {
        incident: ticket.as_ref().map(|ticket| ticket.status),
        resolved_at: ticket.as_ref().and_then(|ticket| ticket.resolved_at),
        graded: concern.graded,
        firing,
        unnamed,
        was_unnamed: concern.group.has_unnamed,
    };
    let reopen_within = TimeDelta::seconds(source.reopen_within_seconds.into());
    let judged = judge_group(&state, &concern.change, source.auto_resolve, reopen_within, tx.now());
    let started: Vec<&Signal> = concern.started.iter().map(|(_, signal)| *signal).collect();
    let (outcome, incident) = match (judged, ticket) {
        (Open, _) => {
            let new = new_incident(source, payload.notification, concern, &started);
            return Ok(Move::Open(Box::new(NewTicket { trace: payload.trace, ..new })));
        }
        (Reopen, Some(ticket)) => {
            tickets::reopen(tx, actor, ticket.id, Some("the alert fires again")).await?;
            raise(tx, actor, &ticket, concern.change.worst).await?;
            comment(tx, actor, &ticket, &group_comment(&started, &concern.ended, firing, unnamed, None))
                .await?;
            (Outcome::Reopened, Some(ticket.id))
        }
        (Join { raise: raised }, Some(ticket)) => {
            let raised = raise(tx, actor, &ticket, raised).await?;
            let text = group_comment(&started, &concern.ended, firing, unnamed, raised.as_deref());
            comment(tx, actor, &ticket, &text).await?;
            (Outcome::Joined, Some(ticket.id))
        }
        (Resolve, Some(ticket)) => {
            tickets::resolve(tx, actor, ticket.id, &note_of_resolution(&source.name, &concern.ended)).await?;
            (Outcome::Resolved, Some(ticket.id))
        }
        (NoteEnd, Some(ticket)) => {
            comment(tx, actor, &ticket, &group_comment(&[], &concern.ended, firing, unnamed, None)).await?;
            (Outcome::Noted, Some(ticket.id))
        }
        (_, _) => (unmoved(concern), concern.group.incident),
    };
    Ok(Move::Done(Ingested { outcome, incident }))
}

/// Whether what fires is worse than what fired before.
fn rises(concern: &Concern<'_>) -> bool {
    matches!((concern.graded, concern.change.worst), (Some(old), Some(new)) if old.worse(new) != old)
}

fn unmoved(concern: &Concern<'_>) -> Outcome {
    match concern.ignored {
        _ if concern.repeated || !concern.started.is_empty() || !concern.ended.is_empty() => {
            Outcome::Repeated
        }
        Some(why) => Outcome::Ignored(why),
        None => Outcome::Repeated,
    }
}

fn new_incident(
    source: &AlertSource,
    notification: &Notification,
    concern: &Concern<'_>,
    started: &[&Signal],
) -> NewTicket {
    let grading = concern.change.worst.unwrap_or_else(|| source.severity_map.grade(""));
    NewTicket {
        description: description(notification, started),
        impact: grading.impact,
        urgency: grading.urgency,
        team: source.team,
        ..NewTicket::incident(group_title(notification, started), Source::Alert)
    }
}

/// Raises impact and urgency, and never lowers them or the priority: what a person or an escalation has set higher stays.
/// Answers what it did, in words.
async fn raise(tx: &mut Tx, actor: &Actor, ticket: &Ticket, to: Option<Grading>) -> Result<Option<String>> {
    let Some(to) = to else { return Ok(None) };
    let now = Grading { impact: ticket.impact, urgency: ticket.urgency };
    let raised = now.worse(to);
    if raised == now {
        return Ok(None);
    }
    let patch = TicketPatch {
        impact: Some(raised.impact),
        urgency: Some(raised.urgency),
        priority_at_least: Some(ticket.priority),
        ..TicketPatch::default()
    };
    let after = tickets::update(tx, actor, ticket.id, patch).await?;
    Ok(Some(if after.priority == ticket.priority {
        format!("more severe now: the priority stays {}", after.priority)
    } else {
        format!("more severe now: priority raised from {} to {}", ticket.priority, after.priority)
    }))
}

async fn comment(tx: &mut Tx, actor: &Actor, ticket: &Ticket, text: &str) -> Result<()> {
    tickets::comment(tx, actor, ticket.id, NewComment::internal(text, Source::Alert)).await?;
    Ok(())
}
