//! Second factors: enrolled, asked for, not to be guessed, lost.

use crate::support::Api;
use actions::totp;
use axum::http::Method;
use chrono::TimeDelta;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";
const LOGIN: &str = "/api/v1/auth/login";
const ENABLE: &str = "/api/v1/auth/mfa/enable";
const VERIFY: &str = "/api/v1/auth/mfa/verify";
const DISABLE: &str = "/api/v1/auth/mfa/disable";

struct Agent {
    api: Api,
    secret: Vec<u8>,
    recovery_codes: Vec<String>,
    /// Of the login before there was a second factor.
    access: String,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// RFC 4648, the other way round.
pub fn unbase32(text: &str) -> Vec<u8> {
    let (mut bytes, mut buffer, mut bits) = (Vec::new(), 0u32, 0);
    for c in text.chars() {
        buffer = buffer << 5 | "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(c).unwrap() as u32;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits) as u8);
        }
    }
    bytes
}

async fn with_password() -> Api {
    let api = Api::start().await;
    api.set_password(api.organization.agent.user_id().unwrap(), PASSWORD).await;
    api
}

async fn login(api: &Api) -> Value {
    let body = json!({"email": "agent@acme.example", "password": PASSWORD});
    api.post(LOGIN, "", body).await.expect(200).json
}

/// What the authenticator shows, `ahead` steps from now.
async fn code(api: &Api, secret: &[u8], ahead: i64) -> String {
    let now = api.test_db.db.begin_system().await.unwrap().now();
    totp::code(secret, totp::step_at(now) + ahead)
}

fn later(api: &Api) {
    api.test_db.db.clock().shift(TimeDelta::seconds(60));
}

impl Agent {
    async fn enrolled() -> Agent {
        let api = with_password().await;
        let access = text(&login(&api).await["access"]);
        let begun = api.post(ENABLE, &access, json!({"password": PASSWORD})).await.expect(200).json;
        let secret = unbase32(&text(&begun["secret"]));
        let first = code(&api, &secret, 0).await;
        let done = api.post(VERIFY, &access, json!({"code": first})).await.expect(200).json;
        assert!(done["access"].is_null(), "{done}");
        let recovery_codes = done["recovery_codes"].as_array().unwrap().iter().map(text).collect();
        later(&api);
        Agent { api, secret, recovery_codes, access }
    }

    async fn code(&self) -> String {
        code(&self.api, &self.secret, 0).await
    }

    /// The token of a login that waits for a code.
    async fn halfway(&self) -> String {
        let answer = login(&self.api).await;
        assert_eq!((&answer["mfa_required"], &answer["must_enrol"]), (&json!(true), &json!(false)));
        assert!(answer["access"].is_null() && answer["refresh"].is_null(), "{answer}");
        text(&answer["mfa_token"])
    }

    async fn verify(&self, token: &str, code: &str) -> crate::support::Answer {
        self.api.post(VERIFY, "", json!({"mfa_token": token, "code": code})).await
    }
}

