//! What the SMTP listener asks: whose address this is, and whether a message is kept.

use actions::inbox::MailEnvelope;
use connectors::mail::smtp_server::{Deliver, Envelope, Verdict};
use domain::{EmailAddress, InboxId};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use store::Db;
use store::mailboxes::Found;

/// Between RCPT and the end of the message an address is not looked up again.
const REMEMBERED: Duration = Duration::from_secs(60);
const MOST_REMEMBERED: usize = 1_000;

/// Keeps messages in the inbox of the organizations whose mailboxes they are for.
#[derive(Clone, Debug)]
pub struct Reception {
    db: Db,
    hostname: String,
    /// What RCPT found, for the DATA that follows.
    lately: Arc<Mutex<HashMap<EmailAddress, (Found, Instant)>>>,
}

impl Reception {
    /// `hostname`: how the Received header names us.
    pub fn new(db: Db, hostname: impl Into<String>) -> Self {
        Reception { db, hostname: hostname.into(), lately: Arc::default() }
    }

    async fn find(&self, address: &EmailAddress) -> Result<Option<Found>, store::Error> {
        let mut tx = self.db.begin_presenting(address.as_str()).await?;
        let found = store::mailboxes::by_address(&mut tx, address).await?;
        tx.rollback().await?;
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.len() >= MOST_REMEMBERED {
            lately.clear();
        }
        match found {
            Some(found) => lately.insert(address.clone(), (found, Instant::now())),
            None => lately.remove(address),
        };
        Ok(found)
    }

    /// Where mail for an address goes that RCPT has accepted. A mailbox that was deleted since then does no harm: the
    /// message is kept, and set aside.
    async fn found(&self, address: &EmailAddress) -> Result<Option<Found>, store::Error> {
        let lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner).get(address).copied();
        match lately {
            Some((found, at)) if at.elapsed() < REMEMBERED => Ok(Some(found)),
            _ => self.find(address).await,
        }
    }

    /// One transaction for all recipients: kept for every one of them, or for none.
    async fn keep(&self, envelope: &Envelope, mut message: Vec<u8>) -> Result<usize, actions::Error> {
        let _room = crate::large::room(message.len()).await;
        let mut mailboxes = Vec::new();
        for recipient in &envelope.recipients {
            // One that was deleted since RCPT is no longer there to keep anything for.
            if let Some(found) = self.found(recipient).await?
                && !mailboxes.contains(&found)
            {
                mailboxes.push(found);
            }
        }
        let mut by_organization: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for found in mailboxes {
            by_organization.entry(found.organization).or_default().push(found.mailbox);
        }
        // In one order everywhere: two copies of one message at once wait for each other, and do not deadlock.
        by_organization.values_mut().for_each(|mailboxes| mailboxes.sort_unstable());
        let mut organizations = by_organization.into_iter();
        let Some((first, rest)) = organizations.next() else {
            return Ok(0);
        };
        let kept = MailEnvelope {
            via: "smtp".into(),
            mail_from: Some(envelope.sender.clone().unwrap_or_default()),
            peer: Some(envelope.peer.to_string()),
            helo: Some(envelope.helo.clone()),
        };
        let mut tx = self.db.begin(first).await?;
        let trace = envelope.trace(&self.hostname, &InboxId::new().to_string(), tx.now());
        message.splice(0..0, trace.into_bytes());
        let raw = message;
        let mut count = 0;
        let all = std::iter::once((first, rest)).chain(organizations);
        for (i, (organization, mailboxes)) in all.enumerate() {
            if i > 0 {
                tx.enter(organization).await?;
            }
            for mailbox in mailboxes {
                actions::inbox::keep_mail(&mut tx, mailbox, &raw, &kept).await?;
                count += 1;
            }
        }
        tx.commit().await?;
        Ok(count)
    }
}

impl Deliver for Reception {
    async fn accepts(&self, recipient: &EmailAddress) -> Verdict {
        match self.find(recipient).await {
            Ok(Some(_)) => Verdict::Yes,
            Ok(None) => Verdict::Never("there is no such mailbox here".into()),
            Err(error) => {
                tracing::warn!(%error, "cannot look up a mailbox");
                Verdict::NotNow("cannot look that up, try again later".into())
            }
        }
    }

    async fn deliver(&self, envelope: &Envelope, message: Vec<u8>) -> Verdict {
        let bytes = message.len();
        match self.keep(envelope, message).await {
            Ok(0) => Verdict::Never("there is no such mailbox here".into()),
            Ok(mailboxes) => {
                tracing::debug!(mailboxes, bytes, "mail kept");
                Verdict::Yes
            }
            Err(error) => {
                tracing::warn!(%error, "a mail could not be kept");
                Verdict::NotNow("cannot keep it, try again later".into())
            }
        }
    }
}
