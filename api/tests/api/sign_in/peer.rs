//! An OpenID Connect provider that says what the test wants, true or not.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How discovery goes.
#[derive(Clone, Debug)]
pub enum Manner {
    Usual,
    /// With these fields over the usual ones.
    With(Value),
    /// Without an end.
    Endless,
    /// Nothing at all.
    Silent,
    Redirect(String),
    Text(String),
}

#[derive(Debug)]
struct Said {
    manner: Manner,
    /// What the token endpoint answers, by code.
    tokens: HashMap<String, String>,
    userinfo: Value,
    /// What it was asked: the form and the `Authorization` header.
    asked: Vec<(HashMap<String, String>, String)>,
    discoveries: usize,
}

#[derive(Clone)]
struct Shared {
    issuer: String,
    public: Vec<u8>,
    said: Arc<Mutex<Said>>,
}

pub struct Peer {
    shared: Shared,
    private: Vec<u8>,
    server: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Peer {
    pub async fn start() -> Peer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let random = SystemRandom::new();
        let private = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.as_ref(), &random).unwrap();
        let said = Said {
            manner: Manner::Usual,
            tokens: HashMap::new(),
            userinfo: json!({"sub": "7"}),
            asked: Vec::new(),
            discoveries: 0,
        };
        let public = pair.public_key().as_ref().to_vec();
        let shared = Shared { issuer, public, said: Arc::new(Mutex::new(said)) };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(keys))
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Peer { shared, private: private.as_ref().to_vec(), server }
    }

    pub fn issuer(&self) -> &str {
        &self.shared.issuer
    }

    pub fn behave(&self, manner: Manner) {
        self.shared.said.lock().unwrap().manner = manner;
    }

    pub fn userinfo(&self, claims: Value) {
        self.shared.said.lock().unwrap().userinfo = claims;
    }

    /// From now on this code is worth this token.
    pub fn answer(&self, code: &str, id_token: String) {
        self.shared.said.lock().unwrap().tokens.insert(code.to_owned(), id_token);
    }

    pub fn asked(&self) -> Vec<(HashMap<String, String>, String)> {
        self.shared.said.lock().unwrap().asked.clone()
    }

    pub fn discoveries(&self) -> usize {
        self.shared.said.lock().unwrap().discoveries
    }

    /// The bytes of the public key, as somebody would take them for a shared secret.
    pub fn public_key(&self) -> &[u8] {
        &self.shared.public
    }

    pub fn signed(&self, claims: &Value) -> String {
        let header = Header { kid: Some("one".into()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(&self.private)).unwrap()
    }

    pub fn signed_with_secret(&self, claims: &Value, secret: &[u8]) -> String {
        let header = Header { kid: Some("one".into()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).unwrap()
    }
}

pub fn unsigned(claims: &Value) -> String {
    let part = |json: Value| URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.", part(json!({"alg": "none", "typ": "JWT"})), part(claims.clone()))
}

async fn discovery(State(shared): State<Shared>) -> Response {
    let manner = {
        let mut said = shared.said.lock().unwrap();
        said.discoveries += 1;
        said.manner.clone()
    };
    let issuer = &shared.issuer;
    let mut document = json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize?tenant=a"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/userinfo"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        // It would take anything.
        "id_token_signing_alg_values_supported": ["RS256", "ES256", "HS256", "none"],
    });
    match manner {
        Manner::Usual => Json(document).into_response(),
        Manner::With(fields) => {
            document.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            Json(document).into_response()
        }
        Manner::Endless => {
            let piece = Bytes::from(vec![b' '; 64 * 1024]);
            let endless = futures::stream::repeat_with(move || Ok::<_, std::io::Error>(piece.clone()));
            ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(endless)).into_response()
        }
        Manner::Silent => std::future::pending().await,
        Manner::Redirect(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Manner::Text(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
    }
}

async fn keys(State(shared): State<Shared>) -> Json<Value> {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let key = &shared.public;
    Json(json!({"keys": [{"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "one",
                          "x": part(&key[1..33]), "y": part(&key[33..])}]}))
}

/// A code is good once.
async fn token(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let form: HashMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
    let authorization = headers.get(header::AUTHORIZATION).map_or("", |value| value.to_str().unwrap());
    let mut said = shared.said.lock().unwrap();
    said.asked.push((form.clone(), authorization.to_owned()));
    match form.get("code").and_then(|code| said.tokens.remove(code)) {
        Some(token) => {
            Json(json!({"access_token": "of the provider", "token_type": "Bearer", "id_token": token}))
                .into_response()
        }
        None => (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response(),
    }
}

async fn userinfo(State(shared): State<Shared>, headers: HeaderMap) -> Response {
    let said = shared.said.lock().unwrap();
    match headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()) {
        Some(b"Bearer of the provider") => Json(said.userinfo.clone()).into_response(),
        _ => StatusCode::UNAUTHORIZED.into_response(),
    }
}
