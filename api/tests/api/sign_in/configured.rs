//! Providers as their admins have them: who may, what is refused, and a secret that nobody sees again.

use super::world::{PROVIDERS, SECRET, World, add, text, verified};
use crate::support::{Api, request};
use axum::http::Method;
use serde_json::{Value, json};

const ISSUER: &str = "https://id.acme.example";

#[tokio::test]
async fn a_secret_goes_in_and_never_comes_out() {
    let world = World::with(json!({})).await;
    let path = format!("{PROVIDERS}/{}", world.provider);
    let shown = world.api.get(&path, &world.api.admin).await.expect(200);
    assert_eq!(shown.json["has_client_secret"], true);
    world.change(json!({"client_secret": format!("{SECRET}2")})).await;
    world.tokens(verified("new@acme.example")).await;
    let list = world.api.get(PROVIDERS, &world.api.admin).await.expect(200);
    let log = world.api.get("/api/v1/audit-logs?page_size=200", &world.api.admin).await.expect(200);
    assert!(log.text.contains("identity_providers"), "{}", log.text);
    let events: Vec<Value> = world.api.events("identity_provider.updated").await;
    assert_eq!(events.len(), 1);
    let rows: Vec<String> = sqlx::query_scalar("select to_jsonb(p)::text from identity_providers p")
        .fetch_all(&mut world.api.test_db.owner().await)
        .await
        .unwrap();
    let hex = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    for text in [&shown.text, &list.text, &log.text, &json!(events).to_string(), &rows.join(" ")] {
        assert!(!text.contains("between us") && !text.contains(&hex), "{text}");
    }
    // Taken away: a public client, which proves itself by PKCE alone.
    world.change(json!({"client_secret": null})).await;
    world.tokens(verified("new@acme.example")).await;
    let (form, authorization) = world.peer.asked().pop().unwrap();
    assert_eq!((&*form["client_id"], &*authorization), ("relaydesk", ""));
}

#[tokio::test]
async fn only_who_has_all_rights_of_an_admin_decides_about_logins() {
    let api = Api::start().await;
    let body = json!({"name": "Acme", "issuer": ISSUER, "client_id": "x"});
    for token in [&api.agent, &api.end_user] {
        api.post(PROVIDERS, token, body.clone()).await.expect(403);
        api.get(PROVIDERS, token).await.expect(403);
    }
    let narrow = json!({"name": "narrow", "scopes": ["identity_providers.manage", "people.manage"]});
    let narrow = text(
        &api.post("/api/v1/api-tokens", &api.admin_login().await, narrow).await.expect(201).json["token"],
    );
    api.get(PROVIDERS, &narrow).await.expect(200);
    api.post(PROVIDERS, &narrow, body.clone()).await.expect(403);
    // A role of one's own with that permission alone does not do either.
    let role = json!({"name": "Logins", "permissions": {"identity_providers.manage": "organization"}});
    let role = api.post("/api/v1/user-roles", &api.admin, role).await.expect(201).json;
    let grants = format!("/api/v1/user-roles/{}/grants", text(&role["id"]));
    api.post(&grants, &api.admin, json!({"user": api.organization.agent.user_id()})).await.expect(201);
    api.post(PROVIDERS, &api.agent, body.clone()).await.expect(403);
    let provider = text(&api.post(PROVIDERS, &api.admin, body).await.expect(201).json["id"]);
    let path = format!("{PROVIDERS}/{provider}");
    api.patch(&path, &api.agent, json!({"default_role": "admin"})).await.expect(403);
    api.delete(&path, &api.agent).await.expect(403);
}

#[tokio::test]
async fn wrong_settings_are_told_with_their_place() {
    let api = Api::start().await;
    let nobody = uuid::Uuid::now_v7();
    for (wrong, pointer) in [
        (json!({"issuer": "http://id.acme.example"}), "/issuer"),
        (json!({"issuer": "https://id.acme.example/?a"}), "/issuer"),
        (json!({"name": " "}), "/name"),
        (json!({"client_id": ""}), "/client_id"),
        (json!({"client_secret": ""}), "/client_secret"),
        (json!({"scopes": ["email"]}), "/scopes"),
        (json!({"scopes": ["openid", "a b"]}), "/scopes/1"),
        (json!({"email_domains": ["acme.example", "@"]}), "/email_domains/1"),
        (json!({"default_role": "root"}), "/default_role"),
        (json!({"login_hours": 0}), "/login_hours"),
        (json!({"groups": [{"group": "a", "role": "agent"}]}), "/groups_claim"),
        (json!({"groups_claim": "g", "groups": [{"group": "a"}]}), "/groups/0"),
        (
            json!({"groups_claim": "g", "groups": [{"group": "a", "role": "agent", "team": nobody}]}),
            "/groups/0",
        ),
        (json!({"groups_claim": "g", "groups": [{"group": "a", "team": nobody}]}), "/groups/0/team"),
    ] {
        let mut body = json!({"name": "Acme", "issuer": ISSUER, "client_id": "x"});
        body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let problem = api.post(PROVIDERS, &api.admin, body).await.expect(422).json;
        let pointers: Vec<&Value> =
            problem["errors"].as_array().unwrap().iter().map(|one| &one["pointer"]).collect();
        assert!(pointers.contains(&&json!(pointer)), "{wrong}: {problem}");
    }
    // Issuer and client never change: the subjects of one are not those of another, nor is its secret.
    let provider = add(&api, &api.admin, ISSUER, json!({})).await;
    let path = format!("{PROVIDERS}/{provider}");
    api.patch(&path, &api.admin, json!({"issuer": "https://evil.example"})).await.expect(422);
    let again = json!({"name": "Other", "issuer": ISSUER, "client_id": "relaydesk"});
    api.post(PROVIDERS, &api.admin, again).await.expect(409);
    // Not over the change of somebody else.
    let tag = api.get(&path, &api.admin).await.expect(200).header("etag").to_owned();
    let change = async |tag: &str| {
        let mut request = request(Method::PATCH, &path, &api.admin, Some(json!({"name": "New"})));
        request.headers_mut().insert("if-match", tag.parse().unwrap());
        api.send(request).await
    };
    change(&tag).await.expect(200);
    change(&tag).await.expect(412);
    assert_eq!(api.get(&path, &api.admin).await.expect(200).json["name"], "New");
}
