//! Outgoing webhooks: made, changed, switched off, their secrets.
//!
//! A webhook hears what its owner may see. Its owner is who said last where it goes or what it is told: so nobody who may change one hears more
//! by it than they could anyway.

mod sending;

pub use sending::{replay, replay_some, replay_time, rescue, tell, test};

use crate::{Error, FieldError, Result, api_tokens, events};
use chrono::{DateTime, TimeDelta, Utc};
use domain::permission::{self, Permission};
use domain::{Actor, ApiTokenId, EventPattern, UserId, WebhookId, WebhookOff};
use queue::KeyRing;
use secrecy::SecretString;
use serde_json::json;
use store::Tx;
use store::webhooks::{NewWebhook as Row, Sealed, Webhook};
use url::Url;
use uuid::Uuid;

/// What a secret begins with; the rest is the key in base64.
pub const PREFIX: &str = "whsec_";
/// What secrets are sealed as.
const SEALED_AS: &str = "webhook";
const SECRET_BYTES: usize = 32;
const LONGEST_URL: usize = 2000;
const LONGEST_DESCRIPTION: usize = 500;
/// Each event is held against all of them.
const MOST: i64 = 100;
/// How long a secret signs beside the one that replaces it, at most.
pub const LONGEST_OVERLAP: TimeDelta = TimeDelta::days(7);

#[derive(Clone, Debug)]
pub struct NewWebhook {
    pub url: String,
    pub description: String,
    pub event_types: Vec<String>,
    pub is_active: bool,
}

/// Only what is there changes.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    pub url: Option<String>,
    pub description: Option<String>,
    pub event_types: Option<Vec<String>>,
    pub is_active: Option<bool>,
}

/// `made_with`: the API token with which it is asked for, if it was one. The secret is in the answer and nowhere else.
pub async fn create(
    tx: &mut Tx,
    actor: &Actor,
    ring: &KeyRing,
    made_with: Option<ApiTokenId>,
    new: &NewWebhook,
) -> Result<(Webhook, SecretString)> {
    permission::check(actor, Permission::WebhooksManage)?;
    let (url, description) = (checked_url(&new.url)?, checked_description(&new.description)?);
    let event_types = checked_types(&new.event_types)?;
    let owner = Owner::of(tx, actor, made_with).await?;
    if store::webhooks::count(tx).await? >= MOST {
        return Err(Error::conflict(format!("there are {MOST} webhooks already: delete one first")));
    }
    let (secret, sealed) = new_secret(ring)?;
    let row = Row {
        url: &url,
        description: &description,
        event_types: &event_types,
        is_active: new.is_active,
        owner: owner.user,
        scopes: owner.scopes.as_deref(),
        expires_at: owner.expires_at,
        secret: &sealed,
    };
    let id = store::webhooks::insert(tx, &row).await?;
    events::record(tx, actor, "webhook.created", None, json!({"webhook": id})).await?;
    Ok((store::webhooks::get(tx, id).await?, secret))
}

/// `version`: what `If-Match` said, if it was there.
pub async fn update(
    tx: &mut Tx,
    actor: &Actor,
    made_with: Option<ApiTokenId>,
    id: WebhookId,
    version: Option<i64>,
    change: WebhookChange,
) -> Result<Webhook> {
    permission::check(actor, Permission::WebhooksManage)?;
    // People before webhooks, as their deletion locks them.
    let owner = match (&change.url, &change.event_types) {
        (None, None) => None,
        _ => Some(Owner::of(tx, actor, made_with).await?),
    };
    let mut webhook = store::webhooks::lock(tx, id).await?;
    if version.is_some_and(|version| version != webhook.version) {
        return Err(Error::Stale);
    }
    if let Some(description) = &change.description {
        webhook.description = checked_description(description)?;
    }
    if let Some(url) = &change.url {
        webhook.url = checked_url(url)?;
    }
    if let Some(types) = &change.event_types {
        webhook.event_types = checked_types(types)?;
    }
    if let Some(owner) = owner {
        (webhook.owner, webhook.scopes, webhook.expires_at) = (owner.user, owner.scopes, owner.expires_at);
    }
    match change.is_active {
        Some(true) if !webhook.is_active => {
            if !store::removals::has_user(tx, webhook.owner).await? {
                return Err(Error::conflict(
                    "its owner is deleted: say its url or event_types too, and it is yours",
                ));
            }
            (webhook.is_active, webhook.disabled) = (true, None);
            (webhook.failures, webhook.failing_since) = (0, None);
        }
        Some(false) if webhook.is_active => {
            (webhook.is_active, webhook.disabled) = (false, Some((tx.now(), WebhookOff::ByHand)));
        }
        _ => {}
    }
    store::webhooks::update(tx, &webhook).await?;
    let payload = json!({"webhook": id, "is_active": webhook.is_active});
    events::record(tx, actor, "webhook.updated", None, payload).await?;
    Ok(store::webhooks::get(tx, id).await?)
}

