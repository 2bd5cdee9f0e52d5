//! Secrets that others gave an organization, to be shown to them again: tokens and addresses of chat channels, headers of inventories. They are
//! sealed with the keys of the installation, as those of webhooks and identity providers are; without keys they lie as they came.

use crate::{Result, channels, discovery};
use domain::OrganizationId;
use queue::KeyRing;
use store::{Db, Sealed, Tx};
use uuid::Uuid;

/// `id` is that of the row, so that what is copied to another row opens for nobody. `None`: there are no keys.
pub(crate) fn seal(ring: &KeyRing, what: &str, id: Uuid, clear: &str) -> Option<Sealed> {
    let (key_name, bytes) = ring.seal_secret(what, id, clear.as_bytes())?;
    Some(Sealed { key_name, bytes })
}

pub(crate) fn open(
    ring: &KeyRing,
    what: &str,
    id: Uuid,
    sealed: &Sealed,
) -> std::result::Result<String, String> {
    let opened = ring.open_secret(&sealed.key_name, what, id, sealed.bytes.clone());
    let clear = opened.map_err(|error| format!("its secret cannot be opened: {error}"))?;
    String::from_utf8(clear).map_err(|_| "its secret is no text".to_owned())
}

/// Whether it is sealed with another key than the present one.
pub(crate) fn is_outdated(ring: &KeyRing, sealed: &Sealed) -> bool {
    ring.names().next().is_some_and(|present| present != sealed.key_name)
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Lay in clear text.
    pub sealed: usize,
    /// Were sealed with a key of before.
    pub resealed: usize,
    /// What could not be opened, and why.
    pub refused: Vec<String>,
}

/// Seals with the present key whatever of all organizations lies in clear text or is sealed with another one: after keys were set for the first
/// time, and before one is taken away. Of one organization all or nothing.
pub async fn seal_all(db: &Db, ring: &KeyRing) -> Result<Counted> {
    let Some(key) = ring.names().next() else { return Err(crate::mfa::no_keys()) };
    let mut counted = Counted::default();
    for organization in organizations(db).await? {
        let mut tx = db.begin(organization).await?;
        for (id, was_sealed) in store::channels::not_sealed_with(&mut tx, key).await? {
            if let Some(done) = channels::seal_now(&mut tx, ring, id).await? {
                counted.add(was_sealed, done.map_err(|why| format!("channel {id}: {why}")));
            }
        }
        for (id, was_sealed) in store::discovery_sources::not_sealed_with(&mut tx, key).await? {
            if let Some(done) = discovery::seal_now(&mut tx, ring, id).await? {
                counted.add(was_sealed, done.map_err(|why| format!("discovery source {id}: {why}")));
            }
        }
        tx.commit().await?;
    }
    Ok(counted)
}

impl Counted {
    fn add(&mut self, was_sealed: bool, done: std::result::Result<(), String>) {
        match done {
            Ok(()) if was_sealed => self.resealed += 1,
            Ok(()) => self.sealed += 1,
            Err(why) => self.refused.push(why),
        }
    }
}

/// How many lie in clear text, and how many are sealed with another key than the present one.
pub async fn left(db: &Db, ring: &KeyRing) -> Result<(usize, usize)> {
    // No key has an empty name.
    let key = ring.names().next().unwrap_or_default();
    let (mut clear, mut outdated) = (0, 0);
    for organization in organizations(db).await? {
        let mut tx = db.begin(organization).await?;
        let channels = of(store::channels::not_sealed_with(&mut tx, key).await?);
        let sources = of(store::discovery_sources::not_sealed_with(&mut tx, key).await?);
        tx.rollback().await?;
        for is_sealed in channels.into_iter().chain(sources) {
            if is_sealed { outdated += 1 } else { clear += 1 }
        }
    }
    Ok((clear, outdated))
}

/// What no key of the ring opens, and why: whatever needs it waits, and is given up in the end.
pub async fn lost(db: &Db, ring: &KeyRing) -> Result<Vec<String>> {
    let key = ring.names().next().unwrap_or_default();
    let mut lost = Vec::new();
    for organization in organizations(db).await? {
        let mut tx = db.begin(organization).await?;
        for (id, is_sealed) in store::channels::not_sealed_with(&mut tx, key).await? {
            if is_sealed && let Err(why) = channels::opens(ring, &store::channels::get(&mut tx, id).await?) {
                lost.push(format!("channel {id}: {why}"));
            }
        }
        for (id, is_sealed) in store::discovery_sources::not_sealed_with(&mut tx, key).await? {
            if is_sealed
                && let Err(why) = discovery::opens(ring, &store::discovery_sources::get(&mut tx, id).await?)
            {
                lost.push(format!("discovery source {id}: {why}"));
            }
        }
        tx.rollback().await?;
    }
    Ok(lost)
}

fn of<T>(found: Vec<(T, bool)>) -> Vec<bool> {
    found.into_iter().map(|(_, is_sealed)| is_sealed).collect()
}

async fn organizations(db: &Db) -> Result<Vec<OrganizationId>> {
    let mut tx: Tx = db.begin_system().await?;
    let all = store::organizations::ids(&mut tx).await?;
    tx.rollback().await?;
    Ok(all)
}
