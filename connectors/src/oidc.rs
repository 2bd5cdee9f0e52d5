//! OpenID Connect (Core 1.0 and Discovery 1.0), our side: the authorization code flow with PKCE.
//!
//! Everything a provider says is fetched by [`crate::http`], so what holds for other destinations holds for it: no private addresses but
//! those that the operator allows, no redirects, limits of time and size. Keys are fetched anew for each login, so that a rotation never
//! waits for us. We check ID tokens as a client that has no secret would: signatures that are made with a shared secret do not count.

use crate::http::{self, Client, Request};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use domain::EmailAddress;
use domain::sign_in::Identity;
use openidconnect::core::{
    CoreClientAuthMethod, CoreIdToken, CoreIdTokenVerifier, CoreJsonWebKeySet,
    CoreJwsSigningAlgorithm as Algorithm, CoreProviderMetadata,
};
use openidconnect::{ClientId, Nonce, PkceCodeChallenge, PkceCodeVerifier};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::time::Duration;
use url::{Host, Url};

/// Documents of providers have a few kilobytes.
const LIMIT: usize = 256 * 1024;
/// How far a provider's clock may be ahead.
const TOLERANCE: TimeDelta = TimeDelta::minutes(2);
/// OpenID Connect Core, 2: at most 255 ASCII characters.
const LONGEST_SUBJECT: usize = 255;
/// More is no group of a person.
const MOST_GROUPS: usize = 2000;

/// Public keys only. `none` and whatever is signed with a shared secret are not among them, whatever the provider says it can do.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RsaSsaPkcs1V15Sha256,
    Algorithm::RsaSsaPkcs1V15Sha384,
    Algorithm::RsaSsaPkcs1V15Sha512,
    Algorithm::RsaSsaPssSha256,
    Algorithm::RsaSsaPssSha384,
    Algorithm::RsaSsaPssSha512,
    Algorithm::EcdsaP256Sha256,
    Algorithm::EcdsaP384Sha384,
    Algorithm::EdDsa,
];

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the provider cannot be asked: {0}")]
    Http(#[from] http::Error),
    /// It is not what its documents should be.
    #[error("the provider does not answer as one should: {0}")]
    Provider(String),
    /// The token proves nothing.
    #[error("the ID token is refused: {0}")]
    Token(String),
}

/// What we are to a provider.
#[derive(Clone, Debug)]
pub struct Registration {
    pub issuer: String,
    pub client_id: String,
    /// `None`: a public client.
    pub client_secret: Option<SecretString>,
    pub scopes: Vec<String>,
    pub redirect_uri: String,
    /// The claim that holds groups.
    pub groups_claim: Option<String>,
    /// For each answer.
    pub timeout: Duration,
}

/// What a login begins with.
#[derive(Debug)]
pub struct Secrets<'a> {
    pub nonce: &'a str,
    pub verifier: &'a SecretString,
}

/// A provider as its discovery document describes it.
#[derive(Debug)]
pub struct Provider<'a> {
    http: &'a Client,
    registration: &'a Registration,
    metadata: CoreProviderMetadata,
    /// It says who it is in each answer (RFC 9207, 3).
    names_itself: bool,
}

/// A member of the discovery document that the library does not know.
#[derive(Deserialize)]
struct Besides {
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

/// An issuer is an `https` address without query and fragment (Discovery, 3); `http` only on this machine, for trying things out.
pub fn check_issuer(text: &str) -> Result<(), &'static str> {
    let url = Url::parse(text).map_err(|_| "must be an address: https://…")?;
    if !is_protected(&url) {
        return Err("must begin with https://");
    }
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err("must have no query, fragment or user");
    }
    if text.len() > 500
        || text.chars().any(char::is_whitespace)
        || text.ends_with(".well-known/openid-configuration")
    {
        return Err("must be the issuer itself, without .well-known/openid-configuration");
    }
    Ok(())
}

fn is_protected(url: &Url) -> bool {
    let here = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && here)
}

fn protected(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{error} in an address"))?;
    if is_protected(&url) {
        Ok(url)
    } else {
        Err(format!("{} is not https", url.host_str().unwrap_or("an address")))
    }
}