#[tokio::test]
async fn enrolled_and_asked_for_from_then_on() {
    let api = with_password().await;
    let access = text(&login(&api).await["access"]);
    api.post(ENABLE, &access, json!({"password": "wrong"})).await.expect(422);
    api.post(ENABLE, &access, json!({})).await.expect(422);
    api.post(ENABLE, &api.agent, json!({"password": PASSWORD})).await.expect(403);
    api.post(VERIFY, &access, json!({"code": "123456"})).await.expect(409);
    let begun = api.post(ENABLE, &access, json!({"password": PASSWORD})).await.expect(200).json;
    let (uri, secret) = (text(&begun["otpauth_uri"]), text(&begun["secret"]));
    assert!(uri.starts_with("otpauth://totp/Relaydesk%20acme:agent@acme.example?secret="), "{uri}");
    assert!(uri.contains(&secret) && text(&begun["qr_svg"]).contains("<svg"), "{uri}");
    // Not asked for before it was shown to work.
    assert!(login(&api).await["access"].is_string());
    api.post(VERIFY, &access, json!({"code": "000000"})).await.expect(422);
    // Begun again: the first secret is void.
    let again = api.post(ENABLE, &access, json!({"password": PASSWORD})).await.expect(200).json;
    let old = code(&api, &unbase32(&secret), 0).await;
    api.post(VERIFY, &access, json!({"code": old})).await.expect(422);
    let secret = unbase32(&text(&again["secret"]));
    let typed = code(&api, &secret, 0).await;
    let done = api.post(VERIFY, &access, json!({"code": format!("{} {}", &typed[..3], &typed[3..])})).await;
    assert_eq!(done.expect(200).json["recovery_codes"].as_array().unwrap().len(), 10);
    api.post(ENABLE, &access, json!({"password": PASSWORD})).await.expect(409);
    let state = api.get("/api/v1/auth/mfa", &access).await.expect(200).json;
    assert_eq!(state, json!({"enabled": true, "required": false, "recovery_codes_left": 10}));

    let token = text(&login(&api).await["mfa_token"]);
    api.get("/api/v1/users/me", &token).await.expect(401);
    api.post("/api/v1/auth/refresh", "", json!({"refresh": token})).await.expect(401);
    // The code that confirmed it was used.
    api.post(VERIFY, "", json!({"mfa_token": token, "code": typed})).await.expect(422);
    let next = code(&api, &secret, 1).await;
    let tokens = api.post(VERIFY, "", json!({"mfa_token": token, "code": next})).await.expect(200).json;
    assert!(tokens["recovery_codes"].is_null());
    api.get("/api/v1/users/me", &text(&tokens["access"])).await.expect(200);
    assert_eq!(api.events("auth.mfa_enrolled").await.len(), 1);
    // Two while it was made, and one at the login.
    let at: Vec<Value> =
        api.events("auth.mfa_failed").await.into_iter().map(|told| told["at"].clone()).collect();
    assert_eq!(at, ["enrolment", "enrolment", "login"]);
}

/// H17: a code works once, however many show it at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_with_the_same_code_one_gets_in() {
    let agent = Agent::enrolled().await;
    let mut tokens = Vec::new();
    for _ in 0..10 {
        tokens.push(agent.halfway().await);
    }
    let code = agent.code().await;
    let attempts = (0..100).map(|n| agent.verify(&tokens[n % 10], &code));
    let answers = futures::future::join_all(attempts).await;
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status.as_u16()).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 401, 422, 429].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn neither_the_code_nor_the_token_is_good_twice() {
    let agent = Agent::enrolled().await;
    let (first, second) = (agent.halfway().await, agent.halfway().await);
    let code = agent.code().await;
    agent.verify(&first, &code).await.expect(200);
    agent.verify(&second, &code).await.expect(422);
    later(&agent.api);
    let code = agent.code().await;
    agent.verify(&first, &code).await.expect(401);
    agent.verify(&second, &code).await.expect(200);
    // And the token is good for ten minutes.
    let late = agent.halfway().await;
    agent.api.test_db.db.clock().shift(TimeDelta::minutes(11));
    let code = agent.code().await;
    agent.verify(&late, &code).await.expect(401);
}

/// H17: five tries in a quarter of an hour, so 480 a day, whatever the number of logins begun.
#[tokio::test]
async fn codes_cannot_be_guessed() {
    let agent = Agent::enrolled().await;
    let mut tried = 0;
    for _ in 0..12 {
        let (token, mut statuses) = (agent.halfway().await, Vec::new());
        let right = agent.code().await;
        let wrong = if right == "123456" { "654321" } else { "123456" };
        for _ in 0..4 {
            statuses.push(agent.verify(&token, wrong).await.status.as_u16());
        }
        tried += statuses.iter().filter(|status| **status == 422).count();
        agent.api.test_db.db.clock().shift(TimeDelta::minutes(5));
    }
    assert!((5..=20).contains(&tried), "{tried} in an hour");
    // Who waits gets in.
    agent.api.test_db.db.clock().shift(TimeDelta::minutes(15));
    let token = agent.halfway().await;
    let code = agent.code().await;
    agent.verify(&token, &code).await.expect(200);
}

