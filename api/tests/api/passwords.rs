//! Passwords: what makes one acceptable, who is slowed down, forgotten ones.

use crate::support::Api;
use axum::http::Method;
use chrono::TimeDelta;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

const PASSWORD: &str = "correct horse battery";
const LOGIN: &str = "/api/v1/auth/login";
const CHANGE: &str = "/api/v1/auth/change-password";
const RESET: &str = "/api/v1/auth/password-reset";
const CONFIRM: &str = "/api/v1/auth/password-confirm";

async fn start() -> Api {
    let api = Api::start().await;
    api.set_password(api.organization.admin.user_id().unwrap(), PASSWORD).await;
    api
}

fn credentials(password: &str) -> Value {
    json!({"email": "admin@acme.example", "password": password})
}

/// A link as its mail would hold it.
async fn link(api: &Api) -> String {
    let user = api.organization.admin.user_id().unwrap();
    let mut tx = api.test_db.db.begin(api.organization.id).await.unwrap();
    let token = actions::passwords::offer_reset(&mut tx, user).await.unwrap();
    tx.commit().await.unwrap();
    token.expose_secret().to_owned()
}

#[tokio::test]
async fn weak_known_and_former_passwords_are_refused() {
    let mut api = start().await;
    let breached = tempfile::NamedTempFile::new().unwrap();
    let known = "leaked once from somewhere";
    let line = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, known.as_bytes());
    std::fs::write(breached.path(), format!("{}:103\r\n", hex::encode_upper(line))).unwrap();
    let list = actions::breached::BreachedPasswords::open(breached.path()).unwrap();
    api.state.passwords.breached = Some(std::sync::Arc::new(list));
    api.router = api::app(api.state.clone());

    let change = |current: String, new: String| {
        api.post(CHANGE, &api.admin, json!({"current_password": current, "new_password": new}))
    };
    for (new, why) in [
        ("Tr0ub4dor&3", "12 to 128"),
        (&"x".repeat(129), "12 to 128"),
        ("the acme company", "\"acme\""),
        ("i am an admin now", "\"admin\""),
        ("password1234", "among the first"),
        ("Qwertyuiop[]1", "among the first"),
        (known, "breach"),
        (PASSWORD, "one of the last 5"),
    ] {
        let answer = change(PASSWORD.into(), new.to_owned()).await.expect(422);
        assert_eq!(answer.json["errors"][0]["pointer"], "/new_password", "{new}");
        assert!(answer.text.contains(&why.replace('"', "\\\"")), "{new}: {}", answer.text);
    }
    let (mut current, one) = (PASSWORD.to_owned(), |n: usize| format!("a new long one, number {n}"));
    for n in 1..=4 {
        change(current, one(n)).await.expect(204);
        current = one(n);
    }
    change(current.clone(), PASSWORD.into()).await.expect(422);
    change(current, one(5)).await.expect(204);
    change(one(5), one(1)).await.expect(422);
    change(one(5), PASSWORD.into()).await.expect(204);
    let kept: i64 = sqlx::query_scalar("select count(*) from former_passwords")
        .fetch_one(&mut api.test_db.owner().await)
        .await
        .unwrap();
    assert_eq!(kept, 4);

    // The same holds for those that admins give.
    let agent = format!("/api/v1/users/{}/set-password", api.organization.agent.user_id().unwrap());
    api.post(&agent, &api.admin, json!({"password": "the agent of acme"})).await.expect(422);
    let new = json!({"email": "grace@acme.example", "name": "Grace Hopper", "role": "agent", "password": "grace hopper 1906"});
    let answer = api.post("/api/v1/users", &api.admin, new).await.expect(422);
    assert_eq!(answer.json["errors"][0]["pointer"], "/password");
}

/// Nobody has to set a list: what everybody tries first is refused in every way to a password.
#[tokio::test]
async fn common_passwords_are_refused_everywhere() {
    let api = start().await;
    let common = "iloveyou1234";
    let agent = api.organization.agent.user_id().unwrap();
    let set = format!("/api/v1/users/{agent}/set-password");
    let new = json!({"email": "grace@acme.example", "name": "Grace", "role": "agent", "password": common});
    for (path, token, body, pointer) in [
        (CHANGE, &*api.admin, json!({"current_password": PASSWORD, "new_password": common}), "/new_password"),
        (CONFIRM, "", json!({"token": link(&api).await, "new_password": common}), "/new_password"),
        (&*set, &*api.admin, json!({"password": common}), "/password"),
        ("/api/v1/users", &*api.admin, new, "/password"),
    ] {
        let answer = api.post(path, token, body).await.expect(422);
        assert_eq!(answer.json["errors"][0]["pointer"], pointer, "{path}");
        assert!(answer.text.contains("among the first"), "{path}: {}", answer.text);
    }
}

