//! Asking for messages to be sent: a row in the ledger and its job, in the caller's transaction.

use crate::jobs::{NotifyChannel, SendMail};
use crate::{Error, Result};
use domain::permission::{self, Permission};
use domain::{
    Actor, ChannelConfig, ChannelId, ChannelKind, DeliveryId, EmailAddress, EventId, OrganizationId, RuleId,
    TicketId,
};
use queue::trace::TraceContext;
use queue::{JobId, NewJob, Unique};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use store::Tx;
use store::channels::Channel;
use store::deliveries::{Delivery, Mail, NewDelivery, Status};

/// One mail to one recipient.
#[derive(Clone, Debug, Default)]
pub struct NewMail {
    /// What this mail is about and for whom, for example `event:<id>:mail:<address>`: asked for twice, sent once.
    pub key: String,
    /// One e-mail address.
    pub to: String,
    /// Which template: the kind of an event, or `report`. Also shown in the ledger.
    pub message_kind: String,
    pub event: Option<EventId>,
    pub ticket: Option<TicketId>,
    pub channel: Option<ChannelId>,
    pub rule: Option<RuleId>,
    /// With angle brackets; `None`: made at the first attempt, random, with the sender's domain.
    pub message_id: Option<String>,
    /// Part of the conversation with the requester. Otherwise it is talk among staff, and so is an answer to it.
    pub is_public: bool,
    /// Sender, threading, words. Without words the mail is rendered from the event when it is sent.
    pub mail: Mail,
}

/// One message to one channel.
#[derive(Clone, Debug)]
pub struct NewChannelMessage {
    /// As [`NewMail::key`], for example `event:<id>:rule:<id>`.
    pub key: String,
    pub channel: ChannelId,
    pub rule: Option<RuleId>,
    /// Which template: the kind of an event, or `test`.
    pub message_kind: String,
    pub event: Option<EventId>,
    pub ticket: Option<TicketId>,
    /// The trace it belongs to; `None`: that of the running task.
    pub trace: Option<TraceContext>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queued {
    pub delivery: DeliveryId,
    /// `None`: the same message was asked for before.
    pub job: Option<JobId>,
}

pub async fn queue_mail(tx: &mut Tx, organization: OrganizationId, mail: NewMail) -> Result<Queued> {
    let to = EmailAddress::parse(&mail.to).map_err(|error| Error::invalid("/to", error.to_string()))?;
    let delivery = NewDelivery {
        id: DeliveryId::new(),
        unique_key: mail.key,
        channel: ChannelKind::Email,
        channel_id: mail.channel,
        rule: mail.rule,
        event: mail.event,
        ticket: mail.ticket,
        message_kind: mail.message_kind,
        recipient: to.into(),
        mail: Some(mail.mail),
        message_id: mail.message_id,
        is_internal: !mail.is_public,
        job: JobId::new().0,
    };
    queue(tx, organization, vec![(delivery, None)]).await?.pop().ok_or(Error::NotFound)
}

/// To each recipient of the channel: one for chat, one per address for mail. A channel that is switched off gets nothing.
pub async fn queue_channel(
    tx: &mut Tx,
    organization: OrganizationId,
    message: NewChannelMessage,
) -> Result<Vec<Queued>> {
    queue_channels(tx, organization, vec![message]).await
}

/// Several messages; each channel is looked up once.
pub async fn queue_channels(
    tx: &mut Tx,
    organization: OrganizationId,
    messages: Vec<NewChannelMessage>,
) -> Result<Vec<Queued>> {
    let mut channels: HashMap<ChannelId, Channel> = HashMap::new();
    let mut deliveries = Vec::with_capacity(messages.len());
    for message in messages {
        let channel = match channels.entry(message.channel) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(store::channels::get(tx, message.channel).await?),
        };
        if channel.is_active {
            let trace = message.trace;
            deliveries.extend(to_recipients(message, channel).map(|delivery| (delivery, trace)));
        }
    }
    queue(tx, organization, deliveries).await
}