#[tokio::test]
async fn recovery_codes_are_good_once() {
    let agent = Agent::enrolled().await;
    // 120 bits each: enough for a hash that is fast.
    assert!(agent.recovery_codes.iter().all(|code| code.replace('-', "").len() == 24));
    let code = agent.recovery_codes[0].to_uppercase().replace('-', " ");
    let token = agent.halfway().await;
    agent.verify(&token, &code).await.expect(200);
    let token = agent.halfway().await;
    agent.verify(&token, &code).await.expect(422);
    agent.verify(&token, &agent.recovery_codes[1]).await.expect(200);
    let state = agent.api.get("/api/v1/auth/mfa", &agent.access).await.expect(200).json;
    assert_eq!(state["recovery_codes_left"], 8);
    let renew = "/api/v1/auth/mfa/recovery-codes";
    agent.api.post(renew, &agent.access, json!({"code": agent.recovery_codes[2]})).await.expect(422);
    let body = json!({"code": agent.code().await});
    let new = agent.api.post(renew, &agent.access, body).await.expect(200).json;
    let token = agent.halfway().await;
    agent.verify(&token, &agent.recovery_codes[2]).await.expect(422);
    agent.verify(&token, new["recovery_codes"][0].as_str().unwrap()).await.expect(200);
    assert_eq!(agent.api.events("auth.mfa_recovery_code_used").await.len(), 3);
}

#[tokio::test]
async fn disabled_by_who_has_both_or_by_an_admin() {
    let agent = Agent::enrolled().await;
    let api = &agent.api;
    let disable = |password: &str, code: String| {
        api.post(DISABLE, &agent.access, json!({"password": password, "code": code}))
    };
    disable("wrong", agent.code().await).await.expect(422);
    disable(PASSWORD, "123456".into()).await.expect(422);
    api.post(DISABLE, &api.agent, json!({"password": PASSWORD, "code": "1"})).await.expect(403);
    disable(PASSWORD, agent.code().await).await.expect(204);
    assert!(login(api).await["access"].is_string());
    disable(PASSWORD, agent.code().await).await.expect(409);

    let agent = Agent::enrolled().await;
    let path = format!("/api/v1/users/{}/mfa", agent.api.organization.agent.user_id().unwrap());
    agent.api.delete(&path, &agent.api.agent).await.expect(403);
    let waiting = agent.halfway().await;
    agent.api.delete(&path, &agent.api.admin).await.expect(204);
    agent.api.get("/api/v1/users/me", &agent.access).await.expect(401);
    // Not of oneself: a stolen token would do without password and code.
    let me = agent.api.organization.admin.user_id().unwrap();
    agent.api.delete(&format!("/api/v1/users/{me}/mfa"), &agent.api.admin).await.expect(409);
    let password = json!({"password": "correct horse battery 7 staple"});
    agent.api.post(&format!("/api/v1/users/{me}/set-password"), &agent.api.admin, password).await.expect(409);
    let code = agent.code().await;
    agent.verify(&waiting, &code).await.expect(401);
    assert!(login(&agent.api).await["access"].is_string());
    let left: i64 = sqlx::query_scalar("select count(*) from recovery_codes")
        .fetch_one(&mut agent.api.test_db.owner().await)
        .await
        .unwrap();
    assert_eq!((left, agent.api.events("auth.mfa_disabled").await.len()), (0, 1));
}

/// H19: a new password is one factor.
#[tokio::test]
async fn a_forgotten_password_does_not_get_around_it() {
    let agent = Agent::enrolled().await;
    let user = agent.api.organization.agent.user_id().unwrap();
    let mut tx = agent.api.test_db.db.begin(agent.api.organization.id).await.unwrap();
    let token = actions::passwords::offer_reset(&mut tx, user).await.unwrap();
    tx.commit().await.unwrap();
    let waiting = agent.halfway().await;
    let body =
        json!({"token": secrecy::ExposeSecret::expose_secret(&token), "new_password": "an entirely new one"});
    let answer = agent.api.post("/api/v1/auth/password-confirm", "", body).await.expect(204);
    assert_eq!(answer.text, "");
    let code = agent.code().await;
    agent.verify(&waiting, &code).await.expect(401);
    let body = json!({"email": "agent@acme.example", "password": "an entirely new one"});
    let answer = agent.api.post(LOGIN, "", body).await.expect(200).json;
    assert_eq!(answer["mfa_required"], true);
    agent.verify(&text(&answer["mfa_token"]), &code).await.expect(200);
}

