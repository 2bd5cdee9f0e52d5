//! Notification channels: create, change, delete, try out.

use crate::deliveries::{NewChannelMessage, queue_channel};
use crate::{Error, FieldError, Result, check, events, seals};
use domain::permission::{self, Permission};
use domain::{Actor, ChannelConfig, ChannelId, ChannelKind, InvalidField};
use queue::{JobId, KeyRing};
use serde_json::{Value, json};
use store::channels::Channel;
use store::{Sealed, Tx};

/// What secrets are sealed as.
const SEALED_AS: &str = "notification channel";

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

pub async fn create(tx: &mut Tx, actor: &Actor, ring: &KeyRing, new: NewChannel) -> Result<Channel> {
    permission::check(actor, Permission::NotificationsManage)?;
    let name = check::name(&new.name)?;
    no_stand_in(&new.config)?;
    let config = ChannelConfig::parse(new.kind, &new.config).map_err(|errors| under("/config", errors))?;
    let id = ChannelId::new();
    let (config, sealed) = sealed(ring, id, config);
    store::channels::insert(tx, id, &name, &config, sealed.as_ref(), new.is_active).await.map_err(taken)?;
    events::record(tx, actor, "channel.created", None, json!({"channel": id, "name": name})).await?;
    Ok(store::channels::get(tx, id).await?)
}

/// `version`: what `If-Match` said, if it was there. A secret that lay in clear text is sealed with whatever is changed.
pub async fn update(
    tx: &mut Tx,
    actor: &Actor,
    ring: &KeyRing,
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
        no_stand_in(&new)?;
        let new = channel.config.unmask(new);
        let new = ChannelConfig::parse(channel.kind(), &new).map_err(|errors| under("/config", errors))?;
        // What stands for the sealed one came in by the mask.
        channel.sealed = channel.sealed.filter(|_| new.is_without_secret());
        channel.config = new;
        store::channel_gates::forget(tx, id).await?;
    }
    channel.is_active = change.is_active.unwrap_or(channel.is_active);
    if channel.sealed.is_none() {
        (channel.config, channel.sealed) = sealed(ring, id, channel.config);
    }
    store::channels::update(tx, &channel).await.map_err(taken)?;
    events::record(tx, actor, "channel.updated", None, json!({"channel": id, "name": channel.name})).await?;
    Ok(store::channels::get(tx, id).await?)
}

/// The words that stand for a sealed secret are no secret of anybody.
fn no_stand_in(config: &Value) -> Result<()> {
    let detail = "is what stands for a secret that is kept sealed: give the secret itself";
    match ChannelConfig::names_stand_in(config) {
        Some(field) => Err(Error::invalid(format!("/config/{field}"), detail)),
        None => Ok(()),
    }
}

/// As it is kept: with its secret sealed, if there are keys.
fn sealed(ring: &KeyRing, id: ChannelId, config: ChannelConfig) -> (ChannelConfig, Option<Sealed>) {
    match config.secret().and_then(|secret| seals::seal(ring, SEALED_AS, id.0, secret)) {
        Some(sealed) => (config.without_secret(), Some(sealed)),
        None => (config, None),
    }
}

/// The configuration with its secret, for sending. What was sealed with an old key is sealed with the present one.
pub async fn opened(
    tx: &mut Tx,
    ring: &KeyRing,
    channel: &Channel,
) -> store::Result<std::result::Result<ChannelConfig, String>> {
    let Some(kept) = &channel.sealed else { return Ok(Ok(channel.config.clone())) };
    let config = match seals::open(ring, SEALED_AS, channel.id.0, kept) {
        Ok(secret) => channel.config.clone().with_secret(secret),
        Err(why) => return Ok(Err(why)),
    };
    if seals::is_outdated(ring, kept) {
        reseal(tx, ring, channel, config.clone()).await?;
    }
    Ok(Ok(config))
}

/// Whether a key of the ring opens its secret; `Err`: why none does.
pub(crate) fn opens(ring: &KeyRing, channel: &Channel) -> std::result::Result<(), String> {
    channel.sealed.as_ref().map_or(Ok(()), |kept| seals::open(ring, SEALED_AS, channel.id.0, kept).map(drop))
}

async fn reseal(tx: &mut Tx, ring: &KeyRing, channel: &Channel, config: ChannelConfig) -> store::Result<()> {
    let (config, Some(sealed)) = sealed(ring, channel.id, config) else { return Ok(()) };
    store::channels::reseal(tx, channel, &config, &sealed).await
}

/// Seals the secret with the present key, whether it is sealed or not. `None`: the channel was deleted meanwhile.
pub(crate) async fn seal_now(
    tx: &mut Tx,
    ring: &KeyRing,
    id: ChannelId,
) -> Result<Option<std::result::Result<(), String>>> {
    let channel = match store::channels::lock(tx, id).await {
        Err(store::Error::NotFound) => return Ok(None),
        found => found?,
    };
    let opened = opened(tx, ring, &channel).await?;
    if let (Ok(config), None) = (&opened, &channel.sealed) {
        reseal(tx, ring, &channel, config.clone()).await?;
    }
    Ok(Some(opened.map(drop)))
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
