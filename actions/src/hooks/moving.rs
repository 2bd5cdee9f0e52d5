//! From messages to inbox rows with their jobs: a batch is one transaction, with as many statements as it has organizations, not
//! letters.

use super::letter::{self, About};
use crate::Result;
use crate::inbox::MAIL;
use crate::jobs::{IngestAlert, IngestMail};
use domain::{InboxId, OrganizationId};
use queue::messages::Message;
use queue::{NewJob, Unique};
use std::collections::{BTreeMap, HashMap, HashSet};
use store::inbox::{Accepted, NewInbox};
use store::{Db, Tx};
use uuid::Uuid;

const REVOKED: &str = "its token was replaced, or its source switched off or deleted, before it could be kept: replay it if it is wanted all the same";

/// What became of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It has its row.
    Kept,
    /// It had one before, or the same mail was here.
    Again,
    /// Its row says that the token was good for nothing any more.
    Revoked,
    /// Nobody has the token: it was taken while nobody could be asked.
    Nobody,
    /// Not a letter of ours.
    Unreadable,
}

/// Moves letters into the inbox, each once however often it comes. All of them or, with an error, none.
pub async fn move_in(db: &Db, messages: &[Message]) -> Result<Vec<Moved>> {
    let mut moved = vec![Moved::Unreadable; messages.len()];
    let mut found: HashMap<(bool, String), Option<(OrganizationId, Uuid)>> = HashMap::new();
    let mut by_organization: BTreeMap<OrganizationId, Vec<Item<'_>>> = BTreeMap::new();
    for (index, message) in messages.iter().enumerate() {
        let Some(about) = letter::read(message) else { continue };
        let whose = match about.organization.zip(about.channel) {
            Some(whose) => Some(whose),
            None => {
                let token = (message.kind == MAIL, about.token_hash.clone());
                match found.get(&token) {
                    Some(whose) => *whose,
                    None => {
                        let whose = find(db, message, &about).await?;
                        *found.entry(token).or_insert(whose)
                    }
                }
            }
        };
        match whose {
            Some((organization, channel)) => {
                let item = Item { index, message, about, channel };
                by_organization.entry(organization).or_default().push(item);
            }
            None => moved[index] = Moved::Nobody,
        }
    }
    let mut organizations = by_organization.into_iter();
    let Some((first, items)) = organizations.next() else { return Ok(moved) };
    let mut tx = db.begin(first).await?;
    keep(&mut tx, items, &mut moved).await?;
    for (organization, items) in organizations {
        tx.enter(organization).await?;
        keep(&mut tx, items, &mut moved).await?;
    }
    tx.commit().await?;
    Ok(moved)
}

struct Item<'a> {
    index: usize,
    message: &'a Message,
    about: About,
    channel: Uuid,
}

async fn find(db: &Db, message: &Message, about: &About) -> Result<Option<(OrganizationId, Uuid)>> {
    let mut tx = db.begin_presenting(&about.token_hash).await?;
    let whose = if message.kind == MAIL {
        let found = store::mailboxes::by_hook_token_hash(&mut tx, &about.token_hash).await?;
        found.map(|found| (found.organization, found.mailbox.0))
    } else {
        match store::alert_sources::by_token_hash(&mut tx, &about.token_hash).await {
            Err(store::Error::NotFound) => None,
            source => Some(source?)
                .filter(|source| source.kind.as_str() == message.kind)
                .map(|source| (source.organization, source.id.0)),
        }
    };
    tx.rollback().await?;
    Ok(whose)
}

/// Those of one organization, in its transaction.
async fn keep(tx: &mut Tx, mut items: Vec<Item<'_>>, moved: &mut [Moved]) -> Result<()> {
    let entitled = entitled(tx, &items).await?;
    for item in items.iter_mut().filter(|item| !entitled.contains(&item.message.id)) {
        // Whoever sends it again with a good token has not sent it twice.
        item.about.unique_key = item.message.id.to_string();
    }
    // Batches with the same letters insert them in the same order, so that they wait for each other and do not deadlock.
    items.sort_by(|one, other| {
        (&one.message.kind, &one.about.unique_key).cmp(&(&other.message.kind, &other.about.unique_key))
    });
    let rows: Vec<Accepted<'_>> = items
        .iter()
        .map(|item| Accepted {
            new: NewInbox {
                id: item.message.id.into(),
                source: &item.message.kind,
                channel_id: item.channel,
                unique_key: &item.about.unique_key,
                content_type: &item.about.content_type,
                raw: &item.message.body,
                headers: item.about.headers.clone(),
            },
            received_at: item.about.received_at,
            refused: item
                .about
                .refused
                .as_deref()
                .or_else(|| (!entitled.contains(&item.message.id)).then_some(REVOKED)),
        })
        .collect();
    let kept: HashSet<InboxId> = store::inbox::keep_all(tx, &rows).await?.into_iter().collect();
    drop(rows);
    // Ids are in the order in which the letters came.
    items.sort_by_key(|item| item.message.id);
    let mut jobs = Vec::with_capacity(items.len());
    for item in &items {
        let id = InboxId(item.message.id);
        let is_entitled = entitled.contains(&item.message.id);
        moved[item.index] = match (kept.contains(&id), is_entitled) {
            (false, _) => Moved::Again,
            (true, false) => Moved::Revoked,
            (true, true) => Moved::Kept,
        };
        if moved[item.index] == Moved::Kept && item.about.refused.is_none() {
            jobs.push(job(id, item, tx.organization()));
        }
        if moved[item.index] == Moved::Kept && item.message.kind == MAIL {
            crate::inbox::kept_mail(item.about.received_at);
        }
    }
    if !jobs.is_empty() {
        crate::enqueue(tx, &jobs).await?;
    }
    Ok(())
}

fn job(id: InboxId, item: &Item<'_>, organization: OrganizationId) -> NewJob {
    let job = if item.message.kind == MAIL {
        NewJob::of(&IngestMail { inbox: id }).unique(format!("inbox:{id}"), Unique::WhileUnfinished)
    } else {
        NewJob::of(&IngestAlert::new(id))
    };
    NewJob {
        trace_parent: item.about.trace_parent.clone(),
        ..job.id(item.about.job).organization(organization)
    }
}

/// The messages whose tokens are good still.
async fn entitled(tx: &mut Tx, items: &[Item<'_>]) -> Result<HashSet<Uuid>> {
    let claim = |item: &Item<'_>| (item.channel, item.about.token_hash.clone());
    let (mut mails, mut alerts) = (HashSet::new(), HashSet::new());
    for item in items {
        if item.message.kind == MAIL { &mut mails } else { &mut alerts }.insert(claim(item));
    }
    let mut good: HashSet<(bool, Uuid, String)> = HashSet::new();
    if !alerts.is_empty() {
        let claims: Vec<_> = alerts.iter().map(|(id, hash)| ((*id).into(), hash.as_str())).collect();
        let entitled = store::alert_sources::entitled(tx, &claims).await?;
        good.extend(entitled.into_iter().map(|(id, hash)| (false, id.0, hash)));
    }
    if !mails.is_empty() {
        let claims: Vec<_> = mails.iter().map(|(id, hash)| ((*id).into(), hash.as_str())).collect();
        let entitled = store::mailboxes::entitled(tx, &claims).await?;
        good.extend(entitled.into_iter().map(|(id, hash)| (true, id.0, hash)));
    }
    let is_good = |item: &&Item<'_>| {
        let (channel, hash) = claim(item);
        good.contains(&(item.message.kind == MAIL, channel, hash))
    };
    Ok(items.iter().filter(is_good).map(|item| item.message.id).collect())
}
