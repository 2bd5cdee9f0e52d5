//! API tokens that can do less than their user, and accounts that have nothing but tokens.

use crate::support::Api;
use serde_json::{Value, json};

const TOKENS: &str = "/api/v1/api-tokens";
const SERVICES: &str = "/api/v1/service-accounts";

async fn token(api: &Api, path: &str, by: &str, scopes: Value) -> String {
    let made = api.post(path, by, json!({"name": "test", "scopes": scopes})).await.expect(201).json;
    made["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn scopes_only_ever_narrow() {
    let api = Api::start().await;
    let reader = token(&api, TOKENS, &api.admin_login().await, json!(["tickets.view", "tickets.view"])).await;
    api.get("/api/v1/incidents", &reader).await.expect(200);
    api.get("/api/v1/users", &reader).await.expect(403);
    let refused = api.post("/api/v1/incidents", &reader, json!({"title": "x"})).await.expect(403);
    assert!(refused.text.contains("which this token does not have"), "{}", refused.text);
    let listed = api.get(TOKENS, &api.admin).await.expect(200).json;
    assert_eq!(listed["items"][0]["scopes"], json!(["tickets.view"]));

    // What the user may not, no scope gives; and what they may is looked up at each use.
    let scopes = json!(["people.manage", "people.read"]);
    let wishful = token(&api, TOKENS, &api.agent_login().await, scopes).await;
    api.get("/api/v1/users", &wishful).await.expect(200);
    let new = json!({"email": "x@acme.example", "name": "X", "role": "agent"});
    api.post("/api/v1/users", &wishful, new).await.expect(403);
    let agent = format!("/api/v1/users/{}", api.organization.agent.user_id().unwrap());
    api.patch(&agent, &api.admin, json!({"role": "end_user"})).await.expect(200);
    api.get("/api/v1/users", &wishful).await.expect(403);

    let admin = api.admin_login().await;
    for (scopes, pointer) in [
        (json!(["tickets.view", "tickets.everything"]), "/scopes/1"),
        (json!([]), "/scopes"),
        (json!("tickets.view"), "/scopes"),
    ] {
        let answer = api.post(TOKENS, &admin, json!({"name": "x", "scopes": scopes})).await.expect(422);
        assert_eq!(answer.json["errors"][0]["pointer"], pointer);
    }
}

async fn robot(api: &Api, body: Value) -> String {
    let new = json!({"name": "Robot", "role": "agent", "owner": api.organization.admin.user_id().unwrap()});
    let made = api.post(SERVICES, &api.admin, new).await.expect(201).json;
    let path = format!("{SERVICES}/{}/tokens", made["id"].as_str().unwrap());
    api.post(&path, &api.admin_login().await, body).await.expect(201).json["token"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// Else a token that leaked would make one that can do everything, or one for ever.
#[tokio::test]
async fn a_token_makes_none_that_can_do_more_or_lasts_longer() {
    let api = Api::start().await;
    let soon = "2030-01-01T00:00:00Z";
    let scopes = json!(["tickets.view", "tokens.own"]);
    let little = robot(&api, json!({"name": "for a while", "scopes": scopes, "expires_at": soon})).await;
    let body = json!({"name": "more", "scopes": ["people.manage"]});
    assert_eq!(api.post(TOKENS, &little, body).await.expect(422).json["errors"][0]["pointer"], "/scopes/0");
    let same = token(&api, TOKENS, &little, Value::Null).await;
    api.get("/api/v1/incidents", &same).await.expect(200);
    api.get("/api/v1/users", &same).await.expect(403);
    let less = token(&api, TOKENS, &little, json!(["tickets.view"])).await;
    api.post(TOKENS, &less, json!({"name": "x"})).await.expect(403);

    let child = api.post(TOKENS, &little, json!({"name": "child"})).await.expect(201);
    assert_eq!(child.json["expires_at"], soon);
    let longer = json!({"name": "longer", "expires_at": "2030-01-01T00:00:01Z"});
    assert_eq!(
        api.post(TOKENS, &little, longer).await.expect(422).json["errors"][0]["pointer"],
        "/expires_at"
    );
    let shorter = json!({"name": "shorter", "expires_at": "2029-01-01T00:00:00Z"});
    api.post(TOKENS, &little, shorter).await.expect(201);
}

/// Who has got hold of a token of a person does not make another one that nobody knows of: not with an API token, and with the access token of a
/// login only in the minutes after it (ASVS 5.0, 7.5.1).
#[tokio::test]
async fn tokens_of_people_are_made_by_who_has_just_logged_in() {
    let api = Api::start().await;
    let new = json!({"name": "x"});
    api.post(TOKENS, &api.admin, new.clone()).await.expect(403);
    let robot = json!({"name": "Robot", "role": "agent", "owner": api.organization.agent.user_id().unwrap()});
    let robot = api.post(SERVICES, &api.admin, robot).await.expect(201).json;
    let robots = format!("{SERVICES}/{}/tokens", robot["id"].as_str().unwrap());
    api.post(&robots, &api.admin, new.clone()).await.expect(201);

    let login = api.admin_login().await;
    api.post(TOKENS, &login, new.clone()).await.expect(201);
    api.test_db.db.clock().shift(chrono::TimeDelta::minutes(10));
    for path in [TOKENS, &robots] {
        let refused = api.post(path, &login, new.clone()).await.expect(403).json;
        assert_eq!(refused["type"], "https://relaydesk.dev/problems/reauthentication-required", "{path}");
    }
    api.get("/api/v1/users", &login).await.expect(200);
}

#[tokio::test]
async fn service_accounts_have_tokens_and_nothing_else() {
    let api = Api::start().await;
    let owner = api.organization.agent.user_id().unwrap();
    let new = json!({"name": "Robot", "role": "agent", "owner": owner});
    api.post(SERVICES, &api.agent, new.clone()).await.expect(403);
    let made = api.post(SERVICES, &api.admin, new).await.expect(201).json;
    assert_eq!((&made["owner"], &made["role"]), (&json!(owner), &json!("agent")));
    let id = made["id"].as_str().unwrap().to_owned();
    let list = api.get(SERVICES, &api.agent).await.expect(200).json;
    assert_eq!((list["items"].as_array().unwrap().len(), &list["items"][0]["id"]), (1, &made["id"]));

    let path = format!("{SERVICES}/{id}/tokens");
    api.post(&path, &api.agent, json!({"name": "x"})).await.expect(403);
    let robot = token(&api, &path, &api.admin, json!(["tickets.view", "tickets.create"])).await;
    let me = api.get("/api/v1/users/me", &robot).await.expect(200).json;
    assert_eq!(me["id"], made["id"]);
    api.post("/api/v1/incidents", &robot, json!({"title": "disk full"})).await.expect(201);
    api.get("/api/v1/users", &robot).await.expect(403);
    // A person is none.
    let person = format!("{SERVICES}/{owner}/tokens");
    api.post(&person, &api.admin, json!({"name": "x"})).await.expect(404);

    // Nobody logs in as one, and it gets no password.
    let password = json!({"password": "correct horse battery"});
    api.post(&format!("/api/v1/users/{id}/set-password"), &api.admin, password).await.expect(409);
    let stored = sqlx::query("update users set password_hash = 'x' where kind = 'service'");
    assert!(stored.execute(&mut api.test_db.owner().await).await.is_err(), "nor does the database take one");

    let path = format!("{SERVICES}/{id}");
    let to = |owner: Value| api.patch(&path, &api.admin, json!({"owner": owner}));
    assert_eq!(to(json!(id)).await.expect(422).json["errors"][0]["pointer"], "/owner");
    let admin = json!(api.organization.admin.user_id());
    assert_eq!(to(admin.clone()).await.expect(200).json["owner"], admin);
    api.patch(&format!("/api/v1/users/{id}"), &api.admin, json!({"is_active": false})).await.expect(200);
    api.get("/api/v1/users/me", &robot).await.expect(401);
}
