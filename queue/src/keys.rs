//! Keys for what must not lie in clear text in the database (arguments of jobs, secrets of the application) or in the broker (requests to remote workers).
//!
//! AES-256-GCM, with a key of its own for each use and id: HKDF-SHA256 of the ring's key, the use and the id of the job or message. Nonces are
//! random, and one derived key seals a handful of texts (a job's arguments, the messages about one request), so that a nonce does not meet
//! its key twice and there is no number of jobs after which a ring's key is used up. Kind and id are authenticated: what was sealed for one
//! job is nothing for another.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use uuid::Uuid;

const KEY_LENGTH: usize = 32;

/// Keys by their names. The first seals, all of them open: to rotate, put a new one in front, and take the old one away when no job that it
/// sealed is left (`admin::sealed_jobs`).
#[derive(Clone, Default)]
pub struct KeyRing(Arc<[(String, [u8; KEY_LENGTH])]>);

/// Without the keys.
impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyRing").field(&self.names().collect::<Vec<_>>()).finish()
    }
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidKeys {
    #[error("a key is NAME:BASE64")]
    Form,
    #[error("the name of a key has 1 to 40 letters, digits, hyphens and underscores")]
    Name,
    #[error("key {0} is not the base64 of 32 bytes")]
    Length(String),
    #[error("there are two keys {0}")]
    Twice(String),
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SealError {
    #[error("its arguments are to be encrypted, and there are no keys; set RELAYDESK_JOB_KEYS")]
    NoKeys,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum OpenError {
    #[error(
        "its arguments are encrypted with key {0}, which this process does not have (RELAYDESK_JOB_KEYS)"
    )]
    NoSuchKey(String),
    /// Changed, of another job, or another key of the same name.
    #[error("its encrypted arguments cannot be opened with key {0}")]
    Refused(String),
}

impl FromStr for KeyRing {
    type Err = InvalidKeys;

    /// `name:base64` with commas between them; an empty text has none.
    fn from_str(text: &str) -> Result<Self, InvalidKeys> {
        let mut keys: Vec<(String, [u8; KEY_LENGTH])> = Vec::new();
        for key in text.split(',').map(str::trim).filter(|key| !key.is_empty()) {
            let (name, secret) = key.split_once(':').ok_or(InvalidKeys::Form)?;
            let fits = |c: u8| c.is_ascii_alphanumeric() || b"-_".contains(&c);
            if !(1..=40).contains(&name.len()) || !name.bytes().all(fits) {
                return Err(InvalidKeys::Name);
            }
            let bytes = BASE64.decode(secret).ok().and_then(|bytes| bytes.try_into().ok());
            let bytes = bytes.ok_or_else(|| InvalidKeys::Length(name.to_owned()))?;
            if keys.iter().any(|(known, _)| known == name) {
                return Err(InvalidKeys::Twice(name.to_owned()));
            }
            keys.push((name.to_owned(), bytes));
        }
        Ok(KeyRing(keys.into()))
    }
}

static PROCESS: RwLock<Option<KeyRing>> = RwLock::new(None);

impl KeyRing {
    /// The keys of this process: those who enqueue seal with them, and engines without keys of their own open with them. Once, at the start.
    pub fn install(self) {
        *PROCESS.write().unwrap_or_else(PoisonError::into_inner) = Some(self);
    }

    pub(crate) fn installed() -> KeyRing {
        PROCESS.read().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }

