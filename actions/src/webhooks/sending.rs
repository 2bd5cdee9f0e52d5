//! Asking for deliveries: of events that happened just now, once more, and of a time that is past.

use super::listener;
use crate::hearing::{self, Heard};
use crate::jobs::{DeliverWebhook, ReplayWebhook};
use crate::{Error, Result, events};
use chrono::{DateTime, TimeDelta, Utc};
use domain::permission::{self, Permission};
use domain::{Actor, EventId, TicketId, WebhookDeliveryId, WebhookId, WebhookStatus};
use queue::trace::TraceContext;
use queue::{JobId, NewJob, Unique};
use serde_json::json;
use std::collections::HashMap;
use store::Tx;
use store::events::Event;
use store::webhook_deliveries::{self as deliveries, NewWebhookDelivery, WebhookDelivery};
use store::webhooks::Webhook;

/// The type of a message that nothing has happened for.
pub const TEST: &str = "webhook.test";
/// Events of one transaction of a replay.
const PIECE: i64 = 200;
/// A delivery whose job was lost that often takes its job down with it.
const MOST_RESCUES: i32 = 5;

/// What is told to whom of these events, which have just happened.
pub async fn tell(
    tx: &mut Tx,
    happened: &[Event],
    trace_of: impl Fn(EventId) -> Option<TraceContext>,
) -> Result<()> {
    let webhooks = store::webhooks::listening(tx).await?;
    let mut new = Vec::new();
    for webhook in &webhooks {
        let wanted = heard_by(tx, webhook, happened).await?;
        new.extend(wanted.into_iter().map(|event| (delivery(webhook.id, event), trace_of(event.id))));
    }
    insert(tx, new).await?;
    Ok(())
}

/// Those of the events that it wants and may hear of.
async fn heard_by<'a>(tx: &mut Tx, webhook: &Webhook, events: &'a [Event]) -> Result<Vec<&'a Event>> {
    let wants = |event: &&Event| webhook.event_types.iter().any(|pattern| pattern.matches(&event.kind));
    let wanted: Vec<&Event> = events.iter().filter(wants).collect();
    if wanted.is_empty() {
        return Ok(wanted);
    }
    let Some(actor) = listener(tx, webhook).await? else { return Ok(Vec::new()) };
    let mut heard = Vec::with_capacity(wanted.len());
    for event in wanted {
        if hearing::of(tx, &actor, event).await? != Heard::Nothing {
            heard.push(event);
        }
    }
    Ok(heard)
}

fn delivery(webhook: WebhookId, event: &Event) -> NewWebhookDelivery {
    NewWebhookDelivery {
        id: WebhookDeliveryId::new(),
        webhook,
        event: Some(event.id),
        event_type: event.kind.clone(),
        ticket: event.ticket,
        job: JobId::new().0,
        replayed_at: None,
    }
}

/// The rows and their jobs, in a statement each. Answers how many are new.
async fn insert(tx: &mut Tx, asked: Vec<(NewWebhookDelivery, Option<TraceContext>)>) -> Result<usize> {
    if asked.is_empty() {
        return Ok(0);
    }
    let (rows, traces): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    let new = deliveries::insert(tx, &rows).await?;
    let organization = tx.organization();
    let jobs: Vec<NewJob> = rows
        .iter()
        .zip(traces)
        .filter(|(row, _)| new.contains(&row.id))
        .map(|(row, trace)| NewJob {
            id: Some(JobId(row.job)),
            trace_parent: trace.map(|trace| trace.to_string()),
            ..job(row.id, row.webhook).organization(organization)
        })
        .collect();
    crate::enqueue(tx, &jobs).await?;
    Ok(new.len())
}

fn job(delivery: WebhookDeliveryId, webhook: WebhookId) -> NewJob {
    NewJob::of(&DeliverWebhook { delivery })
        .limit_key(webhook.to_string())
        .unique(format!("webhook_delivery:{delivery}"), Unique::WhileUnfinished)
}

/// A message that says nothing but that it arrived. It is tried once.
pub async fn test(tx: &mut Tx, actor: &Actor, id: WebhookId) -> Result<(WebhookDeliveryId, JobId)> {
    permission::check(actor, Permission::WebhooksManage)?;
    let webhook = store::webhooks::lock(tx, id).await?;
    if !webhook.is_active {
        return Err(Error::conflict("the webhook is switched off: set is_active first"));
    }
    let (delivery, job) = (WebhookDeliveryId::new(), JobId::new());
    let row = NewWebhookDelivery {
        id: delivery,
        webhook: id,
        event: None,
        event_type: TEST.to_owned(),
        ticket: None,
        job: job.0,
        replayed_at: None,
    };
    insert(tx, vec![(row, queue::trace::current())]).await?;
    Ok((delivery, job))
}

/// One delivery once more, whatever came of it before. Not while it waits for an attempt anyway.
pub async fn replay(tx: &mut Tx, actor: &Actor, id: WebhookDeliveryId) -> Result<JobId> {
    permission::check(actor, Permission::WebhooksManage)?;
    let delivery = deliveries::lock(tx, id).await?;
    seen(tx, actor, delivery.ticket).await?;
    if delivery.status == WebhookStatus::Pending {
        return Err(Error::conflict("it waits for its next attempt anyway"));
    }
    if !store::webhooks::get(tx, delivery.webhook).await?.is_active {
        return Err(Error::conflict("its webhook is switched off: set is_active first"));
    }
    let now = tx.now();
    let job = reopen(tx, &delivery, now, true).await?;
    let job = job.ok_or_else(|| Error::conflict("somebody else has just asked for it"))?;
    let payload = json!({"webhook": delivery.webhook, "delivery": id, "deliveries": 1});
    events::record(tx, actor, "webhook.replayed", None, payload).await?;
    Ok(job)
}

