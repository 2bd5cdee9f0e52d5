//! The organization's notification rules: an event that matches one is told to its channel.

use actions::deliveries::{NewChannelMessage, queue_channels};
use domain::{EventId, Facts, TicketId};
use queue::trace::TraceContext;
use serde_json::Value;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use store::Tx;
use store::events::Event;
use store::rules::Rule;
use store::ticket_facts::{self, Person, TicketFacts};

/// All events together: rules, tickets and channels are read once, messages written in one go.
pub async fn apply(
    tx: &mut Tx,
    events: &[Event],
    trace_of: impl Fn(EventId) -> Option<TraceContext>,
) -> anyhow::Result<()> {
    let mut rules: HashMap<&str, Vec<Rule>> = HashMap::new();
    for event in events {
        if let Entry::Vacant(new) = rules.entry(event.kind.as_str()) {
            new.insert(store::rules::for_event(tx, &event.kind).await?);
        }
    }
    // Who reads a channel is not known here: nothing of a confidential ticket goes to one.
    let ruled =
        || events.iter().filter(|event| !event.is_confidential && !rules[event.kind.as_str()].is_empty());
    let mut tickets: Vec<TicketId> = ruled().filter_map(|event| event.ticket).collect();
    tickets.sort();
    tickets.dedup();
    let tickets =
        if tickets.is_empty() { HashMap::new() } else { ticket_facts::of_all(tx, &tickets).await? };
    let mut messages = Vec::new();
    for event in ruled() {
        let facts = facts(event.ticket.and_then(|id| tickets.get(&id)), &event.payload);
        let fit = rules[event.kind.as_str()].iter().filter(|rule| rule.conditions.matches(&facts));
        messages.extend(fit.map(|rule| NewChannelMessage {
            key: format!("event:{}:rule:{}", event.id, rule.id),
            channel: rule.channel,
            rule: Some(rule.id),
            message_kind: event.kind.clone(),
            event: Some(event.id),
            ticket: event.ticket,
            trace: trace_of(event.id),
        }));
    }
    let organization = tx.organization();
    queue_channels(tx, organization, messages).await?;
    Ok(())
}

/// What conditions can ask. Where the event remembers how things were, that counts, not how they are by now.
fn facts(ticket: Option<&TicketFacts>, payload: &Value) -> Facts {
    let mut facts = Facts::new();
    if let Some(TicketFacts { ticket, requester, assignee, team, tags }) = ticket {
        let person = |person: &Option<Person>| {
            person.as_ref().map_or(Vec::new(), |p| vec![p.id.to_string(), p.name.clone(), p.email.clone()])
        };
        let team_id = ticket.team.map(|id| id.to_string());
        facts.extend([
            ("kind", vec![ticket.kind.to_string()]),
            ("priority", vec![ticket.priority.to_string()]),
            ("impact", vec![ticket.impact.to_string()]),
            ("urgency", vec![ticket.urgency.to_string()]),
            ("status", vec![ticket.status.to_string()]),
            ("source", vec![ticket.source.to_string()]),
            ("requester", person(requester)),
            ("assignee", person(assignee)),
            ("team", team_id.into_iter().chain(team.clone()).collect()),
            ("tag", tags.clone()),
        ]);
    }
    for field in ["priority", "impact", "urgency", "status", "metric"] {
        if let Some(then) = payload[field].as_str() {
            facts.insert(field, vec![then.to_owned()]);
        }
    }
    if let Some(visibility) = payload["comment"]["visibility"].as_str() {
        facts.insert("visibility", vec![visibility.to_owned()]);
    }
    facts
}
