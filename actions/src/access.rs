//! Access tokens: short-lived JWTs (RFC 7519, profile of RFC 9068) that name a user, an organization and a login.
//!
//! One algorithm, pinned. `kid` chooses among our own keys and is looked up in nothing else; a header that holds more than we write (`jku`,
//! `x5u`, `jwk` …) is refused. A token proves who somebody was when it was made: whether the login still stands and what the user may do is
//! looked up at each use.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use domain::{OrganizationId, UserId};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

const TYPE: &str = "at+jwt";
const AUDIENCE: &str = "relaydesk-api";
const ISSUER: &str = "relaydesk";
/// How long an access token is good for.
pub const LIFETIME: TimeDelta = TimeDelta::minutes(15);
/// Who has shown this lately who they are may do what would outlive a stolen token: make API tokens and recovery codes, end logins.
pub const RECENT: TimeDelta = TimeDelta::minutes(10);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    pub sub: UserId,
    pub org: OrganizationId,
    /// The login (family of sessions) the token came out of.
    pub sid: Uuid,
    pub iat: i64,
    pub exp: i64,
    pub iss: String,
    pub aud: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access token is not valid")]
pub struct InvalidToken;

/// What signs and checks access tokens: the first key signs, all of them check. To rotate without refusing anybody, append the new secret in
/// all processes, then put it first, and take the old one away when its last token has expired ([`LIFETIME`]).
pub struct Keys(Vec<Key>);

struct Key {
    /// Made from the secret, so that all processes call it the same.
    id: String,
    signing: EncodingKey,
    checking: DecodingKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Keys").field(&self.0.iter().map(|key| &key.id).collect::<Vec<_>>()).finish()
    }
}

impl Key {
    fn new(secret: &[u8]) -> Self {
        // A secret serves more than one purpose: each has a value of its own.
        let of = |purpose: &[u8]| Sha256::new().chain_update(purpose).chain_update(secret).finalize();
        let (key, id) =
            (of(b"relaydesk access tokens 1\0"), of(b"relaydesk access tokens, name of the key\0"));
        Key {
            id: hex::encode(&id[..8]),
            signing: EncodingKey::from_secret(&key),
            checking: DecodingKey::from_secret(&key),
        }
    }
}

/// What the header of a token of ours holds, and nothing besides.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    alg: Algorithm,
    typ: String,
    kid: String,
}

impl Keys {
    /// `secret`: at least 32 random bytes, the same in all processes.
    pub fn new(secret: &[u8]) -> Self {
        Keys(vec![Key::new(secret)])
    }

    /// The first signs, all of them check. `None`: there is none.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Option<Self> {
        let keys: Vec<Key> = secrets.into_iter().map(Key::new).collect();
        (!keys.is_empty()).then_some(Keys(keys))
    }

    /// The names of the keys; the first one signs.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.id.as_str())
    }

    pub fn issue(
        &self,
        user: UserId,
        organization: OrganizationId,
        login: Uuid,
        now: DateTime<Utc>,
    ) -> String {
        let claims = Claims {
            sub: user,
            org: organization,
            sid: login,
            iat: now.timestamp(),
            exp: (now + LIFETIME).timestamp(),
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
        };
        let key = self.0.first().expect("made with one key at least");
        let (typ, kid) = (Some(TYPE.into()), Some(key.id.clone()));
        let header = Header { typ, kid, ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims, &key.signing)
            .expect("claims are JSON and the key is symmetric")
    }

    /// Everything but the expiry, which the caller compares with the database's clock ([`Claims::is_current`]).
    pub fn check(&self, token: &str) -> Result<Claims, InvalidToken> {
        let head = token.split('.').next().and_then(|head| URL_SAFE_NO_PAD.decode(head).ok());
        let head: Option<Head> = head.and_then(|head| serde_json::from_slice(&head).ok());
        let head =
            head.filter(|head| head.alg == Algorithm::HS256 && head.typ == TYPE).ok_or(InvalidToken)?;
        let key = self.0.iter().find(|key| key.id == head.kid).ok_or(InvalidToken)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_exp = false;
        let data = jsonwebtoken::decode::<Claims>(token, &key.checking, &validation);
        data.map(|data| data.claims).map_err(|_| InvalidToken)
    }
}

impl Claims {
    pub fn is_current(&self, now: DateTime<Utc>) -> bool {
        // A minute of tolerance for `iat`: the token was dated by another transaction's clock reading.
        self.iat <= now.timestamp() + 60 && now.timestamp() < self.exp
    }
}