impl<'a> Provider<'a> {
    /// Reads the discovery document, which must name this very issuer, and the keys.
    pub async fn discover(http: &'a Client, registration: &'a Registration) -> Result<Self, Error> {
        let document =
            format!("{}/.well-known/openid-configuration", registration.issuer.trim_end_matches('/'));
        let document: Value = read(http, registration.timeout, &document).await?;
        let unreadable = |error: serde_json::Error| Error::Provider(format!("its documents: {error}"));
        let besides = Besides::deserialize(&document).map_err(unreadable)?;
        let metadata = CoreProviderMetadata::deserialize(&document).map_err(unreadable)?;
        if metadata.issuer().as_str() != registration.issuer {
            return Err(Error::Provider(format!("it calls itself {}", metadata.issuer().as_str())));
        }
        let keys: CoreJsonWebKeySet = read(http, registration.timeout, metadata.jwks_uri().as_str()).await?;
        let metadata = metadata.set_jwks(keys);
        let names_itself = besides.authorization_response_iss_parameter_supported;
        Ok(Provider { http, registration, metadata, names_itself })
    }

    /// Where the browser goes. `asks_again`: the person is to show there who they are, even if they are logged in, and the token is to say when
    /// (Core 3.1.2.1).
    pub fn authorization_url(
        &self,
        state: &str,
        secrets: &Secrets<'_>,
        asks_again: bool,
    ) -> Result<Url, Error> {
        let mut url = protected(self.metadata.authorization_endpoint().as_str()).map_err(Error::Provider)?;
        let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier(secrets));
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.registration.client_id)
            .append_pair("redirect_uri", &self.registration.redirect_uri)
            .append_pair("scope", &self.registration.scopes.join(" "))
            .append_pair("state", state)
            .append_pair("nonce", secrets.nonce)
            .append_pair("code_challenge", challenge.as_str())
            .append_pair("code_challenge_method", challenge.method().as_str());
        if asks_again {
            url.query_pairs_mut().append_pair("prompt", "login").append_pair("max_age", "0");
        }
        Ok(url)
    }

    /// Mix-up: an answer of another provider than the one that was asked (RFC 9207, 2.4), or one that does not say whose it is though this
    /// provider always does. `named`: the answer's `iss`.
    pub fn check_answer(&self, named: Option<&str>) -> Result<(), Error> {
        match named {
            Some(named) if named == self.registration.issuer => Ok(()),
            None if !self.names_itself => Ok(()),
            Some(_) => Err(Error::Token("the answer names another issuer".into())),
            None => Err(Error::Token("the answer does not name its issuer, as this provider's do".into())),
        }
    }

    /// Exchanges the code, and tells who it is. `now`: the database's clock.
    pub async fn identify(
        &self,
        code: &str,
        secrets: &Secrets<'_>,
        now: DateTime<Utc>,
    ) -> Result<Identity, Error> {
        let tokens = self.exchange(code, secrets).await?;
        let mut claims = self.verified(&tokens.id_token, secrets.nonce, now)?;
        // Of the token, which is signed, and of nothing else.
        let proven_at = auth_time(&claims, now)?;
        self.complete(&mut claims, tokens.access_token.as_ref()).await?;
        Ok(Identity { proven_at, ..identity(&claims, self.registration.groups_claim.as_deref())? })
    }

    async fn exchange(&self, code: &str, secrets: &Secrets<'_>) -> Result<Tokens, Error> {
        let endpoint = self.metadata.token_endpoint();
        let endpoint = endpoint.ok_or_else(|| Error::Provider("it has no token endpoint".into()))?;
        let endpoint = protected(endpoint.as_str()).map_err(Error::Provider)?;
        let we = self.registration;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", we.redirect_uri.as_str()),
            ("code_verifier", secrets.verifier.expose_secret()),
        ];
        let methods = self.metadata.token_endpoint_auth_methods_supported();
        let takes_basic = methods.is_none_or(|all| all.contains(&CoreClientAuthMethod::ClientSecretBasic));
        let mut basic = None;
        match &we.client_secret {
            // RFC 6749, 2.3.1: both are encoded as in a form first.
            Some(secret) if takes_basic => {
                let encoded =
                    |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encoded(&we.client_id), encoded(secret.expose_secret()));
                basic = Some(format!("Basic {}", STANDARD.encode(pair)));
            }
            Some(secret) => {
                fields.extend([("client_id", &*we.client_id), ("client_secret", secret.expose_secret())])
            }
            None => fields.push(("client_id", we.client_id.as_str())),
        }
        let mut request =
            bounded(Request::post_form(endpoint, &fields), we.timeout).header("accept", "application/json");
        if let Some(basic) = basic {
            request = request.header("authorization", basic);
        }
        let answer = self.http.send(request).await?;
        serde_json::from_slice(&answer.body)
            .map_err(|error| Error::Provider(format!("its answer to the code: {error}")))
    }

    /// The claims of the token, after all that Core 3.1.3.7 asks for.
    fn verified(&self, token: &str, nonce: &str, now: DateTime<Utc>) -> Result<Map<String, Value>, Error> {
        let refused = |error: &dyn std::fmt::Display| Error::Token(error.to_string());
        let parsed: CoreIdToken = token.parse().map_err(|error: serde_json::Error| refused(&error))?;
        let verifier = CoreIdTokenVerifier::new_public_client(
            ClientId::new(self.registration.client_id.clone()),
            self.metadata.issuer().clone(),
            self.metadata.jwks().clone(),
        )
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(move || now)
        .set_issue_time_verifier_fn(move |issued| {
            if issued > now + TOLERANCE { Err("it is issued in the future".into()) } else { Ok(()) }
        });
        let expected = nonce.to_owned();
        let same = move |given: Option<&Nonce>| match given {
            Some(given) if *given.secret() == expected => Ok(()),
            _ => Err("it belongs to another login".to_owned()),
        };
        parsed.claims(&verifier, same).map_err(|error| refused(&describe(&error)))?;
        // The very bytes that the signature stands for.
        let payload = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims: Option<Map<String, Value>> =
            payload.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let claims = claims.ok_or_else(|| refused(&"its claims cannot be read"))?;
        // Core 3.1.3.7, 4 and 5: whom it was made for. The library leaves this to us.
        match claims.get("azp") {
            None => Ok(claims),
            Some(Value::String(party)) if *party == self.registration.client_id => Ok(claims),
            Some(_) => Err(refused(&"it was made for another party (azp)")),
        }
    }

    /// What the token leaves out is asked of the userinfo endpoint (Core 5.4): of the same person, or not at all.
    async fn complete(
        &self,
        claims: &mut Map<String, Value>,
        access: Option<&SecretString>,
    ) -> Result<(), Error> {
        let wanted = ["email", "name"].into_iter().chain(self.registration.groups_claim.as_deref());
        let is_whole = wanted.into_iter().all(|name| claims.contains_key(name));
        let (Some(endpoint), Some(access), false) = (self.metadata.userinfo_endpoint(), access, is_whole)
        else {
            return Ok(());
        };
        let endpoint = protected(endpoint.as_str()).map_err(Error::Provider)?;
        let request = bounded(Request::get(endpoint), self.registration.timeout)
            .header("accept", "application/json")
            .header("authorization", format!("Bearer {}", access.expose_secret()));
        let answer = self.http.send(request).await?;
        let said: Map<String, Value> = serde_json::from_slice(&answer.body)
            .map_err(|error| Error::Provider(format!("what it says of the person: {error}")))?;
        if said.get("sub") != claims.get("sub") {
            return Err(Error::Token("the userinfo endpoint tells of somebody else".into()));
        }
        // An address and whether it is verified belong together.
        if claims.contains_key("email") {
            claims.entry("email_verified").or_insert(Value::Null);
        } else {
            claims.remove("email_verified");
        }
        for (name, value) in said {
            claims.entry(name).or_insert(value);
        }
        Ok(())
    }
}

