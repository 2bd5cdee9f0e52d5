//! Logins: listed, ended; in all processes at once.

use crate::support::Api;
use actions::access::Keys;
use api::{AppState, Settings};
use axum::http::Method;
use serde_json::{Value, json};
use store::blobs::Blobs;

const PASSWORD: &str = "correct horse battery";
const SESSIONS: &str = "/api/v1/auth/sessions";

async fn login(api: &Api, who: &str) -> String {
    let body = json!({"email": format!("{who}@acme.example"), "password": PASSWORD});
    let tokens = api.post_from("192.0.2.1", "/api/v1/auth/login", "", body).await.expect(200).json;
    tokens["access"].as_str().unwrap().to_owned()
}

async fn start() -> Api {
    let api = Api::start().await;
    for person in [&api.organization.admin, &api.organization.agent] {
        api.set_password(person.user_id().unwrap(), PASSWORD).await;
    }
    api
}

async fn ids(api: &Api, path: &str, token: &str) -> Vec<String> {
    let list = api.get(path, token).await.expect(200).json;
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn one_sees_and_ends_ones_own_logins() {
    let api = start().await;
    let (first, second) = (login(&api, "agent").await, login(&api, "agent").await);
    let admin = login(&api, "admin").await;
    let list = api.get(SESSIONS, &second).await.expect(200).json;
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!((&items[0]["current"], &items[1]["current"]), (&json!(true), &json!(false)));
    assert!(items[0]["address"] == "192.0.2.1" && items[0]["created_at"].is_string(), "{items:?}");
    let page = api.get(&format!("{SESSIONS}?page_size=1"), &second).await.expect(200).json;
    let cursor = page["next_cursor"].as_str().unwrap();
    let next = api.get(&format!("{SESSIONS}?page_size=1&cursor={cursor}"), &second).await.expect(200).json;
    assert_eq!((&next["items"][0]["id"], &next["next_cursor"]), (&items[1]["id"], &Value::Null));

    // Of somebody else it is as if there were none.
    let others = ids(&api, SESSIONS, &admin).await;
    api.delete(&format!("{SESSIONS}/{}", others[0]), &second).await.expect(404);
    let path = format!("{SESSIONS}/{}", items[1]["id"].as_str().unwrap());
    api.delete(&path, &second).await.expect(204);
    api.delete(&path, &second).await.expect(404);
    api.get("/api/v1/users/me", &first).await.expect(401);

    let third = login(&api, "agent").await;
    api.delete(SESSIONS, &third).await.expect(204);
    api.get("/api/v1/users/me", &second).await.expect(401);
    api.get("/api/v1/users/me", &third).await.expect(200);
    assert_eq!(api.events("auth.session_revoked").await.len(), 2);
}

#[tokio::test]
async fn admins_end_those_of_others() {
    let api = start().await;
    let (one, two) = (login(&api, "agent").await, login(&api, "agent").await);
    let path = format!("/api/v1/users/{}/sessions", api.organization.agent.user_id().unwrap());
    let found = ids(&api, &path, &api.admin).await;
    assert_eq!(found.len(), 2);
    assert_eq!(ids(&api, &path, &one).await.len(), 2, "one's own");
    let admins = format!("/api/v1/users/{}/sessions", api.organization.admin.user_id().unwrap());
    api.get(&admins, &one).await.expect(403);
    api.delete(&admins, &one).await.expect(403);
    api.delete(&format!("{SESSIONS}/{}", found[0]), &api.admin).await.expect(204);
    api.get("/api/v1/users/me", &two).await.expect(401);
    api.delete(&path, &api.admin).await.expect(204);
    api.get("/api/v1/users/me", &one).await.expect(401);
}

/// H16: what one process ends is over for the others at their next request.
#[tokio::test]
async fn another_process_hears_of_a_logout_at_once() {
    let api = start().await;
    let blobs = tempfile::tempdir().unwrap();
    let keys = Keys::new(b"a secret of the tests, 32 bytes long");
    let db = api.test_db.another_pool();
    let other = api::app(AppState::new(db, Blobs::new(blobs.path()), keys, Settings::default()));
    let ask = async |token: &str| {
        let request = crate::support::request(Method::GET, "/api/v1/users/me", token, None);
        tower::ServiceExt::oneshot(other.clone(), request).await.unwrap().status().as_u16()
    };
    for way in ["logout", "revoke", "lock", "password"] {
        let access = login(&api, "agent").await;
        assert_eq!(ask(&access).await, 200, "{way}");
        let agent = format!("/api/v1/users/{}", api.organization.agent.user_id().unwrap());
        match way {
            "logout" => {
                api.call(Method::POST, "/api/v1/auth/logout", &access, None).await.expect(204);
            }
            "revoke" => {
                api.delete(&format!("{agent}/sessions"), &api.admin).await.expect(204);
            }
            "lock" => {
                api.call(Method::POST, &format!("{agent}/lock"), &api.admin, None).await.expect(200);
                assert_eq!(ask(&access).await, 401, "{way}");
                api.call(Method::POST, &format!("{agent}/unlock"), &api.admin, None).await.expect(200);
            }
            _ => {
                let body = json!({"password": "an entirely new one"});
                api.post(&format!("{agent}/set-password"), &api.admin, body).await.expect(204);
            }
        }
        assert_eq!(ask(&access).await, 401, "{way}");
    }
}

#[tokio::test]
async fn use_is_noted_to_the_minute() {
    let api = start().await;
    let access = login(&api, "agent").await;
    let used = async || {
        let list = api.get(SESSIONS, &access).await.expect(200).json;
        list["items"][0]["last_used_at"].as_str().unwrap().to_owned()
    };
    let first = used().await;
    assert_eq!(used().await, first);
    api.test_db.db.clock().shift(chrono::TimeDelta::seconds(61));
    assert!(used().await > first);
}

/// Whoever ends a login ends also the session that is being made of it at that moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_does_not_slip_through_the_end_of_its_login() {
    let api = start().await;
    let body = json!({"email": "agent@acme.example", "password": PASSWORD});
    let tokens = api.post("/api/v1/auth/login", "", body).await.expect(200).json;
    let user = api.organization.agent.user_id().unwrap();
    let mut ending = api.test_db.owner().await;
    sqlx::query("begin").execute(&mut ending).await.unwrap();
    sqlx::query("select id from users where id = $1 for no key update")
        .bind(user.0)
        .execute(&mut ending)
        .await
        .unwrap();
    let refresh = api.post("/api/v1/auth/refresh", "", json!({"refresh": tokens["refresh"]}));
    let end = async {
        let waits = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";
        let mut look = api.test_db.owner().await;
        while sqlx::query_scalar::<_, i64>(waits).fetch_one(&mut look).await.unwrap() == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let revoke = "update sessions set revoked_at = now() where user_id = $1";
        sqlx::query(revoke).bind(user.0).execute(&mut ending).await.unwrap();
        sqlx::query("commit").execute(&mut ending).await.unwrap();
    };
    let (answer, ()) = tokio::join!(refresh, end);
    answer.expect(401);
    let alive: i64 =
        sqlx::query_scalar("select count(*) from sessions where user_id = $1 and revoked_at is null")
            .bind(user.0)
            .fetch_one(&mut api.test_db.owner().await)
            .await
            .unwrap();
    assert_eq!(alive, 0);
}

/// A token that is for tickets does not end logins, guess the password or rename its owner.
#[tokio::test]
async fn a_token_with_scopes_leaves_the_account_alone() {
    let api = start().await;
    let new = json!({"name": "tickets", "scopes": ["tickets.view"]});
    let made = api.post("/api/v1/api-tokens", &api.agent_login().await, new).await.expect(201).json;
    let token = made["token"].as_str().unwrap();
    api.get(SESSIONS, token).await.expect(403);
    api.delete(SESSIONS, token).await.expect(403);
    let change = json!({"current_password": PASSWORD, "new_password": "correct horse battery 7 staple"});
    api.post("/api/v1/auth/change-password", token, change).await.expect(403);
    let me = format!("/api/v1/users/{}", api.organization.agent.user_id().unwrap());
    api.patch(&me, token, json!({"name": "Mallory"})).await.expect(403);
    api.get("/api/v1/incidents", token).await.expect(200);
}
