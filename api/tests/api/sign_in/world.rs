//! An organization with a provider, and a browser in front of it.

use super::peer::Peer;
use crate::support::{Answer, Api, request};
use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

pub const PROVIDERS: &str = "/api/v1/identity-providers";
pub const SECRET: &str = "between us: a:b/ö";

pub struct World {
    pub api: Api,
    pub peer: Peer,
    pub provider: String,
}

/// What a browser has after it was sent to the provider.
#[derive(Clone, Debug)]
pub struct Begun {
    pub state: String,
    pub nonce: String,
    pub cookie: String,
    pub sent: HashMap<String, String>,
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn cookie_of(answer: &Answer) -> String {
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

impl World {
    /// With these fields over the usual ones.
    pub async fn with(settings: Value) -> World {
        let (api, peer) = (Api::start().await, Peer::start().await);
        let provider = add(&api, &api.admin, peer.issuer(), settings).await;
        World { api, peer, provider }
    }

    pub async fn change(&self, settings: Value) {
        self.api
            .patch(&format!("{PROVIDERS}/{}", self.provider), &self.api.admin, settings)
            .await
            .expect(200);
    }

    pub async fn begin(&self) -> Begun {
        self.begin_at(&self.provider).await
    }

    pub async fn begin_at(&self, provider: &str) -> Begun {
        self.begin_with(provider, "").await
    }

    pub async fn begin_with(&self, provider: &str, more: &str) -> Begun {
        let path = format!("/api/v1/auth/oidc/{provider}/start?return_to=%2F%3Fticket%3DINC0000001{more}");
        let answer = self.api.get(&path, "").await.expect(303);
        let location = url::Url::parse(answer.header("location")).unwrap();
        let sent: HashMap<String, String> = location.query_pairs().into_owned().collect();
        assert_eq!(location.path(), "/authorize");
        Begun { state: sent["state"].clone(), nonce: sent["nonce"].clone(), cookie: cookie_of(&answer), sent }
    }

    /// Claims as they should be.
    pub async fn claims(&self, begun: &Begun, more: Value) -> Value {
        let now = self.api.test_db.db.begin_system().await.unwrap().now().timestamp();
        let mut claims = json!({"iss": self.peer.issuer(), "aud": "relaydesk", "sub": "7", "nonce": begun.nonce,
                                "iat": now, "exp": now + 300});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    }

    /// With a code that is worth a token with these claims over the usual ones.
    pub async fn returns_with(&self, begun: &Begun, more: Value) -> String {
        let token = self.peer.signed(&self.claims(begun, more).await);
        self.returns_with_token(begun, token).await
    }

    pub async fn returns_with_token(&self, begun: &Begun, token: String) -> String {
        self.peer.answer("a-code", token);
        self.returns(&self.provider, &begun.cookie, &format!("state={}&code=a-code", begun.state)).await
    }

    /// The browser comes back. Answers what stands behind `#`.
    pub async fn returns(&self, provider: &str, cookie: &str, query: &str) -> String {
        let mut request =
            request(Method::GET, &format!("/api/v1/auth/oidc/{provider}/callback?{query}"), "", None);
        if !cookie.is_empty() {
            request.headers_mut().insert("cookie", format!("theme=dark; {cookie}").parse().unwrap());
        }
        let answer = self.api.send(request).await.expect(303);
        let (path, fragment) = answer.header("location").split_once('#').expect("a fragment");
        assert!(path == "/?ticket=INC0000001" || path == "/", "{path}");
        fragment.to_owned()
    }

    /// A whole login up to the answer of the exchange.
    pub async fn tokens(&self, claims: Value) -> Value {
        let begun = self.begin().await;
        let fragment = self.returns_with(&begun, claims).await;
        let code = fragment.strip_prefix("sign_in=").unwrap_or_else(|| panic!("{fragment}"));
        self.exchange(code, &begun.cookie).await.expect(200).json
    }

    /// Whose access token it is.
    pub async fn me(&self, tokens: &Value) -> Value {
        self.api.get("/api/v1/users/me", &text(&tokens["access"])).await.expect(200).json
    }

    /// A login that is refused: the word.
    pub async fn refusal(&self, claims: Value) -> String {
        let begun = self.begin().await;
        let fragment = self.returns_with(&begun, claims).await;
        fragment.strip_prefix("sign_in_error=").unwrap_or_else(|| panic!("{fragment}")).to_owned()
    }

    pub async fn exchange(&self, code: &str, cookie: &str) -> Answer {
        let mut request = request(Method::POST, "/api/v1/auth/oidc/token", "", Some(json!({"code": code})));
        if !cookie.is_empty() {
            request.headers_mut().insert("cookie", cookie.parse().unwrap());
        }
        self.api.send(request).await
    }

    pub async fn count(&self, table: &'static str) -> i64 {
        sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) from {table}")))
            .fetch_one(&mut self.api.test_db.owner().await)
            .await
            .unwrap()
    }

    pub async fn sql(&self, statement: &'static str) {
        sqlx::query(statement).execute(&mut self.api.test_db.owner().await).await.unwrap();
    }
}

pub async fn add(api: &Api, token: &str, issuer: &str, settings: Value) -> String {
    let mut body = json!({"name": "Acme account", "issuer": issuer, "client_id": "relaydesk", "client_secret": SECRET,
                          "creates_users": true});
    body.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    text(&api.post(PROVIDERS, token, body).await.expect(201).json["id"])
}

pub fn verified(email: &str) -> Value {
    json!({"email": email, "email_verified": true, "name": "Ada Lovelace"})
}

/// RFC 7636, 4.2.
pub fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(verifier))
}