    /// Their names; the first is the one that seals.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of a key that both have. Who has one ring must not be able to open what the other one sealed.
    pub fn shared_with<'a>(&'a self, other: &'a KeyRing) -> Option<(&'a str, &'a str)> {
        let mut both = self.0.iter().flat_map(|ours| other.0.iter().map(move |theirs| (ours, theirs)));
        both.find(|(ours, theirs)| ours.1 == theirs.1).map(|(ours, theirs)| (&*ours.0, &*theirs.0))
    }

    /// The name of the key, and what opens with it again for the same kind and job only.
    pub(crate) fn seal(&self, kind: &str, job: Uuid, clear: &str) -> Result<(String, String), SealError> {
        let sealed = self.seal_bytes(Use::Arguments, job, &bound(kind, job), clear.as_bytes());
        let (name, sealed) = sealed.ok_or(SealError::NoKeys)?;
        Ok((name.to_owned(), BASE64.encode(sealed)))
    }

    pub(crate) fn open(&self, name: &str, kind: &str, job: Uuid, sealed: &str) -> Result<String, OpenError> {
        let refused = || OpenError::Refused(name.to_owned());
        let sealed = BASE64.decode(sealed).map_err(|_| refused())?;
        let clear = self.open_bytes(name, Use::Arguments, job, &bound(kind, job), sealed)?;
        String::from_utf8(clear).map_err(|_| refused())
    }

    /// Seals a secret that is kept in a row of the application: `what` names the kind of secret, `id` the secret. The name of the key, and what
    /// opens with it again for the same kind and id only. `None`: there are no keys.
    pub fn seal_secret(&self, what: &str, id: Uuid, clear: &[u8]) -> Option<(String, Vec<u8>)> {
        let (name, sealed) = self.seal_bytes(Use::Secrets, id, &bound(what, id), clear)?;
        Some((name.to_owned(), sealed))
    }

    pub fn open_secret(
        &self,
        name: &str,
        what: &str,
        id: Uuid,
        sealed: Vec<u8>,
    ) -> Result<Vec<u8>, OpenError> {
        self.open_bytes(name, Use::Secrets, id, &bound(what, id), sealed)
    }

    /// The name of the key, and the sealed bytes with their nonce in front. `None`: there are no keys.
    pub(crate) fn seal_bytes(
        &self,
        what: Use,
        id: Uuid,
        bound: &[u8],
        clear: &[u8],
    ) -> Option<(&str, Vec<u8>)> {
        let (name, key) = self.0.first()?;
        let nonce: [u8; NONCE_LEN] = rand::random();
        let mut sealed = Vec::with_capacity(NONCE_LEN + clear.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(clear);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let text = &mut sealed[NONCE_LEN..];
        let tag = derived(key, what, id).seal_in_place_separate_tag(nonce, Aad::from(bound), text).ok()?;
        sealed.extend_from_slice(tag.as_ref());
        Some((name, sealed))
    }

    pub(crate) fn open_bytes(
        &self,
        name: &str,
        what: Use,
        id: Uuid,
        bound: &[u8],
        mut sealed: Vec<u8>,
    ) -> Result<Vec<u8>, OpenError> {
        let refused = || OpenError::Refused(name.to_owned());
        let key = self.0.iter().find(|(known, _)| known == name);
        let (_, key) = key.ok_or_else(|| OpenError::NoSuchKey(name.to_owned()))?;
        if sealed.len() < NONCE_LEN {
            return Err(refused());
        }
        let mut text = sealed.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&sealed).map_err(|_| refused())?;
        let opened = derived(key, what, id).open_in_place(nonce, Aad::from(bound), &mut text);
        let length = opened.map_err(|_| refused())?.len();
        text.truncate(length);
        Ok(text)
    }
}

/// What is sealed: what was sealed for one use does not open for another. Each has a ring of its own all the same, because not everybody
/// who has the one may have the other ([`KeyRing::shared_with`]).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Use {
    Arguments,
    RemoteMessages,
    Secrets,
}

/// The key of one job or message.
fn derived(key: &[u8; KEY_LENGTH], what: Use, id: Uuid) -> LessSafeKey {
    let salt: &[u8] = match what {
        Use::Arguments => b"arguments of a job",
        Use::RemoteMessages => b"message of a remote worker",
        Use::Secrets => b"secret of the application",
    };
    let secret = Salt::new(HKDF_SHA256, salt).extract(key);
    let id: [&[u8]; 1] = [id.as_bytes()];
    let derived = secret.expand(&id, &AES_256_GCM).map(UnboundKey::from);
    LessSafeKey::new(derived.expect("32 bytes are not too many"))
}