/// With the log of its deliveries.
pub async fn delete(tx: &mut Tx, actor: &Actor, id: WebhookId) -> Result<()> {
    permission::check(actor, Permission::WebhooksManage)?;
    store::webhooks::delete(tx, id).await?;
    events::record(tx, actor, "webhook.deleted", None, json!({"webhook": id})).await?;
    Ok(())
}

/// A new secret, which is in the answer and nowhere else. For `overlap` messages are signed with the one before as well.
pub async fn rotate_secret(
    tx: &mut Tx,
    actor: &Actor,
    ring: &KeyRing,
    id: WebhookId,
    overlap: TimeDelta,
) -> Result<(Webhook, SecretString)> {
    permission::check(actor, Permission::WebhooksManage)?;
    if overlap < TimeDelta::zero() || overlap > LONGEST_OVERLAP {
        let detail = format!("must be from 0 to {} (seven days)", LONGEST_OVERLAP.num_seconds());
        return Err(Error::invalid("/overlap_seconds", detail));
    }
    store::webhooks::lock(tx, id).await?;
    let (secret, sealed) = new_secret(ring)?;
    let until = (overlap > TimeDelta::zero()).then(|| tx.now() + overlap);
    store::webhooks::replace_secret(tx, id, &sealed, until).await?;
    events::record(tx, actor, "webhook.secret_rotated", None, json!({"webhook": id, "both_until": until}))
        .await?;
    Ok((store::webhooks::get(tx, id).await?, secret))
}

/// Relaydesk switches it off: its receiver or its owner is gone, or nothing came through for too long. `false`: it was off before.
pub async fn switch_off(tx: &mut Tx, actor: &Actor, id: WebhookId, why: WebhookOff) -> Result<bool> {
    let mut webhook = store::webhooks::lock(tx, id).await?;
    if !webhook.is_active {
        return Ok(false);
    }
    (webhook.is_active, webhook.disabled) = (false, Some((tx.now(), why)));
    store::webhooks::update(tx, &webhook).await?;
    let payload = json!({"webhook": id, "reason": why, "failing_since": webhook.failing_since, "failures": webhook.failures});
    events::record(tx, actor, "webhook.disabled", None, payload).await?;
    Ok(true)
}

/// Nobody is there any more for whom they could hear. Switched on again they are by hand alone.
pub(crate) async fn switch_off_of(tx: &mut Tx, actor: &Actor, owner: UserId) -> Result<()> {
    for id in store::webhooks::active_of(tx, owner).await? {
        switch_off(tx, actor, id, WebhookOff::OwnerDeleted).await?;
    }
    Ok(())
}

/// The secrets that sign at this moment, the newest first. What was sealed with an old key is sealed with the present one.
pub async fn secrets(
    tx: &mut Tx,
    ring: &KeyRing,
    webhook: &Webhook,
) -> std::result::Result<Vec<Vec<u8>>, String> {
    let open = |sealed: &Sealed| {
        ring.open_secret(&sealed.key_name, SEALED_AS, sealed.id, sealed.sealed.clone())
            .map_err(|error| format!("its secret cannot be opened: {error}"))
    };
    let present = open(&webhook.secret)?;
    if ring.names().next() != Some(&webhook.secret.key_name)
        && let Some((key_name, sealed)) = ring.seal_secret(SEALED_AS, webhook.secret.id, &present)
    {
        let sealed = Sealed { id: webhook.secret.id, key_name, sealed };
        store::webhooks::reseal(tx, webhook.id, &sealed).await.map_err(|error| error.to_string())?;
    }
    let mut all = vec![present];
    if let Some((previous, until)) = &webhook.previous
        && *until > tx.now()
    {
        all.push(open(previous)?);
    }
    Ok(all)
}

/// Whom it speaks for at this moment, with what their token allowed them; `None`: they may not enter any more, may not follow events (with
/// that token), or the token has expired.
pub async fn listener(tx: &mut Tx, webhook: &Webhook) -> Result<Option<Actor>> {
    if webhook.expires_at.is_some_and(|at| at <= tx.now()) {
        return Ok(None);
    }
    let person = store::rights::of(tx, webhook.owner).await?;
    let person = person.filter(|person| person.may_enter && person.suspended_for.is_none());
    let limits = api_tokens::limits(webhook.scopes.as_deref());
    let actor = person
        .map(|person| Actor::user(tx.organization(), person.id, person.name, person.rights.limited(limits)));
    Ok(actor.filter(|actor| permission::check(actor, Permission::EventsFollow).is_ok()))
}

/// Who answers for it, and for how much of what they may.
struct Owner {
    user: UserId,
    scopes: Option<Vec<String>>,
    expires_at: Option<DateTime<Utc>>,
}

