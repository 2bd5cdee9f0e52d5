//! Logins: shown again before what outlives them, ended by rest and age, and good for little while somebody else knows the password.

use crate::support::{Answer, Api, request};
use actions::totp;
use axum::http::Method;
use chrono::TimeDelta;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";
const LOGIN: &str = "/api/v1/auth/login";
const AGAIN: &str = "/api/v1/auth/reauthenticate";
const SESSIONS: &str = "/api/v1/auth/sessions";
const ME: &str = "/api/v1/users/me";
const PROBLEMS: &str = "https://relaydesk.dev/problems";

async fn start() -> Api {
    let api = Api::start().await;
    api.set_password(api.organization.agent.user_id().unwrap(), PASSWORD).await;
    api
}

async fn login_with(api: &Api, password: &str) -> (String, String) {
    let body = json!({"email": "agent@acme.example", "password": password});
    pair(&api.post(LOGIN, "", body).await.expect(200).json)
}

async fn login(api: &Api) -> (String, String) {
    login_with(api, PASSWORD).await
}

fn pair(json: &Value) -> (String, String) {
    let text = |name: &str| json[name].as_str().unwrap_or_else(|| panic!("no {name} in {json}")).to_owned();
    (text("access"), text("refresh"))
}

async fn refresh(api: &Api, token: &str) -> Answer {
    api.post("/api/v1/auth/refresh", "", json!({"refresh": token})).await
}

fn later(api: &Api, time: TimeDelta) {
    api.test_db.db.clock().shift(time);
}

fn is_a(answer: &Answer, problem: &str) {
    assert_eq!(answer.json["type"], format!("{PROBLEMS}/{problem}"), "{}", answer.text);
}

/// Somebody has got hold of an access token, and would like to stay (ASVS 5.0, 7.2.4, 7.5.1, 7.5.2).
#[tokio::test]
async fn what_outlives_a_login_is_for_who_has_just_shown_who_they_are() {
    let api = start().await;
    let me = api.organization.agent.user_id().unwrap();
    let (other, _) = login(&api).await;
    let (access, old) = login(&api).await;
    let (kept, access) = (access, pair(&refresh(&api, &old).await.expect(200).json));
    later(&api, TimeDelta::minutes(10));
    // A refresh makes it no younger.
    let access = pair(&refresh(&api, &access.1).await.expect(200).json);
    let list = api.get(SESSIONS, &access.0).await.expect(200).json;
    let ids: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    let (own, others) = (format!("{SESSIONS}/{}", ids[0]), format!("{SESSIONS}/{}", ids[1]));
    assert_eq!(list["items"][0]["current"], true);
    let mine = format!("/api/v1/users/{me}/sessions");
    for path in [SESSIONS, &others, &mine] {
        is_a(&api.delete(path, &access.0).await.expect(403), "reauthentication-required");
        assert_ne!(
            api.delete(path, &api.agent).await.expect(403).json["type"],
            Value::Null,
            "nor an API token"
        );
    }
    let keyed = |token: &str| {
        let mut request = request(Method::POST, "/api/v1/api-tokens", token, Some(json!({"name": "x"})));
        request.headers_mut().insert("idempotency-key", "one token".parse().unwrap());
        request
    };
    is_a(&api.send(keyed(&access.0)).await.expect(403), "reauthentication-required");
    let codes = "/api/v1/auth/mfa/recovery-codes";
    is_a(
        &api.post(codes, &access.0, json!({"code": "123456"})).await.expect(403),
        "reauthentication-required",
    );

    let again = |token: &str, body: Value| {
        let token = token.to_owned();
        let api = &api;
        async move { api.post(AGAIN, &token, body).await }
    };
    let wrong = again(&access.0, json!({"password": "a wrong one, of course"})).await.expect(422).json;
    assert_eq!(wrong["errors"][0]["pointer"], "/password");
    again(&api.agent, json!({"password": PASSWORD})).await.expect(403);
    let new = pair(&again(&access.0, json!({"password": PASSWORD})).await.expect(200).json);
    // Copies of the tokens before are good for nothing, and nobody takes that for a theft.
    for token in [&kept, &access.0] {
        api.get(ME, token).await.expect(401);
    }
    refresh(&api, &access.1).await.expect(401);
    again(&access.0, json!({"password": PASSWORD})).await.expect(401);
    api.get(ME, &other).await.expect(200);
    api.delete(&own, &new.0).await.expect(404);
    api.delete(&others, &new.0).await.expect(204);
    api.get(ME, &other).await.expect(401);
    // The same request again, as it was asked for: with the same key.
    api.send(keyed(&new.0)).await.expect(201);
    api.delete(SESSIONS, &new.0).await.expect(204);
    let told = api.events("auth.login").await;
    assert_eq!(told.last().unwrap()["by"], "reauthentication");
    // To end the one that asks is to log out: whenever.
    later(&api, TimeDelta::minutes(10));
    let list = api.get(SESSIONS, &new.0).await.expect(200).json;
    api.delete(&format!("{SESSIONS}/{}", list["items"][0]["id"].as_str().unwrap()), &new.0).await.expect(204);
}