/// ASVS 5.0, 16.5.3: a list that cannot be asked any more has not said no.
#[tokio::test]
async fn a_list_that_cannot_be_read_lets_no_password_pass() {
    let mut api = start().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{}:1\n{}:1\n", "0".repeat(40), "1".repeat(40))).unwrap();
    let list = actions::breached::BreachedPasswords::open(file.path()).unwrap();
    std::fs::write(file.path(), "the disk is out of order\n".repeat(9)).unwrap();
    api.state.passwords.breached = Some(std::sync::Arc::new(list));
    api.router = api::app(api.state.clone());
    let body = json!({"current_password": PASSWORD, "new_password": "an entirely new one"});
    api.post(CHANGE, &api.admin, body).await.expect(503);
    api.post(LOGIN, "", credentials(PASSWORD)).await.expect(200);
}

/// Who has only got hold of a token does not find the password out with it.
#[tokio::test]
async fn the_current_password_cannot_be_guessed() {
    let api = start().await;
    let guess = |n: usize| {
        let body = json!({"current_password": format!("guess {n}"), "new_password": "an entirely new one"});
        api.post(CHANGE, &api.admin, body)
    };
    let mut told = Vec::new();
    for n in 0..12 {
        told.push(guess(n).await.status.as_u16());
    }
    assert_eq!(told.iter().filter(|status| **status == 422).count(), 6, "{told:?}");
    assert_eq!(told.last(), Some(&429));
}

/// H18: ten thousand wrong logins do not keep the owner out, and get nowhere.
#[tokio::test(flavor = "multi_thread")]
async fn the_owner_gets_in_while_somebody_guesses() {
    let api = start().await;
    let (mut looked_at, mut slowed, mut owner) = (0, 0, 0);
    for round in 0..100 {
        let guesses = (0..100).map(|n| {
            api.post_from("198.51.100.7", LOGIN, "", credentials(&format!("guess number {round} {n}")))
        });
        let (answers, login) = tokio::join!(futures::future::join_all(guesses), async {
            if round % 20 != 10 {
                return None;
            }
            Some(api.post_from("192.0.2.1", LOGIN, "", credentials(PASSWORD)).await)
        });
        for answer in answers {
            match answer.status.as_u16() {
                401 => looked_at += 1,
                429 => {
                    assert!(answer.header("retry-after").parse::<u32>().unwrap() >= 1);
                    slowed += 1;
                }
                503 => {}
                other => panic!("{other}: {}", answer.text),
            }
        }
        owner += usize::from(login.is_some_and(|login| login.expect(200).json["access"].is_string()));
    }
    assert_eq!(owner, 5, "at every try");
    assert!(looked_at < 100 && slowed > 9_000, "{looked_at} looked at, {slowed} slowed down");

    // From there the right password has to wait too, else it would be found all the same; and not for ever.
    api.post_from("198.51.100.7", LOGIN, "", credentials(PASSWORD)).await.expect(429);
    api.test_db.db.clock().shift(TimeDelta::minutes(16));
    api.post_from("198.51.100.7", LOGIN, "", credentials(PASSWORD)).await.expect(200);
    // What came through is on record.
    let failed = api.events("auth.login_failed").await;
    assert!(!failed.is_empty() && failed[0]["address"] == "198.51.100.7", "{failed:?}");
}

#[tokio::test]
async fn one_network_cannot_try_one_password_on_everybody() {
    let api = start().await;
    let mut slowed = 0;
    for n in 0..130 {
        let body = json!({"email": format!("person{n}@acme.example"), "password": "correct horse battery"});
        slowed += usize::from(api.post_from("2001:db8::7", LOGIN, "", body).await.status == 429);
    }
    assert!(slowed >= 20, "{slowed}");
    // The same customer with another of its addresses, and somebody else.
    api.post_from("2001:db8::8", LOGIN, "", credentials(PASSWORD)).await.expect(429);
    api.post_from("2001:db8:0:1::8", LOGIN, "", credentials(PASSWORD)).await.expect(200);
}

#[tokio::test]
async fn typing_errors_are_forgiven() {
    let api = start().await;
    for _ in 0..4 {
        for _ in 0..5 {
            api.post(LOGIN, "", credentials("wrong")).await.expect(401);
        }
        api.post(LOGIN, "", credentials(PASSWORD)).await.expect(200);
    }
}