fn bound(kind: &str, job: Uuid) -> Vec<u8> {
    [kind.as_bytes(), &[0], job.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ring(names: &[&str]) -> KeyRing {
        let keys: Vec<_> = names
            .iter()
            .map(|name| format!("{name}:{}", BASE64.encode([name.as_bytes()[0]; KEY_LENGTH])))
            .collect();
        keys.join(", ").parse().unwrap()
    }

    proptest! {
        #[test]
        fn only_the_same_job_with_the_same_key_opens(text in "\\PC{0,200}", flip in any::<prop::sample::Index>(), bit in 0u8..8) {
            let (old, both, job) = (ring(&["old"]), ring(&["new", "old"]), Uuid::now_v7());
            let (name, sealed) = old.seal("kind", job, &text).unwrap();
            prop_assert_eq!(name.as_str(), "old");
            prop_assert_eq!(both.open(&name, "kind", job, &sealed).unwrap(), text.clone(), "after a rotation");
            let again = old.seal("kind", job, &text).unwrap().1;
            prop_assert_ne!(&again, &sealed, "nobody sees that two are the same");
            let refused = Err(OpenError::Refused("old".into()));
            prop_assert_eq!(old.open(&name, "kind", Uuid::now_v7(), &sealed), refused.clone());
            prop_assert_eq!(old.open(&name, "other", job, &sealed), refused.clone());
            prop_assert_eq!(ring(&["new"]).open(&name, "kind", job, &sealed), Err(OpenError::NoSuchKey("old".into())));
            let mut bytes = BASE64.decode(&sealed).unwrap();
            let at = flip.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(old.open(&name, "kind", job, &BASE64.encode(&bytes)), refused);
        }

        #[test]
        fn a_secret_opens_for_its_own_use_only(secret in proptest::collection::vec(any::<u8>(), 0..60)) {
            let (ring, id) = (ring(&["old"]), Uuid::now_v7());
            let (name, sealed) = ring.seal_secret("totp", id, &secret).unwrap();
            prop_assert_eq!(ring.open_secret(&name, "totp", id, sealed.clone()).unwrap(), secret);
            let refused = Err(OpenError::Refused("old".into()));
            prop_assert_eq!(ring.open_secret(&name, "other", id, sealed.clone()), refused.clone());
            prop_assert_eq!(ring.open_secret(&name, "totp", Uuid::now_v7(), sealed.clone()), refused);
            prop_assert!(ring.open(&name, "totp", id, &BASE64.encode(&sealed)).is_err(), "not as arguments of a job");
        }

        #[test]
        fn opening_never_panics(sealed in "\\PC{0,60}") {
            let _ = ring(&["old"]).open("old", "kind", Uuid::nil(), &sealed);
        }
    }

    #[test]
    fn a_key_in_two_rings_is_seen_under_any_name() {
        let (one, other) = (ring(&["a", "b"]), ring(&["c"]));
        assert_eq!(one.shared_with(&other), None);
        assert_eq!(one.shared_with(&KeyRing::default()), None);
        let same: KeyRing =
            format!("c:{0},z:{1}", BASE64.encode([1; 32]), BASE64.encode([b'b'; 32])).parse().unwrap();
        assert_eq!(one.shared_with(&same), Some(("b", "z")));
    }

    #[test]
    fn keys_are_read_or_refused_with_words() {
        let key = BASE64.encode([7; KEY_LENGTH]);
        let ring: KeyRing = format!(" a:{key} , b-2:{key},").parse().unwrap();
        assert_eq!(ring.names().collect::<Vec<_>>(), ["a", "b-2"]);
        assert_eq!(format!("{ring:?}"), r#"KeyRing(["a", "b-2"])"#, "no key in a log");
        assert_eq!("".parse::<KeyRing>().unwrap().names().count(), 0);
        let refused = |text: String| text.parse::<KeyRing>().unwrap_err();
        assert_eq!(refused(key.clone()), InvalidKeys::Form);
        assert_eq!(refused(format!("a b:{key}")), InvalidKeys::Name);
        assert_eq!(refused("a:AAAA".into()), InvalidKeys::Length("a".into()));
        assert_eq!(refused(format!("a:{key},a:{key}")), InvalidKeys::Twice("a".into()));
        assert_eq!(KeyRing::default().seal("kind", Uuid::nil(), "x"), Err(SealError::NoKeys));
    }
}