/// Who only has the token does not find the password out with it, and is on record.
#[tokio::test]
async fn the_password_cannot_be_guessed_by_asking_again() {
    let api = start().await;
    let (access, _) = login(&api).await;
    let mut told = Vec::new();
    for n in 0..12 {
        let body = json!({"password": format!("guess number {n}")});
        told.push(api.post(AGAIN, &access, body).await.status.as_u16());
    }
    assert_eq!(told.iter().filter(|status| **status == 422).count(), 6, "{told:?}");
    assert_eq!(told.last(), Some(&429));
    let failed = api.events("auth.confirmation_failed").await;
    assert_eq!(failed.len(), 6, "one for each that was looked at: {failed:?}");
    assert_eq!(failed[0]["user"], json!(api.organization.agent.user_id()));
}

/// The password is one factor. Wrong codes are on record, wherever they are shown, and few enough that nobody fills the log.
#[tokio::test]
async fn who_has_a_second_factor_shows_it_again_too() {
    let api = start().await;
    let (access, _) = login(&api).await;
    let begun =
        api.post("/api/v1/auth/mfa/enable", &access, json!({"password": PASSWORD})).await.expect(200).json;
    let secret = crate::mfa::unbase32(begun["secret"].as_str().unwrap());
    let code = async || {
        later(&api, TimeDelta::seconds(60));
        totp::code(&secret, totp::step_at(api.test_db.db.begin_system().await.unwrap().now()))
    };
    let verify = "/api/v1/auth/mfa/verify";
    api.post(verify, &access, json!({"code": "000000"})).await.expect(422);
    api.post(verify, &access, json!({"code": code().await})).await.expect(200);
    let missing = api.post(AGAIN, &access, json!({"password": PASSWORD})).await.expect(422).json;
    assert_eq!(missing["errors"][0]["pointer"], "/code");
    let wrong = json!({"password": PASSWORD, "code": "000000"});
    let wrong = api.post(AGAIN, &access, wrong).await.expect(422).json;
    assert_eq!(wrong["errors"][0]["pointer"], "/code");
    let body = json!({"password": PASSWORD, "code": code().await});
    let (access, _) = pair(&api.post(AGAIN, &access, body).await.expect(200).json);
    let codes = "/api/v1/auth/mfa/recovery-codes";
    api.post(codes, &access, json!({"code": "000000"})).await.expect(422);
    let disable = json!({"password": PASSWORD, "code": "000000"});
    api.post("/api/v1/auth/mfa/disable", &access, disable).await.expect(422);
    let told = api.events("auth.mfa_failed").await;
    let at: Vec<&str> = told.iter().map(|one| one["at"].as_str().unwrap()).collect();
    assert_eq!(at, ["enrolment", "reauthentication", "recovery codes", "disabling"]);
    for _ in 0..20 {
        api.post(codes, &access, json!({"code": "000000"})).await;
    }
    assert!(api.events("auth.mfa_failed").await.len() <= 4 + 5);
}