async fn seen(tx: &mut Tx, actor: &Actor, ticket: Option<TicketId>) -> Result<()> {
    if let Some(ticket) = ticket {
        crate::tickets::see(tx, actor, ticket).await?;
    }
    Ok(())
}

async fn reopen(
    tx: &mut Tx,
    delivery: &WebhookDelivery,
    asked_at: DateTime<Utc>,
    even_delivered: bool,
) -> Result<Option<JobId>> {
    // Not the job that has ended, should its end not be written yet.
    let id = JobId::new();
    if !deliveries::reopen(tx, delivery.id, id.0, asked_at, even_delivered).await? {
        return Ok(None);
    }
    let organization = tx.organization();
    let job = NewJob { id: Some(id), ..job(delivery.id, delivery.webhook).organization(organization) };
    let ids = crate::enqueue(tx, &[job]).await?;
    let got = ids.first().copied().unwrap_or(id);
    if got != id {
        deliveries::rescue(tx, delivery.id, got.0).await?;
    }
    Ok(Some(got))
}

/// What happened in a time, once more: what failed, and what was never told because the webhook was off or wanted other types then. A job
/// does it, a piece at a time.
pub async fn replay_time(
    tx: &mut Tx,
    actor: &Actor,
    id: WebhookId,
    since: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
    even_delivered: bool,
) -> Result<JobId> {
    permission::check(actor, Permission::WebhooksManage)?;
    let webhook = store::webhooks::lock(tx, id).await?;
    if !webhook.is_active {
        return Err(Error::conflict("the webhook is switched off: set is_active first"));
    }
    let now = tx.now();
    let until = until.unwrap_or(now).min(now);
    if since >= until {
        return Err(Error::invalid("/since", "must be before until, and in the past"));
    }
    let asked =
        ReplayWebhook { webhook: id, since, until, asked_at: now, even_delivered, after: None, replayed: 0 };
    let jobs = crate::enqueue(tx, &[NewJob::of(&asked).organization(actor.organization)]).await?;
    let payload = json!({"webhook": id, "since": since, "until": until, "even_delivered": even_delivered});
    events::record(tx, actor, "webhook.replayed", None, payload).await?;
    jobs.first().copied().ok_or(Error::NotFound)
}

/// The next piece of a replay. What it makes or opens again bears the time of the wish, so a piece that comes twice is replayed once. Answers what is left of it, if there is more.
pub async fn replay_some(tx: &mut Tx, asked: &ReplayWebhook) -> Result<(usize, Option<ReplayWebhook>)> {
    let webhook = match store::webhooks::get(tx, asked.webhook).await {
        Ok(webhook) if webhook.is_active => webhook,
        Ok(_) | Err(store::Error::NotFound) => return Ok((0, None)),
        Err(error) => return Err(error.into()),
    };
    let after = asked.after.unwrap_or((asked.since - TimeDelta::seconds(1), i64::MAX));
    let events = store::events::within(tx, (asked.since, asked.until), after, PIECE).await?;
    let heard = heard_by(tx, &webhook, &events).await?;
    let ids: Vec<EventId> = heard.iter().map(|event| event.id).collect();
    let there: HashMap<EventId, WebhookDeliveryId> =
        deliveries::of_events(tx, webhook.id, &ids).await?.into_iter().collect();
    let mut replayed = 0;
    let mut new = Vec::new();
    for event in heard {
        match there.get(&event.id) {
            Some(id) => {
                let delivery = deliveries::lock(tx, *id).await?;
                let job = reopen(tx, &delivery, asked.asked_at, asked.even_delivered).await?;
                replayed += usize::from(job.is_some());
            }
            None => {
                let asked_at = Some(asked.asked_at);
                new.push((NewWebhookDelivery { replayed_at: asked_at, ..delivery(webhook.id, event) }, None));
            }
        }
    }
    replayed += insert(tx, new).await?;
    let rest = events.last().filter(|_| events.len() == PIECE as usize).map(|last| ReplayWebhook {
        after: Some((last.created_at, last.seq)),
        replayed: asked.replayed + replayed as u64,
        ..asked.clone()
    });
    Ok((replayed, rest))
}

/// Asks again for a delivery whose job got lost, or gives it up. For the sweep. `false`: nothing was lost.
pub async fn rescue(tx: &mut Tx, id: WebhookDeliveryId) -> Result<bool> {
    let delivery = deliveries::lock(tx, id).await?;
    if delivery.status != WebhookStatus::Pending {
        return Ok(false);
    }
    if delivery.rescues >= MOST_RESCUES {
        deliveries::give_up(tx, id, "its job did not end, again and again").await?;
        return Ok(true);
    }
    let organization = tx.organization();
    let ids = crate::enqueue(tx, &[job(id, delivery.webhook).organization(organization)]).await?;
    let job = ids.first().ok_or(Error::NotFound)?;
    deliveries::rescue(tx, id, job.0).await?;
    Ok(delivery.job != Some(job.0))
}
