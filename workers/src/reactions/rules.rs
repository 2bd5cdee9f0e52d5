//! The organization's notification rules: an event that matches one is told to its channel.

use actions::deliveries::{NewChannelMessage, queue_channel};
use domain::Facts;
use serde_json::Value;
use store::Tx;
use store::events::Event;
use store::ticket_facts::{self, Person, TicketFacts};

pub async fn apply(tx: &mut Tx, event: &Event) -> anyhow::Result<()> {
    let rules = store::rules::for_event(tx, &event.kind).await?;
    if rules.is_empty() {
        return Ok(());
    }
    let ticket = match event.ticket {
        Some(id) => Some(ticket_facts::of(tx, id).await?),
        None => None,
    };
    let facts = facts(ticket.as_ref(), &event.payload);
    for rule in rules.into_iter().filter(|rule| rule.conditions.matches(&facts)) {
        let message = NewChannelMessage {
            key: format!("event:{}:rule:{}", event.id, rule.id),
            channel: rule.channel,
            rule: Some(rule.id),
            message_kind: event.kind.clone(),
            event: Some(event.id),
            ticket: event.ticket,
        };
        let organization = tx.organization();
        queue_channel(tx, organization, message).await?;
    }
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
