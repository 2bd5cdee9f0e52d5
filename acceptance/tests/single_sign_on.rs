//! Story: people of an organization log in with the accounts that they have already, at a real OpenID Connect provider.

use reqwest::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, StatusCode, Url};
use serde_json::{Value, json};
use testkit::{App, OidcProvider};

/// As far as a browser goes: it follows no redirect by itself here, so that the story can be told.
struct Browser {
    http: Client,
    app: String,
}

impl Browser {
    #[expect(clippy::disallowed_methods, reason = "a browser, which is on loopback here")]
    fn new(app: &App) -> Browser {
        testkit::install_crypto();
        let http = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        Browser { http, app: app.process.base.clone() }
    }

    /// Logs in at the provider as this person. Answers what stands behind `#` in the end, and the cookie.
    async fn signs_in(&self, provider: &Value, subject: &str) -> (String, String) {
        let start = format!(
            "{}{}?return_to=%2F%3Fticket%3DINC0000001",
            self.app,
            provider["start"].as_str().unwrap()
        );
        let sent = self.http.get(start).send().await.unwrap();
        assert_eq!(sent.status(), StatusCode::SEE_OTHER);
        let cookie = sent.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
        let form = sent.headers()[LOCATION].to_str().unwrap().to_owned();
        assert!(self.http.get(&form).send().await.unwrap().text().await.unwrap().contains("Authorize"));
        let agreed = self
            .http
            .post(&form)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(format!("sub={subject}"));
        let agreed = agreed.send().await.unwrap();
        // The address that the provider was told: the tests' port is not the one of the setting.
        let back = Url::parse(agreed.headers()[LOCATION].to_str().unwrap()).unwrap();
        let back = format!("{}{}?{}", self.app, back.path(), back.query().unwrap());
        let landed = self.http.get(back).header(COOKIE, &cookie).send().await.unwrap();
        assert_eq!(landed.status(), StatusCode::SEE_OTHER);
        let landed = landed.headers()[LOCATION].to_str().unwrap().to_owned();
        let (path, fragment) = landed.split_once('#').unwrap();
        assert_eq!(path, "/?ticket=INC0000001");
        (fragment.to_owned(), cookie)
    }

    async fn exchanges(&self, fragment: &str, cookie: &str) -> Value {
        let code = fragment.strip_prefix("sign_in=").unwrap_or_else(|| panic!("{fragment}"));
        let request = self.http.post(format!("{}/api/v1/auth/oidc/token", self.app)).header(COOKIE, cookie);
        request.json(&json!({"code": code})).send().await.unwrap().json().await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_log_in_with_the_accounts_they_have() {
    let grace = json!({"sub": "grace", "email": "grace@acme.example", "email_verified": true, "name": "Grace Hopper",
                       "groups": ["desk"]});
    let mallory =
        json!({"sub": "mallory", "email": "admin@acme.example", "email_verified": false, "name": "Mallory"});
    let agent = json!({"sub": "agent", "email": "agent@acme.example", "email_verified": true, "groups": ["desk", "net"]});
    let Some(provider) = OidcProvider::start(&[grace, mallory, agent]).await else { return };
    let keys = "test:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let app = App::start_with(&[("RELAYDESK_JOB_KEYS", keys)]).await;
    let team = app.client.post("/api/v1/teams", json!({"name": "Network"})).await.expect(201);
    let settings = json!({"name": "Acme account", "issuer": provider.issuer, "client_id": "relaydesk", "client_secret": "any",
                          "creates_users": true, "links_accounts": true, "groups_claim": "groups",
                          "groups": [{"group": "desk", "role": "agent"}, {"group": "net", "team": team["id"]}]});
    app.client.post("/api/v1/identity-providers", settings).await.expect(201);
    let buttons = app.client.get("/api/v1/auth/oidc?organization=acme").await.expect(200);
    let button = &buttons["items"][0];
    let browser = Browser::new(&app);

    // Somebody new, with the role of her group.
    let (fragment, cookie) = browser.signs_in(button, "grace").await;
    let tokens = browser.exchanges(&fragment, &cookie).await;
    let as_grace = app.client.with_token(tokens["access"].as_str().unwrap());
    let me = as_grace.get("/api/v1/users/me").await.expect(200);
    assert_eq!(
        (&me["email"], &me["name"], &me["role"]),
        (&json!("grace@acme.example"), &json!("Grace Hopper"), &json!("agent"))
    );
    as_grace.post("/api/v1/incidents", json!({"title": "hello"})).await.expect(201);
    let next = as_grace.post("/api/v1/auth/refresh", json!({"refresh": tokens["refresh"]})).await.expect(200);
    assert!(next["access"].is_string());

    // Somebody who was there, by a verified address; nobody by one that is not.
    let (fragment, cookie) = browser.signs_in(button, "agent").await;
    let tokens = browser.exchanges(&fragment, &cookie).await;
    let me =
        app.client.with_token(tokens["access"].as_str().unwrap()).get("/api/v1/users/me").await.expect(200);
    assert_eq!(me["id"], json!(app.organization.agent.user_id().unwrap()));
    let (fragment, _) = browser.signs_in(button, "mallory").await;
    assert_eq!(fragment, "sign_in_error=email_not_verified");
    let members =
        app.client.get(&format!("/api/v1/teams/{}/members", team["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(members["items"].as_array().unwrap().len(), 1);
}