/// ASVS 5.0, 7.3.1 and 7.3.2: however often it is refreshed, and as the organization has it by now.
#[tokio::test]
async fn a_login_ends_by_rest_and_by_age() {
    let api = start().await;
    let path = format!("/api/v1/organizations/{}", api.organization.id);
    let shown = api.get(&path, &api.admin).await.expect(200).json;
    assert_eq!((&shown["login_hours"], &shown["login_idle_hours"]), (&json!(720), &json!(168)));
    for (field, hours) in [("login_hours", 0), ("login_hours", 8761), ("login_idle_hours", -1)] {
        let wrong = api.patch(&path, &api.admin, json!({field: hours})).await.expect(422).json;
        assert_eq!(wrong["errors"][0]["pointer"], format!("/{field}"));
    }
    api.patch(&path, &api.agent, json!({"login_hours": 1})).await.expect(403);

    // Thirty days of six days' rest each, and no more.
    let (_, mut token) = login(&api).await;
    for _ in 0..4 {
        later(&api, TimeDelta::days(6));
        token = pair(&refresh(&api, &token).await.expect(200).json).1;
    }
    later(&api, TimeDelta::days(6));
    refresh(&api, &token).await.expect(401);
    let (_, token) = login(&api).await;
    later(&api, TimeDelta::days(7));
    refresh(&api, &token).await.expect(401);

    // A login that stands ends by what holds now.
    let (_, token) = login(&api).await;
    let shorter = json!({"login_hours": 8, "login_idle_hours": 2});
    api.patch(&path, &api.admin, shorter).await.expect(200);
    let (access, token) = pair(&refresh(&api, &token).await.expect(200).json);
    later(&api, TimeDelta::minutes(119));
    api.get(ME, &access).await.expect(401);
    let (mut access, mut token) = pair(&refresh(&api, &token).await.expect(200).json);
    for _ in 0..3 {
        later(&api, TimeDelta::minutes(119));
        (access, token) = pair(&refresh(&api, &token).await.expect(200).json);
    }
    // Four minutes before its end it gives no access token that goes on for longer.
    api.get(ME, &access).await.expect(200);
    later(&api, TimeDelta::minutes(5));
    api.get(ME, &access).await.expect(401);
    refresh(&api, &token).await.expect(401);
    let (_, token) = login(&api).await;
    later(&api, TimeDelta::minutes(90));
    api.patch(&path, &api.admin, json!({"login_hours": 1})).await.expect(200);
    refresh(&api, &token).await.expect(401);
    assert!(api.events("auth.refresh_reused").await.is_empty(), "what is too old was copied by nobody");
}

/// ASVS 5.0, 6.4.1: what an admin typed (or told somebody by telephone) opens one door only, that to another password.
#[tokio::test]
async fn a_password_that_somebody_else_set_is_changed_first() {
    let api = start().await;
    let agent = api.organization.agent.user_id().unwrap();
    let typed = "what the admin typed";
    let set = format!("/api/v1/users/{agent}/set-password");
    api.post(&set, &api.admin, json!({"password": typed})).await.expect(204);
    let (access, token) = login_with(&api, typed).await;
    let (access, token) = {
        for path in [ME, "/api/v1/incidents", "/api/v1/events/stream", SESSIONS] {
            is_a(&api.get(path, &access).await.expect(403), "password-change-required");
        }
        let new = json!({"name": "x"});
        is_a(&api.post("/api/v1/api-tokens", &access, new).await.expect(403), "password-change-required");
        is_a(
            &api.post(AGAIN, &access, json!({"password": typed})).await.expect(403),
            "password-change-required",
        );
        pair(&refresh(&api, &token).await.expect(200).json)
    };
    is_a(&api.get(ME, &access).await.expect(403), "password-change-required");
    let change = |current: &str, new: &str| {
        api.post(
            "/api/v1/auth/change-password",
            &access,
            json!({"current_password": current, "new_password": new}),
        )
    };
    change(typed, typed).await.expect(422);
    change(typed, "their own, known to nobody").await.expect(204);
    api.get(ME, &access).await.expect(200);
    refresh(&api, &token).await.expect(200);
    api.post(LOGIN, "", json!({"email": "agent@acme.example", "password": typed})).await.expect(401);

    // The same for who was made with a password; a link by mail is the other way out.
    let new = json!({"email": "grace@acme.example", "name": "Grace", "role": "agent", "password": typed});
    let made = api.post("/api/v1/users", &api.admin, new).await.expect(201).json;
    let login = json!({"email": "grace@acme.example", "password": typed});
    let (access, _) = pair(&api.post(LOGIN, "", login).await.expect(200).json);
    is_a(&api.get(ME, &access).await.expect(403), "password-change-required");
    api.post("/api/v1/auth/logout", &access, Value::Null).await;
    let mut tx = api.test_db.db.begin(api.organization.id).await.unwrap();
    let user = domain::UserId(made["id"].as_str().unwrap().parse().unwrap());
    let link = actions::passwords::offer_reset(&mut tx, user).await.unwrap();
    tx.commit().await.unwrap();
    let own = "hers alone, by the link";
    let body = json!({"token": secrecy::ExposeSecret::expose_secret(&link), "new_password": own});
    api.post("/api/v1/auth/password-confirm", "", body).await.expect(204);
    let login = json!({"email": "grace@acme.example", "password": own});
    let (access, _) = pair(&api.post(LOGIN, "", login).await.expect(200).json);
    api.get(ME, &access).await.expect(200);
}
