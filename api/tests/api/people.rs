//! Users, teams, departments, organizations, API tokens, and the conventions of lists and writes on their example.

use crate::support::{Api, request};
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};

#[tokio::test]
async fn users_are_made_changed_and_found() {
    let api = Api::start().await;
    let new = json!({"email": "Grace@Example.org", "name": "Grace", "role": "agent", "password": "a long password"});
    let made = api.post("/api/v1/users", &api.admin, new.clone()).await.expect(201);
    assert_eq!(made.json["email"], "grace@example.org");
    assert_eq!(made.header("location"), format!("/api/v1/users/{}", made.json["id"].as_str().unwrap()));
    assert!(!made.text.contains("password"));
    api.post("/api/v1/users", &api.admin, new.clone()).await.expect(409);
    api.post("/api/v1/users", &api.agent, new).await.expect(403);

    let path = made.header("location").to_owned();
    let changed = api
        .patch(&path, &api.admin, json!({"phone": "+49 30 1", "time_zone": "Europe/Berlin"}))
        .await
        .expect(200);
    assert_eq!(changed.json["phone"], "+49 30 1");
    let cleared = api.patch(&path, &api.admin, json!({"phone": null})).await.expect(200);
    assert_eq!((&cleared.json["phone"], &cleared.json["time_zone"]), (&Value::Null, &json!("Europe/Berlin")));
    for (body, pointer) in [
        (json!({"time_zone": "Mars/Base"}), "/time_zone"),
        (json!({"name": " "}), "/name"),
        (json!({"role": "root"}), "/role"),
        (json!({"department": uuid::Uuid::now_v7()}), "/department"),
    ] {
        let answer = api.patch(&path, &api.admin, body).await.expect(422);
        assert_eq!(answer.json["errors"][0]["pointer"], pointer);
    }
    let found = api.get("/api/v1/users?q=grac&role=agent", &api.agent).await.expect(200);
    assert_eq!(found.json["items"].as_array().unwrap().len(), 1);
    let answer = api.get("/api/v1/users?rolle=agent", &api.agent).await.expect(400);
    assert_eq!(answer.json["errors"][0]["pointer"], "/rolle");
}

#[tokio::test]
async fn the_last_admin_stays() {
    let api = Api::start().await;
    let path = format!("/api/v1/users/{}", api.organization.admin.user_id().unwrap());
    api.patch(&path, &api.admin, json!({"role": "agent"})).await.expect(409);
    api.patch(&path, &api.admin, json!({"is_active": false})).await.expect(409);
    api.patch(&path, &api.admin, json!({"name": "Root"})).await.expect(200);
}

/// Each asks while the other's row is held, so that both are past the check of their rights when it is let go.
#[tokio::test]
async fn two_admins_who_unseat_each_other_leave_one() {
    let api = Api::start().await;
    let new = json!({"email": "second@acme.example", "name": "Second", "role": "admin"});
    let second = api.post("/api/v1/users", &api.admin, new).await.expect(201).json["id"].clone();
    let one = api.organization.admin.user_id().unwrap().to_string();
    let two = second.as_str().unwrap().to_owned();
    let mut owner = api.test_db.owner().await;
    for body in [
        json!({"role": "agent"}),
        json!({"is_active": false}),
        json!({"role": "manager", "is_active": false}),
    ] {
        // New ones: a deactivation ends those of the round before.
        let (admin, token) = (api.token_of(&json!(one)).await, api.token_of(&second).await);
        let mut held = api.test_db.owner().await;
        sqlx::raw_sql("begin; select id from users for update").execute(&mut held).await.unwrap();
        let change = async |user: &str, token: &str| {
            api.patch(&format!("/api/v1/users/{user}"), token, body.clone()).await
        };
        let (first, other, ()) = tokio::join!(change(&two, &admin), change(&one, &token), async {
            api.test_db.until_blocked(2, "users").await;
            sqlx::raw_sql("rollback").execute(&mut held).await.unwrap();
        });
        let (won, lost) = if first.status == 200 { (first, other) } else { (other, first) };
        won.expect(200);
        let lost = lost.expect(409);
        assert!(lost.text.contains("last active admin"), "{}", lost.text);
        let admins = "select count(*) from users where role = 'admin' and is_active";
        assert_eq!(sqlx::query_scalar::<_, i64>(admins).fetch_one(&mut owner).await.unwrap(), 1);
        sqlx::query("update users set role = 'admin', is_active = true where id::text = any($1)")
            .bind([&one, &two])
            .execute(&mut owner)
            .await
            .unwrap();
    }
}