/// H19: single use, thirty minutes, nothing but the link.
#[tokio::test]
async fn a_forgotten_password_is_set_anew_once() {
    let api = start().await;
    let login = api.post(LOGIN, "", credentials(PASSWORD)).await.expect(200).json;
    let access = login["access"].as_str().unwrap();
    let (first, second) = (link(&api).await, link(&api).await);
    let confirm =
        |token: &str, new: &str| api.post(CONFIRM, "", json!({"token": token, "new_password": new}));
    // A password that is refused does not use the link up.
    confirm(&first, "too short").await.expect(422);
    confirm(&first, PASSWORD).await.expect(422);
    let new = "an entirely new one";
    let attempts = (0..50).map(|_| confirm(&first, new));
    let answers = futures::future::join_all(attempts).await;
    let used = answers.iter().filter(|answer| answer.status == 204).count();
    assert_eq!(used, 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
    // Other links and logins are over, and nobody was logged in.
    let refused = confirm(&second, "yet another long one").await.expect(422);
    assert_eq!(refused.json["errors"][0]["pointer"], "/token");
    api.get("/api/v1/users/me", access).await.expect(401);
    api.post(LOGIN, "", credentials(PASSWORD)).await.expect(401);
    api.post(LOGIN, "", credentials(new)).await.expect(200);

    let late = link(&api).await;
    api.test_db.db.clock().shift(TimeDelta::minutes(31));
    confirm(&late, "yet another long one").await.expect(422);
    for wrong in ["", "rdp_", "rdp_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &first] {
        confirm(wrong, "yet another long one").await.expect(422);
    }
    assert_eq!(api.events("auth.password_reset_used").await.len(), 1);
    let stored: Vec<String> = sqlx::query_scalar("select token_hash from password_resets")
        .fetch_all(&mut api.test_db.owner().await)
        .await
        .unwrap();
    assert!(stored.len() == 3 && !stored.contains(&first), "{stored:?}");
}

#[tokio::test]
async fn a_changed_password_takes_links_back() {
    let api = start().await;
    let link = link(&api).await;
    let body = json!({"current_password": PASSWORD, "new_password": "an entirely new one"});
    api.post(CHANGE, &api.admin, body).await.expect(204);
    let body = json!({"token": link, "new_password": "yet another long one"});
    api.post(CONFIRM, "", body).await.expect(422);
}

/// The same answer and the same work for every address: the looking up is a job's.
#[tokio::test]
async fn asking_for_a_link_tells_nothing() {
    let api = start().await;
    let mut told = Vec::new();
    for email in ["admin@acme.example", "nobody@acme.example", "agent@elsewhere.example"] {
        let answer = api.post(RESET, "", json!({"email": email})).await.expect(202);
        told.push((answer.text, answer.headers.len()));
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    let jobs: i64 = sqlx::query_scalar("select count(*) from queue.jobs where kind = 'offer_password_reset'")
        .fetch_one(&mut api.test_db.owner().await)
        .await
        .unwrap();
    assert_eq!(jobs, 3);
    for _ in 0..27 {
        api.post(RESET, "", json!({"email": "admin@acme.example"})).await.expect(202);
    }
    let answer = api.post(RESET, "", json!({"email": "somebody@acme.example"})).await.expect(429);
    assert!(!answer.header("retry-after").is_empty());
    api.post_from("192.0.2.1", RESET, "", json!({"email": "admin@acme.example"})).await.expect(202);
}

#[tokio::test]
async fn a_lock_holds_until_it_is_taken_away() {
    let api = start().await;
    let agent = api.organization.agent.user_id().unwrap();
    api.set_password(agent, PASSWORD).await;
    let login = json!({"email": "agent@acme.example", "password": PASSWORD});
    let tokens = api.post(LOGIN, "", login.clone()).await.expect(200).json;
    let (access, refresh) = (tokens["access"].as_str().unwrap(), &tokens["refresh"]);
    let path = |verb: &str| format!("/api/v1/users/{agent}/{verb}");
    api.call(Method::POST, &path("lock"), &api.agent, None).await.expect(403);
    let locked = api.call(Method::POST, &path("lock"), &api.admin, None).await.expect(200).json;
    assert!(locked["locked_at"].is_string(), "{locked}");
    api.get("/api/v1/users/me", access).await.expect(401);
    api.get("/api/v1/users/me", &api.agent).await.expect(401);
    api.post("/api/v1/auth/refresh", "", json!({"refresh": refresh})).await.expect(401);
    api.post(LOGIN, "", login.clone()).await.expect(401);
    let unlocked = api.call(Method::POST, &path("unlock"), &api.admin, None).await.expect(200).json;
    assert!(unlocked["locked_at"].is_null());
    // Its API tokens rested; the login has ended.
    api.get("/api/v1/users/me", &api.agent).await.expect(200);
    api.get("/api/v1/users/me", access).await.expect(401);
    api.post(LOGIN, "", login).await.expect(200);
    let admin = format!("/api/v1/users/{}/lock", api.organization.admin.user_id().unwrap());
    api.call(Method::POST, &admin, &api.admin, None).await.expect(409);
    assert_eq!((api.events("user.locked").await.len(), api.events("user.unlocked").await.len()), (1, 1));
}