fn to_recipients(message: NewChannelMessage, channel: &Channel) -> impl Iterator<Item = NewDelivery> {
    let kind = channel.kind();
    let recipients: Vec<(String, String)> = match &channel.config {
        ChannelConfig::Email { to } => {
            to.iter().map(|address| (format!("{}:{address}", message.key), address.clone())).collect()
        }
        _ => vec![(message.key.clone(), channel.name.clone())],
    };
    let channel = channel.id;
    recipients.into_iter().map(move |(unique_key, recipient)| {
        let auto = Mail { auto_submitted: Some("auto-generated".into()), ..Mail::default() };
        NewDelivery {
            id: DeliveryId::new(),
            unique_key,
            channel: kind,
            channel_id: Some(channel),
            rule: message.rule,
            event: message.event,
            ticket: message.ticket,
            message_kind: message.message_kind.clone(),
            recipient,
            mail: (kind == ChannelKind::Email).then_some(auto),
            message_id: None,
            is_internal: true,
            job: JobId::new().0,
        }
    })
}

/// Tries a delivery again that was given up.
pub async fn retry(tx: &mut Tx, actor: &Actor, id: DeliveryId) -> Result<JobId> {
    permission::check(actor, Permission::NotificationsManage)?;
    let delivery = store::deliveries::lock(tx, id).await?;
    if !store::deliveries::reopen(tx, id).await? {
        return Err(Error::conflict(format!(
            "only a delivery that was given up can be tried again: this one is {}",
            delivery.status.as_str()
        )));
    }
    enqueue(tx, actor.organization, &delivery).await
}

/// A delivery whose job was lost that often takes its job down with it.
const MOST_RESCUES: i32 = 5;

/// Asks again for a delivery whose job got lost, or gives it up. For the sweep.
pub async fn rescue(tx: &mut Tx, organization: OrganizationId, id: DeliveryId) -> Result<()> {
    let delivery = store::deliveries::lock(tx, id).await?;
    if delivery.status != Status::Pending {
        return Ok(());
    }
    if delivery.rescues >= MOST_RESCUES {
        let last = delivery.last_error.map(|error| format!("; before: {error}")).unwrap_or_default();
        let why = format!("its job did not end, again and again: look at the dead jobs{last}");
        return Ok(store::deliveries::give_up(tx, id, &why).await?);
    }
    let job = enqueue(tx, organization, &delivery).await?;
    // A job that merely waits in a long line is still there.
    Ok(store::deliveries::touch(tx, id, delivery.job != Some(job.0)).await?)
}

/// The rows and their jobs, in a statement each.
async fn queue(
    tx: &mut Tx,
    organization: OrganizationId,
    asked: Vec<(NewDelivery, Option<TraceContext>)>,
) -> Result<Vec<Queued>> {
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let (deliveries, traces): (Vec<NewDelivery>, Vec<_>) = asked.into_iter().unzip();
    let new = store::deliveries::insert(tx, &deliveries).await?;
    let (mut queued, mut jobs) = (Vec::with_capacity(deliveries.len()), Vec::with_capacity(new.len()));
    for (delivery, trace) in deliveries.iter().zip(traces) {
        if new.contains(&delivery.id) {
            let id = JobId(delivery.job);
            let trace_parent = trace.map(|trace| trace.to_string());
            jobs.push(NewJob {
                id: Some(id),
                trace_parent,
                ..job(organization, delivery.id, delivery.channel, delivery.channel_id)
            });
            queued.push(Queued { delivery: delivery.id, job: Some(id) });
        } else {
            let id = store::deliveries::id_of_key(tx, &delivery.unique_key).await?.ok_or(Error::NotFound)?;
            queued.push(Queued { delivery: id, job: None });
        }
    }
    crate::enqueue(tx, &jobs).await?;
    Ok(queued)
}

fn job(
    organization: OrganizationId,
    delivery: DeliveryId,
    kind: ChannelKind,
    channel: Option<ChannelId>,
) -> NewJob {
    let job = match (kind, channel) {
        (ChannelKind::Email, _) => NewJob::of(&SendMail { delivery }),
        (_, Some(channel)) => NewJob::of(&NotifyChannel { delivery }).limit_key(channel.to_string()),
        (_, None) => NewJob::of(&NotifyChannel { delivery }),
    };
    job.organization(organization).unique(format!("delivery:{delivery}"), Unique::WhileUnfinished)
}

/// A further job for a delivery, unless one is there.
pub(crate) async fn enqueue(tx: &mut Tx, organization: OrganizationId, delivery: &Delivery) -> Result<JobId> {
    let job = job(organization, delivery.id, delivery.channel, delivery.channel_id);
    let ids = crate::enqueue(tx, &[job]).await?;
    let id = *ids.first().ok_or(Error::NotFound)?;
    store::deliveries::set_job(tx, delivery.id, id.0).await?;
    Ok(id)
}
