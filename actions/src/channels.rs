//! Notification channels: create, change, delete, try out.

use crate::deliveries::{NewChannelMessage, queue_channel};
use crate::{Error, FieldError, Result, check, events};
use domain::permission::{self, Permission};
use domain::{Actor, ChannelConfig, ChannelId, ChannelKind, InvalidField};
use queue::JobId;
use serde_json::{Value, json};
use store::Tx;
use store::channels::Channel;

#[derive(Clone, Debug)]
pub struct NewChannel {
    pub kind: ChannelKind,
    pub name: String,
    pub config: Value,
    pub is_active: bool,
}

/// Only what is there changes.
#[derive(Clone, Debug, Default)]
pub struct ChannelChange {
    pub name: Option<String>,
    /// The whole configuration; a masked secret stays what it is, unless another server is named.
    pub config: Option<Value>,
    pub is_active: Option<bool>,
}

pub async fn create(tx: &mut Tx, actor: &Actor, new: NewChannel) -> Result<Channel> {
    permission::check(actor, Permission::NotificationsManage)?;
    let name = check::name(&new.name)?;
    let config = ChannelConfig::parse(new.kind, &new.config).map_err(|errors| under("/config", errors))?;
    let id = ChannelId::new();
    store::channels::insert(tx, id, &name, &config, new.is_active).await.map_err(taken)?;
    events::record(tx, actor, "channel.created", None, json!({"channel": id, "name": name})).await?;
    Ok(store::channels::get(tx, id).await?)
}

/// `version`: what `If-Match` said, if it was there.
pub async fn update(
    tx: &mut Tx,
    actor: &Actor,
    id: ChannelId,
    version: Option<i64>,
    change: ChannelChange,
) -> Result<Channel> {
    permission::check(actor, Permission::NotificationsManage)?;
    let mut channel = store::channels::get(tx, id).await?;
    channel.version = version.unwrap_or(channel.version);
    if let Some(new) = change.name {
        channel.name = check::name(&new)?;
    }
    if let Some(new) = change.config {
        let new = channel.config.unmask(new);
        channel.config =
            ChannelConfig::parse(channel.kind(), &new).map_err(|errors| under("/config", errors))?;
        store::channel_gates::forget(tx, id).await?;
    }
    channel.is_active = change.is_active.unwrap_or(channel.is_active);
    store::channels::update(tx, &channel).await.map_err(taken)?;
    events::record(tx, actor, "channel.updated", None, json!({"channel": id, "name": channel.name})).await?;
    Ok(store::channels::get(tx, id).await?)
}

/// Refused while rules or escalation chains name it; what it was sent stays in the ledger.
pub async fn delete(tx: &mut Tx, actor: &Actor, id: ChannelId) -> Result<()> {
    permission::check(actor, Permission::NotificationsManage)?;
    let (chains, rules) = store::channels::lock_uses(tx, id).await?;
    let named =
        |what: &str, names: &[String]| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
    let uses: Vec<_> =
        [named("escalation chains", &chains), named("rules", &rules)].into_iter().flatten().collect();
    if !uses.is_empty() {
        return Err(Error::conflict(format!("in use: {}: change or delete them first", uses.join("; "))));
    }
    store::channels::delete(tx, id).await?;
    events::record(tx, actor, "channel.deleted", None, json!({"channel": id})).await?;
    Ok(())
}

/// Sends a real message now. Answers the job of the (first) delivery.
pub async fn test(tx: &mut Tx, actor: &Actor, id: ChannelId) -> Result<JobId> {
    permission::check(actor, Permission::NotificationsManage)?;
    let message = NewChannelMessage {
        key: format!("test:{}", domain::DeliveryId::new()),
        channel: id,
        rule: None,
        message_kind: "test".into(),
        event: None,
        ticket: None,
        trace: None,
    };
    let queued = queue_channel(tx, actor.organization, message).await?;
    let job = queued.iter().find_map(|queued| queued.job);
    job.ok_or_else(|| Error::conflict("the channel is switched off: set is_active first"))
}

/// Puts the errors of a part under its place in the request body.
pub(crate) fn under(prefix: &str, errors: Vec<InvalidField>) -> Error {
    let field = |error: InvalidField| FieldError {
        pointer: format!("{prefix}{}", error.pointer),
        detail: error.detail,
    };
    Error::Invalid(errors.into_iter().map(field).collect())
}

fn taken(error: store::Error) -> Error {
    match error.constraint() {
        Some("notification_channels_name_key") => {
            Error::conflict("there is a channel with that name already")
        }
        _ => error.into(),
    }
}