/// H26: nobody sets what is not theirs to set.
#[tokio::test]
async fn mass_assignment_is_refused() {
    let api = Api::start().await;
    for (name, value) in [
        ("id", json!(uuid::Uuid::now_v7())),
        ("organization_id", json!(uuid::Uuid::now_v7())),
        ("organization", json!(uuid::Uuid::now_v7())),
        ("email", json!("x@y.z")),
        ("password_hash", json!("x")),
        ("created_at", json!("2020-01-01T00:00:00Z")),
        ("updated_at", json!("2020-01-01T00:00:00Z")),
        ("last_login_at", json!("2020-01-01T00:00:00Z")),
        ("is_operator", json!(true)),
    ] {
        let mut body = json!({});
        body[name] = value;
        let answer = api.patch("/api/v1/users/me", &api.end_user, body).await.expect(422);
        assert_eq!(answer.json["errors"][0]["pointer"], format!("/{name}"));
    }
    for body in [
        json!({"role": "admin"}),
        json!({"is_active": true}),
        json!({"manager": null}),
        json!({"name": "x", "department": null}),
    ] {
        api.patch("/api/v1/users/me", &api.end_user, body).await.expect(403);
    }
    api.patch("/api/v1/users/me", &api.end_user, json!({"name": "Edith", "locale": "de"})).await.expect(200);
    let other = format!("/api/v1/users/{}", api.organization.agent.user_id().unwrap());
    api.get(&other, &api.end_user).await.expect(403);
    api.patch(&other, &api.end_user, json!({"name": "x"})).await.expect(403);
    api.get("/api/v1/users", &api.end_user).await.expect(403);
}

#[tokio::test]
async fn teams_have_members() {
    let api = Api::start().await;
    let team = api
        .post("/api/v1/teams", &api.admin, json!({"name": "Network", "email": "Net@acme.example"}))
        .await
        .expect(201);
    let path = team.header("location").to_owned();
    let members = format!("{path}/members");
    let agent = api.organization.agent.user_id().unwrap();
    api.post(&members, &api.admin, json!({"user": agent})).await.expect(204);
    api.post(&members, &api.admin, json!({"user": agent})).await.expect(204);
    api.post(&members, &api.admin, json!({"user": api.organization.end_user.user_id()})).await.expect(422);
    api.post(&members, &api.agent, json!({"user": agent})).await.expect(403);
    let list = api.get(&members, &api.agent).await.expect(200);
    assert_eq!(list.json["items"][0]["user"], agent.to_string());
    api.delete(&format!("{members}/{agent}"), &api.admin).await.expect(204);
    api.delete(&format!("{members}/{agent}"), &api.admin).await.expect(404);
    let answer = api.post("/api/v1/teams", &api.admin, json!({"name": "Network"})).await.expect(409);
    assert_eq!(answer.json["detail"], "there is a team of that name already");
    api.delete(&path, &api.admin).await.expect(204);
    assert!(api.get(&path, &api.admin).await.expect(200).json["deleted_at"].is_string());
}

