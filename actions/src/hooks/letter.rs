//! An inbox row that is yet to be: what the hook knows of it goes with the message, the raw body is its body.

use chrono::{DateTime, Utc};
use domain::{InboxId, OrganizationId};
use queue::JobId;
use queue::messages::Message;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Letter {
    pub id: InboxId,
    /// `mail`, `alertmanager`, `generic` …
    pub source: String,
    pub about: About,
    pub raw: Vec<u8>,
}

/// A field is only ever added with a default: an older process may have written it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    pub job: JobId,
    /// And the mailbox or alert source; `None`: they are yet to be found by the token.
    pub organization: Option<OrganizationId>,
    pub channel: Option<Uuid>,
    /// Judged again when the letter is moved in.
    pub token_hash: String,
    pub unique_key: String,
    pub content_type: String,
    pub headers: Value,
    /// Why it is of no use; the sender has been told.
    #[serde(default)]
    pub refused: Option<String>,
    pub received_at: DateTime<Utc>,
    #[serde(default)]
    pub trace_parent: Option<String>,
}

impl Letter {
    /// `whose`: organization, and mailbox or alert source.
    pub fn new(
        source: &str,
        whose: Option<(OrganizationId, Uuid)>,
        token_hash: &str,
        received_at: DateTime<Utc>,
        raw: Vec<u8>,
    ) -> Letter {
        let id = InboxId::new();
        let about = About {
            job: JobId::new(),
            organization: whose.map(|(organization, _)| organization),
            channel: whose.map(|(_, channel)| channel),
            token_hash: token_hash.to_owned(),
            unique_key: id.to_string(),
            content_type: String::new(),
            headers: Value::Null,
            refused: None,
            received_at,
            trace_parent: queue::trace::current().map(|context| context.to_string()),
        };
        Letter { id, source: source.to_owned(), about, raw }
    }

    /// As it goes through the broker.
    pub fn into_message(self) -> Message {
        let mut about = self.about;
        // Headers of a message have to fit into one frame of the protocol.
        clip(&mut about.content_type, 200);
        if let Some(refused) = &mut about.refused {
            clip(refused, 4000);
            // It may quote the payload, and PostgreSQL keeps no NUL in a text.
            *refused = refused.replace('\0', "\u{fffd}");
        }
        Message {
            id: self.id.0,
            kind: self.source,
            about: serde_json::to_string(&about).unwrap_or_default(),
            body: self.raw,
            expires: None,
        }
    }
}

pub(super) fn read(message: &Message) -> Option<About> {
    serde_json::from_str(&message.about).ok()
}

fn clip(text: &mut String, most: usize) {
    if let Some((cut, _)) = text.char_indices().nth(most) {
        text.truncate(cut);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let whose = (OrganizationId::new(), Uuid::now_v7());
        let mut letter = Letter::new("generic", Some(whose), "hash", DateTime::UNIX_EPOCH, b"raw".to_vec());
        letter.about.refused = Some("\0".to_owned() + &"ü".repeat(5000));
        let (id, job) = (letter.id, letter.about.job);
        let message = letter.into_message();
        assert!(message.about.len() < 10_000);
        let about = read(&message).unwrap();
        assert_eq!((message.id, about.job, about.channel), (id.0, job, Some(whose.1)));
        assert_eq!((message.kind.as_str(), message.body.as_slice()), ("generic", b"raw".as_slice()));
        let refused = about.refused.unwrap();
        assert!(refused.starts_with("\u{fffd}ü"));
        assert_eq!(refused.chars().count(), 4000);
    }
}
