//! Story (H28): the operator writes down everything (`debug`), and everything goes wrong. Nothing secret stands in the log, in an error or in the
//! metrics afterwards.

use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::{App, Client};

/// In every secret that this test makes up.
const CANARY: &str = "canary";
const KEYS: &str = "k:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

struct Told {
    /// What every answer said, but those that hand a secret over.
    answers: String,
    /// Those that were handed over.
    secrets: Vec<String>,
}

impl Told {
    async fn ask(&mut self, client: &Client, path: &str, body: Value) -> u16 {
        let answer = client.post(path, body).await;
        self.answers += &String::from_utf8_lossy(&answer.bytes);
        answer.status.as_u16()
    }

    async fn raw(&mut self, client: &Client, path: &str, body: &str) {
        let request = client
            .request(Method::POST, path)
            .header("content-type", "application/json")
            .body(body.to_owned());
        self.answers += &String::from_utf8_lossy(&client.send(request).await.bytes);
    }

    async fn get(&mut self, client: &Client, path: &str) {
        self.answers += &String::from_utf8_lossy(&client.get(path).await.bytes);
    }

    /// A secret that an answer holds.
    async fn handed(&mut self, client: &Client, path: &str, body: Value, fields: &[&str]) -> Value {
        let answer = client.post(path, body).await;
        assert!(answer.status.is_success(), "{path}: {}", String::from_utf8_lossy(&answer.bytes));
        for field in fields {
            self.secrets
                .push(answer.body[field].as_str().unwrap_or_else(|| panic!("{path}: no {field}")).to_owned());
        }
        answer.body
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_written_down() {
    let app = App::start_with(&[
        ("RELAYDESK_LOG", "debug"),
        ("RELAYDESK_LOG_FORMAT", "json"),
        ("RELAYDESK_JWT_SECRET", "canary of the tokens that is long enough for it"),
        ("RELAYDESK_AUDIT_KEY", "canary of the heads that is long enough for it"),
        ("RELAYDESK_JOB_KEYS", KEYS),
    ])
    .await;
    let (admin, nobody) = (app.client.clone(), app.client.with_token(""));
    let mut told = Told { answers: String::new(), secrets: vec![KEYS[2..].to_owned(), admin.token.clone()] };
    logins(&app, &mut told, &nobody).await;

    // Tokens that are none, wherever they can stand.
    for path in ["/hooks/generic/rda_canary", "/hooks/email/rdm_canary", "/v2/enqueue?token=canary"] {
        told.ask(&nobody, path, json!({"title": "x"})).await;
    }
    for path in ["/hooks/generic", "/hooks/email", "/api/v1/incidents"] {
        told.ask(&nobody.with_token("rd_canary"), path, json!({"title": "x"})).await;
    }
    told.ask(&nobody, "/downloads/reports", json!({"token": "rdl_canary"})).await;
    for path in
        ["/downloads/reports/rdd_canary", "/downloads/reports/rdl_canary", "/api/v1/users/me?token=canary"]
    {
        told.get(&nobody, path).await;
    }
    let made = json!({"kind": "generic", "name": "probe"});
    let hook = told.handed(&admin, "/api/v1/alert-sources", made, &["token"]).await["token"]
        .as_str()
        .unwrap()
        .to_owned();
    told.raw(&nobody, &format!("/hooks/generic/{hook}"), "{ no JSON").await;
    told.raw(&nobody.with_token(&hook), "/hooks/generic", "[7]").await;

    // What is sent, to where nobody listens.
    let closed = format!("http://127.0.0.1:{}", testkit::free_port());
    for (kind, config) in [
        ("slack", json!({"webhook_url": format!("{closed}/services/canary")})),
        ("slack", json!({"bot_token": "xoxb-canary", "channel": "#x", "api_url": format!("{closed}/api")})),
        ("teams", json!({"webhook_url": format!("{closed}/workflows?sig=canary")})),
    ] {
        let channel =
            json!({"kind": kind, "name": format!("{kind} {}", told.answers.len()), "config": config});
        let channel = admin.post("/api/v1/notification-channels", channel).await.expect(201);
        let id = channel["id"].as_str().unwrap();
        told.answers += &channel.to_string();
        assert_eq!(
            told.ask(&admin, &format!("/api/v1/notification-channels/{id}/test"), json!({})).await,
            202
        );
    }
    let provider = json!({"name": "Account", "issuer": closed, "client_id": "x", "client_secret": "canary of the client"});
    let provider = admin.post("/api/v1/identity-providers", provider).await.expect(201);
    told.answers += &provider.to_string();
    let provider = provider["id"].as_str().unwrap();
    for path in ["start?return_to=/", "callback?code=canary&state=canary"] {
        told.get(&nobody, &format!("/api/v1/auth/oidc/{provider}/{path}")).await;
    }
    told.ask(&nobody, "/api/v1/auth/oidc/token", json!({"code": "rdc_canary"})).await;

    let tried = |page: &Value| {
        let messages = page["items"].as_array().unwrap();
        let to_channels = messages.iter().filter(|message| message["channel"] != "mail");
        to_channels.filter(|message| message["attempts"].as_i64() > Some(0)).count() == 3
    };
    admin.within(Duration::from_secs(60), "/api/v1/notifications", tried).await;
    let log = std::fs::read_to_string(app.folder.path().join("relaydesk.log")).unwrap();
    let metrics = String::from_utf8(nobody.get("/metrics").await.bytes).unwrap();
    assert!(log.lines().count() > 50 && log.contains("DEBUG"), "everything is written down");
    for (what, text) in [("log", &log), ("an answer", &told.answers), ("the metrics", &metrics)] {
        for secret in told.secrets.iter().map(String::as_str).chain([CANARY]) {
            let line = text.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} stands in {what}: {}", line.unwrap_or_default());
        }
    }
}

/// Passwords, codes and tokens of a person, right and wrong.
async fn logins(app: &App, told: &mut Told, nobody: &Client) {
    let agent = app.organization.agent.user_id().unwrap();
    let (first, second) = ("canary that somebody typed", "canary that nobody else knows");
    let set = format!("/api/v1/users/{agent}/set-password");
    assert_eq!(told.ask(&app.client, &set, json!({"password": first})).await, 204);
    let login = |password: &str| json!({"email": "agent@acme.example", "password": password});
    assert_eq!(told.ask(nobody, "/api/v1/auth/login", login("canary of a guess")).await, 401);
    let (path, tokens) = ("/api/v1/auth/login", ["access", "refresh"]);
    let access =
        told.handed(nobody, path, login(first), &tokens).await["access"].as_str().unwrap().to_owned();
    let person = nobody.with_token(&access);
    for (current, new, status) in [("canary no", second, 422), (first, "canary", 422), (first, second, 204)] {
        let body = json!({"current_password": current, "new_password": new});
        assert_eq!(told.ask(&person, "/api/v1/auth/change-password", body).await, status);
    }
    let again = "/api/v1/auth/reauthenticate";
    assert_eq!(told.ask(&person, again, json!({"password": "canary of a thief"})).await, 422);
    let again = told.handed(&person, again, json!({"password": second}), &tokens).await;
    let person = nobody.with_token(again["access"].as_str().unwrap());
    told.handed(&person, "/api/v1/api-tokens", json!({"name": "x"}), &["token"]).await;
    told.handed(&person, "/api/v1/auth/mfa/enable", json!({"password": second}), &["secret"]).await;
    told.ask(&person, "/api/v1/auth/mfa/verify", json!({"code": "canary"})).await;
    for (path, body) in [
        ("/api/v1/auth/refresh", json!({"refresh": "rdr_canary"})),
        ("/api/v1/auth/mfa/verify", json!({"mfa_token": "rdm_canary", "code": "canary"})),
        (
            "/api/v1/auth/password-confirm",
            json!({"token": "rdp_canary", "new_password": "canary, a long one"}),
        ),
        ("/api/v1/auth/verify-token", json!({"token": "canary"})),
    ] {
        told.ask(nobody, path, body).await;
    }
    told.raw(nobody, "/api/v1/auth/login", "{\"email\": \"agent@acme.example\", \"password\": \"canary")
        .await;
    told.raw(nobody, "/api/v1/auth/login", "{\"email\": 7, \"password\": \"canary of the wrong type\"}")
        .await;
}
