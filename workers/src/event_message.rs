//! The words of a delivery about an event, from the event and its ticket.

use crate::Shared;
use chrono::{DateTime, Utc};
use serde_json::Value;
use store::Tx;
use store::channels::Channel;
use store::deliveries::Delivery;
use store::events::Event;
use templates::event::{ChatTest, TicketEvent};

/// More than this of a text is not sent; the ticket has the whole.
const LONGEST_TEXT: usize = 10_000;

pub async fn of(tx: &mut Tx, shared: &Shared, delivery: &Delivery) -> anyhow::Result<TicketEvent> {
    let id = delivery.ticket.ok_or_else(|| anyhow::anyhow!("a message about no ticket"))?;
    let facts = store::ticket_facts::of(tx, id).await?;
    // It may have become so since the message was queued.
    if facts.ticket.is_confidential && delivery.channel_id.is_some() {
        anyhow::bail!("the ticket is confidential: nothing of it goes to channels");
    }
    let event = match delivery.event {
        Some(event) => Some(store::events::get(tx, event).await?),
        None => None,
    };
    let actor = match event.as_ref().and_then(|event| event.actor) {
        Some(user) => store::ticket_facts::name_of(tx, user).await?,
        None => None,
    };
    let payload = event.as_ref().map(|event: &Event| &event.payload).unwrap_or(&Value::Null);
    let text = match delivery.message_kind.rsplit('.').next() {
        Some("opened") => Some(facts.ticket.description.as_str()),
        Some("resolved") => facts.ticket.resolution.as_deref().or(payload["resolution"].as_str()),
        // What staff write among themselves stays in the ticket: who reads a channel is not known here.
        Some("commented") if payload["comment"]["visibility"] == "public" => {
            payload["comment"]["body"].as_str()
        }
        _ => payload["reason"].as_str(),
    };
    let words = |word: &str| word.replace('_', " ");
    let then = |field: &str, now: &str| words(payload[field].as_str().unwrap_or(now));
    Ok(TicketEvent {
        event: delivery.message_kind.clone(),
        url: format!("{}/?ticket={}", shared.settings.base_url, facts.ticket.number),
        status: then("status", facts.ticket.status.as_str()),
        priority: then("priority", facts.ticket.priority.as_str()),
        requester: facts.requester.map(|person| person.name),
        assignee: facts.assignee.map(|person| person.name),
        team: facts.team,
        actor,
        text: text
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(|text| text.chars().take(LONGEST_TEXT).collect()),
        sla_metric: payload["metric"].as_str().map(|metric| first_upper(&words(metric))),
        sla_due: payload["due_at"].as_str().and_then(readable),
        number: facts.ticket.number,
        title: facts.ticket.title,
    })
}

pub async fn test(tx: &mut Tx, channel: &Channel) -> anyhow::Result<ChatTest> {
    let organization = store::channels::organization_name(tx).await?;
    Ok(ChatTest { channel: channel.name.clone(), organization })
}

fn first_upper(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| first.to_uppercase().chain(chars).collect())
}

fn readable(time: &str) -> Option<String> {
    let time: DateTime<Utc> = time.parse().ok()?;
    Some(time.format("%Y-%m-%d %H:%M:%S UTC").to_string())
}