#[tokio::test]
async fn an_organization_says_who_becomes_known_by_mail() {
    let api = Api::start().await;
    let path = format!("/api/v1/organizations/{}", api.organization.id);
    let shown = api.get(&path, &api.agent).await.expect(200).json;
    assert_eq!((&shown["sender_policy"], &shown["sender_domains"]), (&json!("open"), &json!([])));
    for (body, pointer) in [
        (json!({"sender_policy": "known_domains"}), "/sender_domains"),
        (json!({"sender_policy": "some"}), "/sender_policy"),
        (json!({"sender_domains": ["example.org", "org"]}), "/sender_domains/1"),
        (json!({"sender_domains": ["*.*"]}), "/sender_domains/0"),
        (json!({"sender_domains": vec!["example.org"; 201]}), "/sender_domains"),
    ] {
        let answer = api.patch(&path, &api.admin, body).await.expect(422);
        assert_eq!(answer.json["errors"][0]["pointer"], pointer);
    }
    let body = json!({"sender_policy": "known_domains", "sender_domains": ["Example.org", "*.corp.example", "example.org"]});
    api.patch(&path, &api.agent, body.clone()).await.expect(403);
    let changed = api.patch(&path, &api.admin, body).await.expect(200).json;
    assert_eq!(changed["sender_domains"], json!(["*.corp.example", "example.org"]));
    api.patch(&path, &api.admin, json!({"sender_domains": []})).await.expect(422);
}

#[tokio::test]
async fn departments_are_a_tree() {
    let api = Api::start().await;
    let top = api.post("/api/v1/departments", &api.admin, json!({"name": "IT"})).await.expect(201);
    let below = api
        .post("/api/v1/departments", &api.admin, json!({"name": "Ops", "parent": top.json["id"]}))
        .await
        .expect(201);
    let path = top.header("location").to_owned();
    let answer = api.patch(&path, &api.admin, json!({"parent": below.json["id"]})).await.expect(422);
    assert_eq!(answer.json["errors"][0]["pointer"], "/parent");
    api.delete(&path, &api.admin).await.expect(409);
    api.delete(below.header("location"), &api.admin).await.expect(204);
    api.delete(&path, &api.admin).await.expect(204);
}

#[tokio::test]
async fn if_match_guards_changes() {
    let api = Api::start().await;
    let team = api.post("/api/v1/teams", &api.admin, json!({"name": "Network"})).await.expect(201);
    let (path, tag) = (team.header("location").to_owned(), team.header("etag").to_owned());
    let patch = |tag: &str, name: &str| {
        let body = Body::from(json!({"name": name}).to_string());
        let request = Request::builder()
            .method("PATCH")
            .uri(&path)
            .header("authorization", format!("Bearer {}", api.admin));
        api.send(
            request.header("content-type", "application/json").header("if-match", tag).body(body).unwrap(),
        )
    };
    let changed = patch(&tag, "Networks").await.expect(200);
    assert_ne!(changed.header("etag"), tag);
    let refused = patch(&tag, "Nets").await.expect(412);
    assert_eq!(refused.json["type"], "https://relaydesk.dev/problems/precondition-failed");
    patch(&format!("W/{}", changed.header("etag")), "Nets").await.expect(200);
    patch("*", "Nets 2").await.expect(200);
}

