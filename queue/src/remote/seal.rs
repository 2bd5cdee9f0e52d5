//! Messages between both sides, sealed: whoever reads along in the broker learns nothing of what is done, whoever writes into it is not
//! believed.

use crate::KeyRing;
use crate::keys::{OpenError, Use};
use crate::messages::Message;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Of the form of these messages. Bodies have names of kinds instead.
pub(super) const VERSION: u8 = 1;

/// What is to be known of a message, readable and sealed together with its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    pub version: u8,
    pub job: Uuid,
    pub run: i64,
    /// Queues: of who says it, and for whom it is.
    pub from: String,
    pub to: String,
}

impl About {
    pub fn answer(&self) -> About {
        let (from, to) = (self.to.clone(), self.from.clone());
        About { version: VERSION, from, to, ..*self }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unopened {
    #[error("it was sealed with the key {0:?}, which this process does not have")]
    UnknownKey(String),
    #[error("it was not sealed with our key, not for us, or changed on its way")]
    Forged,
    #[error("it is of version {0} of the protocol, this process speaks version {VERSION}")]
    OtherVersion(u8),
}

/// `None`: there are no keys.
pub(super) fn sealed(keys: &KeyRing, id: Uuid, kind: &str, about: &About, clear: &[u8]) -> Option<Message> {
    let about = serde_json::to_string(about).ok()?;
    let (name, sealed) = keys.seal_bytes(Use::RemoteMessages, id, &bound(kind, &about), clear)?;
    let mut body = Vec::with_capacity(1 + name.len() + sealed.len());
    // Names of keys have 40 bytes at most.
    body.push(name.len() as u8);
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(&sealed);
    Some(Message { id, kind: kind.to_owned(), about, body, expires: None })
}

/// Of a message that came to the queue `here`. The body is taken out of it.
pub(super) fn opened(
    keys: &KeyRing,
    here: &str,
    message: &mut Message,
) -> Result<(About, Vec<u8>), Unopened> {
    let about: About = serde_json::from_str(&message.about).map_err(|_| Unopened::Forged)?;
    let mut body = std::mem::take(&mut message.body);
    let length = usize::from(*body.first().ok_or(Unopened::Forged)?);
    let name = body.get(1..=length).and_then(|name| std::str::from_utf8(name).ok());
    let name = name.ok_or(Unopened::Forged)?.to_owned();
    body.drain(..=length);
    let bound = bound(&message.kind, &message.about);
    let clear = match keys.open_bytes(&name, Use::RemoteMessages, message.id, &bound, body) {
        Ok(clear) => clear,
        Err(OpenError::NoSuchKey(name)) => return Err(Unopened::UnknownKey(name)),
        Err(OpenError::Refused(_)) => return Err(Unopened::Forged),
    };
    match about {
        About { version, .. } if version != VERSION => Err(Unopened::OtherVersion(version)),
        // Sealed by us, and put elsewhere by somebody else.
        About { ref to, .. } if to != here => Err(Unopened::Forged),
        about => Ok((about, clear)),
    }
}

fn bound(kind: &str, about: &str) -> Vec<u8> {
    [kind.as_bytes(), &[0], about.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    fn ring(names: &[&str]) -> KeyRing {
        let key = |name: &&str| format!("{name}:{}", STANDARD.encode([name.as_bytes()[0]; 32]));
        names.iter().map(key).collect::<Vec<_>>().join(",").parse().unwrap()
    }

    fn about() -> About {
        let (job, run) = (Uuid::now_v7(), 3);
        About { version: VERSION, job, run, from: "here".into(), to: "there".into() }
    }

    fn message(keys: &KeyRing, about: &About) -> Message {
        sealed(keys, Uuid::now_v7(), "do", about, b"secret").unwrap()
    }

    #[test]
    fn it_is_opened_unchanged_where_it_was_sent_to_by_who_has_the_key() {
        let (keys, about) = (ring(&["a"]), about());
        let good = message(&keys, &about);
        assert!(!good.body.windows(6).any(|six| six == b"secret"));
        assert_eq!(opened(&keys, "there", &mut good.clone()), Ok((about.clone(), b"secret".to_vec())));
        assert_eq!(opened(&keys, "elsewhere", &mut good.clone()), Err(Unopened::Forged));
        let forged = |change: &dyn Fn(&mut Message)| {
            let mut message = good.clone();
            change(&mut message);
            assert!(opened(&keys, "there", &mut message).is_err(), "{message:?}");
        };
        forged(&|message| message.id = Uuid::now_v7());
        forged(&|message| message.kind = "done".into());
        forged(&|message| message.about = message.about.replace("\"run\":3", "\"run\":4"));
        for index in 0..good.body.len() {
            forged(&|message| message.body[index] ^= 1);
            forged(&|message| message.body.truncate(index));
        }
        let same_name: KeyRing = format!("a:{}", STANDARD.encode([9; 32])).parse().unwrap();
        assert_eq!(opened(&same_name, "there", &mut good.clone()), Err(Unopened::Forged));
        assert!(sealed(&KeyRing::default(), Uuid::nil(), "do", &about, b"").is_none());
    }

    #[test]
    fn keys_are_replaced_one_side_after_the_other() {
        let (old, both, new) = (ring(&["old"]), ring(&["new", "old"]), ring(&["new"]));
        let (from_old, from_both) = (message(&old, &about()), message(&both, &about()));
        assert!(opened(&both, "there", &mut from_old.clone()).is_ok());
        assert!(opened(&new, "there", &mut from_both.clone()).is_ok());
        let unknown = opened(&old, "there", &mut from_both.clone());
        assert_eq!(unknown, Err(Unopened::UnknownKey("new".into())));
    }

    #[test]
    fn another_version_is_told_from_a_forgery() {
        let newer = About { version: VERSION + 1, ..about() };
        let opened = opened(&ring(&["a"]), "there", &mut message(&ring(&["a"]), &newer));
        assert_eq!(opened, Err(Unopened::OtherVersion(VERSION + 1)));
    }

    #[test]
    fn an_answer_goes_back() {
        let asked = about();
        let answer = asked.answer();
        assert_eq!((answer.from.as_str(), answer.to.as_str(), answer.run), ("there", "here", 3));
    }
}