#[tokio::test]
async fn an_organization_asks_a_role_for_it() {
    let api = with_password().await;
    let before = login(&api).await;
    let organization = format!("/api/v1/organizations/{}", api.organization.id);
    let ask = |roles: Value| api.patch(&organization, &api.admin, json!({"mfa_required_roles": roles}));
    ask(json!(["nobody"])).await.expect(422);
    let asked = ask(json!(["agent", "admin", "agent"])).await.expect(200).json;
    assert_eq!(asked["mfa_required_roles"], json!(["admin", "agent"]));
    // Who is in stays in until the token expires.
    api.get("/api/v1/users/me", &text(&before["access"])).await.expect(200);
    api.post("/api/v1/auth/refresh", "", json!({"refresh": before["refresh"]})).await.expect(401);

    let answer = login(&api).await;
    assert_eq!((&answer["mfa_required"], &answer["must_enrol"]), (&json!(true), &json!(true)));
    let token = text(&answer["mfa_token"]);
    api.get("/api/v1/users/me", &token).await.expect(401);
    api.post(VERIFY, "", json!({"mfa_token": token, "code": "123456"})).await.expect(409);
    let begun = api.post(ENABLE, "", json!({"mfa_token": token})).await.expect(200).json;
    let secret = unbase32(&text(&begun["secret"]));
    let body = json!({"mfa_token": token, "code": code(&api, &secret, 0).await});
    let done = api.post(VERIFY, "", body).await.expect(200).json;
    assert_eq!(done["recovery_codes"].as_array().unwrap().len(), 10);
    let access = text(&done["access"]);
    api.get("/api/v1/users/me", &access).await.expect(200);
    api.post(ENABLE, "", json!({"mfa_token": token})).await.expect(401);
    later(&api);
    let body = json!({"password": PASSWORD, "code": code(&api, &secret, 0).await});
    api.post(DISABLE, &access, body).await.expect(409);
    // An end user of the same organization is not asked.
    api.set_password(api.organization.end_user.user_id().unwrap(), PASSWORD).await;
    let body = json!({"email": "end-user@acme.example", "password": PASSWORD});
    assert!(api.post(LOGIN, "", body).await.expect(200).json["access"].is_string());
}

#[tokio::test]
async fn without_keys_nobody_is_asked() {
    let mut api = with_password().await;
    api.state.secrets = queue::KeyRing::default();
    api.router = api::app(api.state.clone());
    let access = text(&login(&api).await["access"]);
    let answer = api.post(ENABLE, &access, json!({"password": PASSWORD})).await.expect(409);
    assert!(answer.text.contains("RELAYDESK_JOB_KEYS"), "{}", answer.text);
    let organization = format!("/api/v1/organizations/{}", api.organization.id);
    api.patch(&organization, &api.admin, json!({"mfa_required_roles": ["admin"]})).await.expect(409);
}

/// H28: neither secrets nor codes lie in the database, and a new key takes secrets over as they are used.
#[tokio::test]
async fn secrets_are_sealed_and_follow_the_keys() {
    let mut agent = Agent::enrolled().await;
    let mut owner = agent.api.test_db.owner().await;
    let rows: Vec<String> = sqlx::query_scalar(
        "select f::text from second_factors f union all select r::text from recovery_codes r
         union all select c::text from login_challenges c union all select e.payload::text from events e",
    )
    .fetch_all(&mut owner)
    .await
    .unwrap();
    let plain = agent.recovery_codes[0].replace('-', "");
    for secret in
        [hex::encode(&agent.secret), totp::base32(&agent.secret), plain, agent.recovery_codes[0].clone()]
    {
        assert!(!rows.iter().any(|row| row.contains(&secret)), "{secret} lies in the database");
    }
    let old = "test:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let new = "new:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    for (keys, status) in [(format!("{new},{old}"), 200), (new.to_owned(), 200), (old.to_owned(), 503)] {
        agent.api.state.secrets = keys.parse().unwrap();
        agent.api.router = api::app(agent.api.state.clone());
        later(&agent.api);
        let token = agent.halfway().await;
        let code = agent.code().await;
        agent.verify(&token, &code).await.expect(status);
    }
}

#[tokio::test]
async fn a_lock_ends_half_logins() {
    let agent = Agent::enrolled().await;
    let waiting = agent.halfway().await;
    let path = format!("/api/v1/users/{}/lock", agent.api.organization.agent.user_id().unwrap());
    agent.api.call(Method::POST, &path, &agent.api.admin, None).await.expect(200);
    let code = agent.code().await;
    agent.verify(&waiting, &code).await.expect(401);
}