#[tokio::test]
async fn lists_are_walked_by_cursor() {
    let api = Api::start().await;
    for n in 0..7 {
        api.post("/api/v1/teams", &api.admin, json!({"name": format!("Team {n}")})).await.expect(201);
    }
    let (mut names, mut path) = (Vec::new(), "/api/v1/teams?page_size=3".to_owned());
    loop {
        let page = api.get(&path, &api.agent).await.expect(200);
        names.extend(
            page.json["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["name"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page.json["next_cursor"].as_str() else {
            break;
        };
        path = format!("/api/v1/teams?page_size=3&cursor={cursor}");
    }
    assert_eq!(names, (0..7).map(|n| format!("Team {n}")).collect::<Vec<_>>());
    for bad in ["page_size=0", "page_size=201", "page_size=x", "cursor=zzz", "ordering=password_hash"] {
        api.get(&format!("/api/v1/teams?{bad}"), &api.agent).await.expect(422);
    }
}

#[tokio::test]
async fn api_tokens_are_shown_once() {
    let api = Api::start().await;
    let login = api.agent_login().await;
    let made = api.post("/api/v1/api-tokens", &login, json!({"name": "export"})).await.expect(201);
    let token = made.json["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("rd_") && token.starts_with(made.json["prefix"].as_str().unwrap()));
    assert_eq!(api.get("/api/v1/users/me", &token).await.expect(200).json["role"], "agent");
    let list = api.get("/api/v1/api-tokens", &api.agent).await.expect(200);
    assert!(!list.text.contains(&token));
    let used = list.json["items"].as_array().unwrap().iter().find(|item| item["name"] == "export").unwrap();
    assert!(used["last_used_at"].is_string());
    let path = format!("/api/v1/api-tokens/{}", made.json["id"].as_str().unwrap());
    api.delete(&path, &api.end_user).await.expect(404);
    api.delete(&path, &api.agent).await.expect(204);
    api.get("/api/v1/users/me", &token).await.expect(401);
    assert!(api.get("/api/v1/api-tokens", &api.admin).await.json["items"].as_array().unwrap().len() >= 3);
    api.get(&format!("/api/v1/api-tokens?user={}", api.organization.admin.user_id().unwrap()), &api.agent)
        .await
        .expect(403);
}

fn keyed(api: &Api, key: &str, path: &str, body: &Value) -> Request<Body> {
    keyed_by(&api.admin, key, path, body)
}

fn keyed_by(token: &str, key: &str, path: &str, body: &Value) -> Request<Body> {
    let mut request = request(Method::POST, path, token, Some(body.clone()));
    request.headers_mut().insert("idempotency-key", key.parse().unwrap());
    request
}

#[tokio::test]
async fn a_repeated_write_gets_the_first_answer() {
    let api = Api::start().await;
    let body = json!({"name": "Network"});
    let first = api.send(keyed(&api, "k1", "/api/v1/teams", &body)).await.expect(201);
    let again = api.send(keyed(&api, "k1", "/api/v1/teams", &body)).await.expect(201);
    assert_eq!(first.json, again.json);
    assert_eq!(first.header("etag"), again.header("etag"));
    assert_eq!(again.header("idempotent-replayed"), "true");
    let other = api.send(keyed(&api, "k1", "/api/v1/teams", &json!({"name": "Other"}))).await.expect(422);
    assert_eq!(other.json["type"], "https://relaydesk.dev/problems/idempotency-key-reused");
    // Refusals are answers too.
    let refused = api.send(keyed(&api, "k2", "/api/v1/teams", &body)).await.expect(409);
    assert_eq!(
        refused.json["detail"],
        api.send(keyed(&api, "k2", "/api/v1/teams", &body)).await.expect(409).json["detail"]
    );
    // Secrets are not kept.
    let login = api.admin_login().await;
    let make = || keyed_by(&login, "k3", "/api/v1/api-tokens", &json!({"name": "x"}));
    api.send(make()).await.expect(201);
    api.send(make()).await.expect(409);
    // And after a day the key is free.
    api.test_db.db.clock().shift(chrono::TimeDelta::hours(25));
    api.send(keyed(&api, "k1", "/api/v1/teams", &json!({"name": "Other"}))).await.expect(201);
}

#[tokio::test]
async fn many_at_once_with_one_key_take_effect_once() {
    let api = Api::start().await;
    let body = json!({"name": "same for all"});
    let login = api.admin_login().await;
    let requests = (0..40).map(|_| api.send(keyed_by(&login, "storm", "/api/v1/api-tokens", &body)));
    let answers = futures::future::join_all(requests).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(answers.iter().all(|answer| [201, 409].contains(&answer.status.as_u16())), "{answers:?}");
    let list = api.get("/api/v1/api-tokens?page_size=200", &api.admin).await;
    let made =
        list.json["items"].as_array().unwrap().iter().filter(|item| item["name"] == "same for all").count();
    assert_eq!(made, 1);
}

/// The process dies between commit and answer: the work is not repeated. (See `store::idempotency`.)
#[tokio::test]
async fn an_effect_whose_answer_was_lost_is_not_repeated() {
    use store::idempotency::{Begun, Key, begin, scope};
    let api = Api::start().await;
    let organization = api.organization.id;
    let db = &api.test_db.db;
    let key = Key {
        organization,
        user: api.organization.admin.user_id().unwrap(),
        method: "POST".into(),
        path: "/x".into(),
        key: "k".into(),
        run: uuid::Uuid::now_v7(),
    };
    let attempt = async |run: uuid::Uuid| {
        let mut tx = db.begin(organization).await.unwrap();
        let begun = begin(&mut tx, &Key { run, ..key.clone() }, "hash").await.unwrap();
        tx.commit().await.unwrap();
        begun
    };
    assert!(matches!(attempt(key.run).await, Begun::First));
    assert!(matches!(attempt(uuid::Uuid::now_v7()).await, Begun::Running));
    // The first one hangs; its lock runs out; a second one takes over and commits; then the first wakes up.
    db.clock().shift(chrono::TimeDelta::minutes(3));
    let second = Key { run: uuid::Uuid::now_v7(), ..key.clone() };
    assert!(matches!(attempt(second.run).await, Begun::First));
    let commit = async || db.begin(organization).await.unwrap().commit().await;
    scope(second.clone(), commit()).await.unwrap();
    scope(key.clone(), commit()).await.unwrap_err();
    db.clock().shift(chrono::TimeDelta::minutes(3));
    assert!(matches!(attempt(uuid::Uuid::now_v7()).await, Begun::Lost));
}

#[tokio::test]
async fn a_name_that_is_taken_is_a_conflict_and_one_of_two_lines_is_none() {
    let api = Api::start().await;
    let windows = json!([{"weekday": "monday", "opens": "08:00", "closes": "12:00"}]);
    let targets = json!([{"priority": "high", "resolution_seconds": 60}]);
    let file = json!({"format": "csv", "location": "x.csv", "identification_keys": ["serial"]});
    for (noun, body) in [
        ("teams", json!({})),
        ("departments", json!({})),
        ("ci-categories", json!({})),
        ("discovery-sources", file),
        ("alert-sources", json!({"kind": "generic"})),
        ("notification-channels", json!({"kind": "email", "config": {"to": ["a@b.example"]}})),
        ("business-calendars", json!({"time_zone": "UTC", "windows": windows})),
        ("escalation-chains", json!({"steps": [{"action": "raise_priority"}]})),
        ("sla-policies", json!({"targets": targets})),
    ] {
        let path = format!("/api/v1/{noun}");
        let named = |name: &str| {
            let mut body = body.clone();
            body["name"] = json!(name);
            body
        };
        for wrong in ["one\r\ntwo", "\u{200b}"] {
            let refused = api.post(&path, &api.admin, named(wrong)).await.expect(422);
            assert_eq!(refused.json["errors"][0]["pointer"], "/name", "{noun} {wrong:?}");
        }
        let made = api.post(&path, &api.admin, named("One")).await.expect(201);
        let taken = api.post(&path, &api.admin, named("One")).await.expect(409);
        assert_eq!(taken.json["type"], "https://relaydesk.dev/problems/conflict", "{noun}");
        let id = made.json["id"].as_str().or(made.json["source"]["id"].as_str()).unwrap();
        let emptied = api.patch(&format!("{path}/{id}"), &api.admin, json!({"name": null})).await.expect(422);
        assert_eq!(emptied.json["errors"][0]["pointer"], "/name", "{noun}");
    }
}