fn verifier(secrets: &Secrets<'_>) -> PkceCodeVerifier {
    PkceCodeVerifier::new(secrets.verifier.expose_secret().to_owned())
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<SecretString>,
}

fn bounded(request: Request, timeout: Duration) -> Request {
    request.timeout(timeout).response_limit(LIMIT)
}

async fn read<T: DeserializeOwned>(http: &Client, timeout: Duration, address: &str) -> Result<T, Error> {
    let url = protected(address).map_err(Error::Provider)?;
    let request = bounded(Request::get(url), timeout).header("accept", "application/json");
    let answer = http.send(request).await?;
    serde_json::from_slice(&answer.body).map_err(|error| Error::Provider(format!("its documents: {error}")))
}

/// With the cause: of a signature that does not hold, the outer error says only that.
fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Whole seconds; some write them with a point. A clock that is ahead of ours by a little means now.
fn auth_time(claims: &Map<String, Value>, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, Error> {
    let Some(said) = claims.get("auth_time").filter(|said| !said.is_null()) else { return Ok(None) };
    let at = said.as_f64().and_then(|seconds| DateTime::from_timestamp(seconds as i64, 0));
    match at {
        Some(at) if at > now + TOLERANCE => Err(Error::Token("its auth_time lies in the future".into())),
        Some(at) => Ok(Some(at.min(now))),
        None => Err(Error::Token("its auth_time is no time".into())),
    }
}

fn identity(claims: &Map<String, Value>, groups_claim: Option<&str>) -> Result<Identity, Error> {
    let text =
        |name: &str| claims.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    if subject.is_empty() || subject.len() > LONGEST_SUBJECT || subject.contains('\0') {
        return Err(Error::Token("its subject is none".into()));
    }
    let groups = match groups_claim.and_then(|name| claims.get(name)) {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    if groups.len() > MOST_GROUPS {
        return Err(Error::Token(format!("it names more than {MOST_GROUPS} groups")));
    }
    Ok(Identity {
        subject: subject.to_owned(),
        email: text("email").and_then(|text| EmailAddress::parse(text).ok()),
        email_verified: match claims.get("email_verified") {
            Some(Value::Bool(verified)) => Some(*verified),
            Some(Value::String(text)) => Some(text == "true"),
            _ => None,
        },
        name: text("name").map(str::to_owned),
        groups: groups.into_iter().collect(),
        proven_at: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuers_are_https_and_nothing_besides() {
        for good in [
            "https://id.example/realms/a",
            "https://id.example/",
            "http://127.0.0.1:8080",
            "http://[::1]:1/a",
        ] {
            assert_eq!(check_issuer(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "id.example",
            "http://id.example",
            "http://10.0.0.1/",
            "ftp://id.example",
            "file:///etc/passwd",
            "https://id.example/?a=b",
            "https://id.example/#a",
            "https://user:word@id.example/",
            "https://id.example/.well-known/openid-configuration",
            " https://id.example",
        ] {
            assert!(check_issuer(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_time_is_one_or_the_token_proves_nothing() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let of = |said: Value| {
            let claims = serde_json::json!({ "auth_time": said });
            auth_time(claims.as_object().unwrap(), now).map(|at| at.map(|at| at.timestamp()))
        };
        assert_eq!(auth_time(&Map::new(), now).unwrap(), None);
        for (said, at) in [
            (serde_json::json!(1_799_999_000), Some(1_799_999_000)),
            (serde_json::json!(1_799_999_000.5), Some(1_799_999_000)),
            (serde_json::json!(1_800_000_060), Some(1_800_000_000)),
            (Value::Null, None),
        ] {
            assert_eq!(of(said.clone()).unwrap(), at, "{said}");
        }
        for wrong in [
            serde_json::json!(1_800_000_200),
            serde_json::json!("yesterday"),
            serde_json::json!(1e300),
            serde_json::json!([1]),
        ] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn claims_that_are_none_are_left_out() {
        let claims = |json: Value| json.as_object().unwrap().clone();
        let of = |json: Value| identity(&claims(json), Some("groups"));
        let all = of(serde_json::json!({"sub": "1", "email": "Ada@Acme.example", "email_verified": "true", "name": " Ada ",
                                        "groups": ["a", 1, "b"]}))
        .unwrap();
        assert_eq!(all.email.unwrap().as_str(), "ada@acme.example");
        assert_eq!((all.email_verified, all.name.as_deref()), (Some(true), Some("Ada")));
        assert_eq!(all.groups.into_iter().collect::<Vec<_>>(), ["a", "b"]);
        let odd =
            of(serde_json::json!({"sub": "1", "email": ["x"], "email_verified": 1, "groups": "a"})).unwrap();
        assert_eq!((odd.email, odd.email_verified, odd.groups.len()), (None, None, 1));
        for sub in
            [serde_json::json!(""), serde_json::json!(7), serde_json::json!("a\u{0}"), "x".repeat(256).into()]
        {
            assert!(of(serde_json::json!({"sub": sub})).is_err());
        }
    }
}
