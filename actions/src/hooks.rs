//! What other systems knock with, taken by way of the broker: accepted when the broker has confirmed it, moved into the inbox in
//! batches ([`move_in`]). The database is asked for nothing but the token, and that rarely; when the broker does not take
//! something, the database does, and the other way round.
//!
//! The id of the inbox row and that of its job are made here, so what arrives by both ways, or twice, is kept once.

mod known;
mod letter;
mod moving;

pub use known::Sought;
pub use letter::Letter;
pub use moving::{Moved, move_in};

use crate::credentials::TOKEN_CHARACTERS;
use crate::{Error, Result};
use known::Known;
use queue::messages::{Publisher, QueueSpec};
use std::sync::Arc;
use std::time::Duration;
use store::Db;
use store::alert_sources::AlertSource;
use store::mailboxes::Found;

/// What is no longer than this goes to the broker first; brokers do not like large messages, so those go to the database first.
const SMALL: usize = 256 << 10;

/// The queues of the broker: `hooks`, those with large bodies (few at a time fit a consumer's memory), and those whose token could not be
/// looked up: bounded, because anybody can send such.
pub fn queues() -> [QueueSpec; 3] {
    [
        QueueSpec::new("hooks", 400).dead_letters("hooks.dead"),
        QueueSpec::new("hooks.large", 4).dead_letters("hooks.dead"),
        QueueSpec::new("hooks.unknown", 50).at_most(1000, 64 << 20).dead_letters("hooks.dead"),
    ]
}

/// Where messages of hooks go that can never be kept.
pub const DEAD: &str = "hooks.dead";

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct Door {
    db: Db,
    publisher: Publisher,
    sources: Arc<Known<AlertSource>>,
    mailboxes: Arc<Known<Found>>,
}

impl Door {
    /// `publisher` declares [`queues`].
    pub fn new(db: Db, publisher: Publisher) -> Door {
        Door { db, publisher, sources: Arc::default(), mailboxes: Arc::default() }
    }

    /// Whether something is taken though the database is away.
    pub fn is_open(&self) -> bool {
        self.publisher.is_open()
    }

    /// Whose the token of an alert source is, as far as is known.
    pub async fn source(&self, token_hash: &str) -> Result<Sought<AlertSource>> {
        let ask = async || {
            let mut tx = self.db.begin_presenting(token_hash).await?;
            let found = match store::alert_sources::by_token_hash(&mut tx, token_hash).await {
                Err(store::Error::NotFound) => None,
                found => Some(found?),
            };
            tx.rollback().await?;
            Ok(found)
        };
        self.sources.find(token_hash, ask).await
    }

    /// Whose the token of a mailbox's hook is, as far as is known.
    pub async fn mailbox(&self, token_hash: &str) -> Result<Sought<Found>> {
        let ask = async || {
            let mut tx = self.db.begin_presenting(token_hash).await?;
            let found = store::mailboxes::by_hook_token_hash(&mut tx, token_hash).await?;
            tx.rollback().await?;
            Ok(found)
        };
        self.mailboxes.find(token_hash, ask).await
    }

    /// When it returns, the letter is durable. [`Error::NotFound`]: nobody has that token, as turned out. [`Error::Busy`]: neither the
    /// broker nor the database takes it for now. Other errors are about the letter.
    pub async fn keep(&self, letter: Letter) -> Result<()> {
        self.keep_somewhere(letter).await.map_err(|error| match error {
            error @ Error::NotFound => error,
            Error::Store(error) if is_about_the_data(&error) => Error::Store(error),
            error => {
                tracing::warn!(%error, "a hook is taken neither by the broker nor by the database");
                Error::Busy("nothing can be kept for now: send it again in a moment".into())
            }
        })
    }

    async fn keep_somewhere(&self, letter: Letter) -> Result<()> {
        let is_known = letter.about.channel.is_some();
        let message = letter.into_message();
        let is_small = message.body.len() <= SMALL;
        if is_known && !is_small {
            match self.keep_in_database(&message).await {
                Ok(()) => return Ok(()),
                Err(Error::NotFound) => return Err(Error::NotFound),
                Err(Error::Store(error)) if is_about_the_data(&error) => return Err(error.into()),
                Err(error) => tracing::debug!(%error, "a hook goes to the broker"),
            }
        }
        let queue = match (is_known, is_small) {
            (false, _) => "hooks.unknown",
            (true, true) => "hooks",
            (true, false) => "hooks.large",
        };
        match self.publisher.publish(queue, &message).await {
            Ok(()) => Ok(()),
            Err(why) => {
                tracing::debug!(%why, "a hook goes to the database");
                self.keep_in_database(&message).await
            }
        }
    }

    async fn keep_in_database(&self, message: &queue::messages::Message) -> Result<()> {
        match move_in(&self.db, std::slice::from_ref(message)).await?.as_slice() {
            [Moved::Kept | Moved::Again | Moved::Revoked] => Ok(()),
            _ => Err(Error::NotFound),
        }
    }

    /// For tests: until the broker takes something.
    pub async fn opened(&self) {
        self.publisher.opened().await;
    }

    pub async fn close(&self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.publisher.close()).await;
    }
}

/// The same data will be refused again: by its form, or because its organization is gone.
pub fn is_about_the_data(error: &store::Error) -> bool {
    error.is_refused_data() || error.constraint().is_some()
}

/// Whether it may be a token of ours, when nobody can be asked: what has another form need not be kept.
pub fn looks_like_a_token(token: &str) -> bool {
    ["rda_", "rdm_"].iter().filter_map(|prefix| token.strip_prefix(prefix)).any(|rest| {
        rest.len() == TOKEN_CHARACTERS
            && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    #[test]
    fn tokens_are_known_by_their_form() {
        for prefix in ["rda_", "rdm_"] {
            assert!(looks_like_a_token(crate::credentials::new_token(prefix).expose_secret()));
        }
        for other in ["", "rda_", "rda_x", crate::credentials::new_token("rd_").expose_secret()] {
            assert!(!looks_like_a_token(other), "{other}");
        }
    }
}
