//! `Api`: the router on a database of its own, with an organization and its people.

use actions::access::Keys;
use actions::credentials::{hash_token, new_token};
use api::{AppState, Settings};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use connectors::http::{Client, Destinations};
use domain::Actor;
use secrecy::ExposeSecret;
use serde_json::Value;
use std::net::SocketAddr;
use store::blobs::Blobs;
use testkit::{Organization, TestDb};
use tower::ServiceExt;

pub struct Api {
    pub test_db: TestDb,
    pub organization: Organization,
    /// API tokens of its people.
    pub admin: String,
    pub agent: String,
    pub end_user: String,
    pub state: AppState,
    pub router: Router,
    _blobs: tempfile::TempDir,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Null when the body is no JSON.
    pub json: Value,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Fails the test with the whole answer unless it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    #[track_caller]
    pub fn expect_success(self) -> Self {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text);
        self
    }
}

impl Api {
    pub async fn start() -> Api {
        let test_db = testkit::database().await;
        let organization = testkit::organization(&test_db, "acme").await;
        let blobs = tempfile::tempdir().unwrap();
        let keys = Keys::new(b"a secret of the tests, 32 bytes long");
        let secrets = "test:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".parse().unwrap();
        let state = AppState::new(test_db.db.clone(), Blobs::new(blobs.path()), keys, Settings::default())
            .with_secrets(secrets)
            .with_outgoing(Client::new(Destinations::allowing(["127.0.0.0/8".parse().unwrap()])).unwrap());
        let router = api::app(state.clone());
        let admin = token_of(&test_db, &organization.admin).await;
        let agent = token_of(&test_db, &organization.agent).await;
        let end_user = token_of(&test_db, &organization.end_user).await;
        Api { test_db, organization, admin, agent, end_user, state, router, _blobs: blobs }
    }

    /// Another process of the same installation.
    pub fn another_process(&self) -> Router {
        let keys = Keys::new(b"a secret of the tests, 32 bytes long");
        let (db, blobs) = (self.test_db.db.clone(), self.state.blobs.clone());
        api::app(AppState::new(db, blobs, keys, Settings::default()))
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let text = String::from_utf8_lossy(&to_bytes(body, 64 << 20).await.unwrap()).into_owned();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, json, text }
    }

    pub async fn call(&self, method: Method, path: &str, token: &str, body: Option<Value>) -> Answer {
        self.send(request(method, path, token, body)).await
    }

    /// An API token of a person who was made through the API.
    pub async fn token_of(&self, user: &Value) -> String {
        let id = domain::UserId(user.as_str().expect("an id").parse().expect("an id"));
        let mut tx = self.test_db.db.begin(self.organization.id).await.unwrap();
        let user = store::users::get(&mut tx, id).await.unwrap();
        let rights = domain::Rights::of_role(id, user.role);
        token_of(&self.test_db, &Actor::user(self.organization.id, id, user.name, rights)).await
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        self.call(Method::GET, path, token, None).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call(Method::POST, path, token, Some(body)).await
    }

    /// As from another machine.
    pub async fn post_from(&self, address: &str, path: &str, token: &str, body: Value) -> Answer {
        let mut request = request(Method::POST, path, token, Some(body));
        let peer = SocketAddr::new(address.parse().unwrap(), 50_000);
        request.extensions_mut().insert(ConnectInfo(peer));
        self.send(request).await
    }

    /// Gives a person a password.
    pub async fn set_password(&self, user: domain::UserId, password: &str) {
        let hash = actions::credentials::hash_password(&password.into(), "/password").await.unwrap();
        let mut tx = self.test_db.db.begin(self.organization.id).await.unwrap();
        store::users::set_password_hash(&mut tx, user, &hash).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The access token of a login that begins now.
    pub async fn login_of(&self, person: &Actor) -> String {
        let (user, family) = (person.user_id().unwrap(), domain::SessionId::new());
        let mut tx = self.test_db.db.begin(person.organization).await.unwrap();
        let now = tx.now();
        let new = store::sessions::NewSession {
            id: family,
            user,
            family: family.0,
            login_at: now,
            refresh_hash: &hash_token(new_token("rdr_").expose_secret()),
            expires_at: now + chrono::TimeDelta::days(7),
            user_agent: None,
            ip: None,
            bounds: store::sessions::Bounds::default(),
        };
        store::sessions::insert(&mut tx, &new).await.unwrap();
        tx.commit().await.unwrap();
        self.state.keys.issue(user, person.organization, family.0, now)
    }

    pub async fn admin_login(&self) -> String {
        self.login_of(&self.organization.admin).await
    }

    pub async fn agent_login(&self) -> String {
        self.login_of(&self.organization.agent).await
    }

    /// How often an event of that kind was recorded.
    pub async fn events(&self, kind: &str) -> Vec<Value> {
        sqlx::query_scalar("select payload from events where kind = $1 order by seq")
            .bind(kind)
            .fetch_all(&mut self.test_db.owner().await)
            .await
            .unwrap()
    }

    pub async fn patch(&self, path: &str, token: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, token, Some(body)).await
    }

    pub async fn delete(&self, path: &str, token: &str) -> Answer {
        self.call(Method::DELETE, path, token, None).await
    }
}

/// A request with a token (none when it is empty) and a JSON body.
pub fn request(method: Method, path: &str, token: &str, body: Option<Value>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    match body {
        Some(body) => request
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(body.to_string()))
            .unwrap(),
        None => request.body(Body::empty()).unwrap(),
    }
}

/// A fresh API token of this person.
pub async fn token_of(db: &TestDb, actor: &Actor) -> String {
    let token = new_token("rd_").expose_secret().to_owned();
    let mut tx = db.db.begin(actor.organization).await.unwrap();
    let new = store::api_tokens::NewApiToken {
        user: actor.user_id().unwrap(),
        name: "test",
        hash: &hash_token(&token),
        prefix: &token[..8],
        scopes: None,
        expires_at: None,
    };
    store::api_tokens::insert(&mut tx, &new).await.unwrap();
    tx.commit().await.unwrap();
    token
}
