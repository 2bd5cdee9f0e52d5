//! Access tokens: short-lived JWTs (RFC 7519, profile of RFC 9068) that name a user, an organization and a login.
//!
//! One algorithm, pinned; header fields that could lead elsewhere (`kid`, `jku`, `x5u` …) are never followed. A token proves
//! who somebody was when it was made: whether the login still stands and what the user may do is looked up at each use.

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

/// What signs and checks access tokens. The secret is the installation's (`RELAYDESK_SECRET`).
pub struct Keys {
    signing: EncodingKey,
    checking: DecodingKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Keys {
    /// `secret`: at least 32 random bytes, the same in all processes.
    pub fn new(secret: &[u8]) -> Self {
        // The installation's secret serves more than one purpose: each has a key of its own.
        let key = Sha256::new().chain_update(b"relaydesk access tokens 1\0").chain_update(secret).finalize();
        Keys { signing: EncodingKey::from_secret(&key), checking: DecodingKey::from_secret(&key) }
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
        let header = Header { typ: Some(TYPE.into()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims, &self.signing)
            .expect("claims are JSON and the key is symmetric")
    }

    /// Everything but the expiry, which the caller compares with the database's clock ([`Claims::is_current`]).
    pub fn check(&self, token: &str) -> Result<Claims, InvalidToken> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_exp = false;
        let data =
            jsonwebtoken::decode::<Claims>(token, &self.checking, &validation).map_err(|_| InvalidToken)?;
        if data.header.typ.as_deref() != Some(TYPE) {
            return Err(InvalidToken);
        }
        Ok(data.claims)
    }
}

impl Claims {
    pub fn is_current(&self, now: DateTime<Utc>) -> bool {
        // A minute of tolerance for `iat`: the token was dated by another transaction's clock reading.
        self.iat <= now.timestamp() + 60 && now.timestamp() < self.exp
    }
}