impl Owner {
    /// Who may follow events. What is made with a token that has scopes or expires has no more and does not outlive it.
    async fn of(tx: &mut Tx, actor: &Actor, made_with: Option<ApiTokenId>) -> Result<Owner> {
        permission::check(actor, Permission::EventsFollow)?;
        let user = actor.user_id().ok_or_else(|| Error::forbidden("a webhook belongs to a person"))?;
        if !store::removals::has_user(tx, user).await? {
            return Err(Error::forbidden("you are deleted"));
        }
        let is_limited = actor.rights().is_some_and(|rights| rights.limits.is_some());
        let own = |permission: &&Permission| {
            actor.rights().is_none_or(|rights| !rights.is_beyond_limits(**permission))
        };
        let words = || Permission::ALL.iter().filter(own).map(|permission| permission.as_str().to_owned());
        let expires_at = match made_with {
            Some(token) => store::api_tokens::get(tx, token).await?.expires_at,
            None => None,
        };
        Ok(Owner { user, scopes: is_limited.then(|| words().collect()), expires_at })
    }
}

fn new_secret(ring: &KeyRing) -> Result<(SecretString, Sealed)> {
    use base64::Engine;
    let (key, id): ([u8; SECRET_BYTES], _) = (rand::random(), Uuid::now_v7());
    let (key_name, sealed) = ring.seal_secret(SEALED_AS, id, &key).ok_or_else(crate::mfa::no_keys)?;
    let text = format!("{PREFIX}{}", base64::engine::general_purpose::STANDARD.encode(key));
    Ok((text.into(), Sealed { id, key_name, sealed }))
}

fn checked_description(text: &str) -> Result<String> {
    Ok(crate::check::optional_text("/description", Some(text), LONGEST_DESCRIPTION)?.unwrap_or_default())
}

/// Where it leads is looked at when something is sent: names change their addresses.
fn checked_url(text: &str) -> Result<String> {
    let wrong = |detail: &str| Error::invalid("/url", detail);
    let text = text.trim();
    if text.len() > LONGEST_URL {
        return Err(wrong("must be at most 2000 bytes long"));
    }
    let url = Url::parse(text)
        .map_err(|_| wrong("must be an address such as https://hooks.example.com/relaydesk"))?;
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err(wrong("must begin with https:// (or http:// inside of one's own network)"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("must not hold a user or a password: signatures show who sends"));
    }
    if url.fragment().is_some() {
        return Err(wrong("must not have a fragment (#…)"));
    }
    let url = String::from(url);
    if url.len() > LONGEST_URL { Err(wrong("must be at most 2000 bytes long")) } else { Ok(url) }
}

fn checked_types(words: &[String]) -> Result<Vec<EventPattern>> {
    if words.is_empty() || words.len() > 100 {
        return Err(Error::invalid("/event_types", "must be 1 to 100 types, NOUN.* or *"));
    }
    let (mut patterns, mut wrong) = (Vec::new(), Vec::new());
    for (n, word) in words.iter().enumerate() {
        match word.parse::<EventPattern>() {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => {
                wrong.push(FieldError { pointer: format!("/event_types/{n}"), detail: error.to_string() })
            }
        }
    }
    if !wrong.is_empty() {
        return Err(Error::Invalid(wrong));
    }
    patterns.sort();
    patterns.dedup();
    Ok(patterns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn addresses_are_plain() {
        assert_eq!(
            checked_url(" https://Hooks.example.com/a?b=c ").unwrap(),
            "https://hooks.example.com/a?b=c"
        );
        let long = format!("https://x.example/{}", "a".repeat(LONGEST_URL));
        for wrong in [
            "",
            "hooks.example.com",
            "ftp://x.example",
            "file:///etc/passwd",
            "https://u:p@x.example",
            "https://x.example/#a",
            "https://",
            &long,
        ] {
            assert!(checked_url(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn types_are_known_and_each_once() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let patterns = checked_types(&words(&["incident.*", "sla.breached", "incident.*"])).unwrap();
        assert_eq!(patterns.len(), 2);
        assert!(checked_types(&[]).is_err());
        let Err(Error::Invalid(wrong)) = checked_types(&words(&["incident.*", "incident.melted"])) else {
            panic!("there is no such type")
        };
        assert_eq!(wrong[0].pointer, "/event_types/1");
    }

    #[test]
    fn a_secret_is_that_of_the_specification() {
        let ring: KeyRing = "test:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".parse().unwrap();
        let (secret, sealed) = new_secret(&ring).unwrap();
        let text = secret.expose_secret();
        assert_eq!(text.len(), PREFIX.len() + 44);
        assert!(!sealed.sealed.windows(8).any(|window| text.as_bytes().windows(8).any(|w| w == window)));
        assert!(new_secret(&KeyRing::default()).is_err(), "without keys nothing is kept");
    }
}
