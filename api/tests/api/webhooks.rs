//! Webhooks over the API: who may, what is refused, and the secret that is shown once.

use crate::support::{Api, request};
use axum::http::Method;
use domain::Permission;
use domain::permission::Limits;
use serde_json::{Value, json};

const WEBHOOKS: &str = "/api/v1/webhooks";

fn good() -> Value {
    json!({"url": "https://hooks.example.com/relaydesk", "event_types": ["incident.resolved"], "description": "the CRM"})
}

#[tokio::test]
async fn the_secret_is_shown_once() {
    let api = Api::start().await;
    let made = api.post(WEBHOOKS, &api.admin, good()).await.expect(201);
    let secret = made.json["secret"].as_str().unwrap().to_owned();
    assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
    let path = format!("{WEBHOOKS}/{}", made.json["id"].as_str().unwrap());
    assert_eq!(made.header("location"), path);
    let shown = api.get(&path, &api.admin).await.expect(200);
    assert_eq!((&shown.json["url"], &shown.json["is_active"]), (&good()["url"], &json!(true)));
    assert_eq!(shown.json["owner"], api.organization.admin.user_id().unwrap().to_string());
    let changed = api.patch(&path, &api.admin, json!({"description": "another"})).await.expect(200);
    let list = api.get(WEBHOOKS, &api.admin).await.expect(200);
    let log = api.get("/api/v1/audit-logs?noun=webhooks&page_size=200", &api.admin).await.expect(200);
    // Whoever knows an address may write to it, and its path and query are the password of many.
    let made = log.json["items"].as_array().unwrap().iter().find(|entry| entry["verb"] == "create").unwrap();
    let url = made["changes"].as_array().unwrap().iter().find(|change| change["field"] == "url");
    assert_eq!(url.unwrap()["to"], "(secret)", "{made}");
    assert!(!log.text.contains("hooks.example.com"), "{}", log.text);
    for answer in [&shown, &changed, &list, &log] {
        assert!(!answer.text.contains(&secret[6..40]) && answer.json["secret"].is_null());
    }
    // Nor by repeating the request.
    let mut first = request(Method::POST, &format!("{path}/secret"), &api.admin, None);
    first.headers_mut().insert("idempotency-key", "rotate-1".parse().unwrap());
    let rotated = api.send(first).await.expect(200);
    assert!(rotated.json["previous_secret_until"].is_string() && rotated.json["secret"] != secret);
    let mut again = request(Method::POST, &format!("{path}/secret"), &api.admin, None);
    again.headers_mut().insert("idempotency-key", "rotate-1".parse().unwrap());
    assert!(!api.send(again).await.expect(409).text.contains("whsec_"));
    let now =
        api.post(&format!("{path}/secret"), &api.admin, json!({"overlap_seconds": 0})).await.expect(200);
    assert!(now.json["previous_secret_until"].is_null());
    api.post(&format!("{path}/secret"), &api.admin, json!({"overlap_seconds": 700_000})).await.expect(422);
    for kind in ["webhook.created", "webhook.updated", "webhook.secret_rotated"] {
        for payload in api.events(kind).await {
            assert!(!payload.to_string().contains("whsec"), "{payload}");
        }
    }
    api.delete(&path, &api.admin).await.expect(204);
    api.get(&path, &api.admin).await.expect(404);
}

#[tokio::test]
async fn who_may_and_what_is_refused() {
    let api = Api::start().await;
    for token in [&api.agent, &api.end_user] {
        api.post(WEBHOOKS, token, good()).await.expect(403);
        api.get(WEBHOOKS, token).await.expect(403);
        api.get("/api/v1/webhook-deliveries", token).await.expect(403);
        api.get("/api/v1/webhook-event-types", token).await.expect(403);
    }
    for (field, value) in [
        ("url", json!("hooks.example.com")),
        ("url", json!("ftp://hooks.example.com")),
        ("url", json!("https://user:pass@hooks.example.com")),
        ("url", json!("https://hooks.example.com/#x")),
        ("url", json!(format!("https://hooks.example.com/{}", "x".repeat(2000)))),
        ("event_types", json!([])),
        ("event_types", json!(["incident.melted"])),
        ("event_types", json!(["incident"])),
        ("description", json!("x".repeat(501))),
        ("secret", json!("whsec_mine")),
    ] {
        let mut body = good();
        body[field] = value;
        let refused = api.post(WEBHOOKS, &api.admin, body).await.expect(422);
        let pointer = refused.json["errors"][0]["pointer"].as_str().unwrap().to_owned();
        assert!(pointer.starts_with(&format!("/{field}")), "{}", refused.text);
    }
    let types = api.get("/api/v1/webhook-event-types?page_size=200", &api.admin).await.expect(200);
    assert!(types.json["items"].as_array().unwrap().contains(&json!("incident.resolved")));

    let made = api.post(WEBHOOKS, &api.admin, good()).await.expect(201);
    let path = format!("{WEBHOOKS}/{}", made.json["id"].as_str().unwrap());
    let mut stale = request(Method::PATCH, &path, &api.admin, Some(json!({"is_active": false})));
    stale.headers_mut().insert("if-match", "\"17\"".parse().unwrap());
    api.send(stale).await.expect(412);
    api.patch(&path, &api.admin, json!({"is_active": null})).await.expect(422);
    let off = api.patch(&path, &api.admin, json!({"is_active": false})).await.expect(200);
    assert_eq!(off.json["disabled_reason"], "by_hand");
    api.call(Method::POST, &format!("{path}/test"), &api.admin, None).await.expect(409);
    let past = json!({"since": "2026-01-01T00:00:00Z"});
    api.post(&format!("{path}/replay"), &api.admin, past.clone()).await.expect(409);
    api.patch(&path, &api.admin, json!({"is_active": true})).await.expect(200);
    api.post(&format!("{path}/replay"), &api.admin, past).await.expect(202);
    api.post(&format!("{path}/replay"), &api.admin, json!({"since": "9000-01-01T00:00:00Z"}))
        .await
        .expect(422);
    let test = api.call(Method::POST, &format!("{path}/test"), &api.admin, None).await.expect(202);
    let delivery = format!("/api/v1/webhook-deliveries/{}", test.json["delivery"].as_str().unwrap());
    let shown = api.get(&delivery, &api.admin).await.expect(200);
    assert_eq!(
        (&shown.json["event_type"], &shown.json["status"]),
        (&json!("webhook.test"), &json!("pending"))
    );
    api.call(Method::POST, &format!("{delivery}/replay"), &api.admin, None).await.expect(409);
    let attempts = api.get(&format!("{delivery}/attempts"), &api.admin).await.expect(200);
    assert_eq!(attempts.json["items"], json!([]));
}

/// Whoever sends a webhook somewhere else hears with their own ears: else it would be a way to what one may not see.
#[tokio::test]
async fn who_changes_where_it_goes_becomes_its_owner() {
    let api = Api::start().await;
    let made = api.post(WEBHOOKS, &api.admin, good()).await.expect(201);
    let path = format!("{WEBHOOKS}/{}", made.json["id"].as_str().unwrap());
    let role = json!({"name": "Integrator", "permissions": {"webhooks.manage": "organization", "webhooks.read": "organization"}});
    let role = api.post("/api/v1/user-roles", &api.admin, role).await.expect(201).json;
    let agent = api.organization.agent.user_id().unwrap();
    let grants = format!("/api/v1/user-roles/{}/grants", role["id"].as_str().unwrap());
    api.post(&grants, &api.admin, json!({"user": agent})).await.expect(201);
    let kept = api.patch(&path, &api.agent, json!({"description": "mine?"})).await.expect(200);
    assert_eq!(kept.json["owner"], made.json["owner"], "words change nothing");
    let moved = api.patch(&path, &api.agent, json!({"url": "https://evil.example/"})).await.expect(200);
    assert_eq!(moved.json["owner"], agent.to_string());
    assert_eq!(moved.json["created_by"], made.json["owner"]);
    // With a token for little it hears little, and not for longer than the token lives.
    let deaf = json!({"name": "deaf", "scopes": ["webhooks.manage", "tickets.view"]});
    let deaf = api.post("/api/v1/api-tokens", &api.admin_login().await, deaf).await.expect(201).json["token"]
        .clone();
    api.patch(&path, deaf.as_str().unwrap(), json!({"event_types": ["*"]})).await.expect(403);
    let scopes = ["tickets.view_own", "webhooks.manage", "events.follow"];
    let narrow = json!({"name": "narrow", "scopes": scopes, "expires_at": "2999-01-01T00:00:00Z"});
    let token = api.post("/api/v1/api-tokens", &api.admin_login().await, narrow).await.expect(201).json;
    let narrow = token["token"].as_str().unwrap();
    let moved = api.patch(&path, narrow, json!({"event_types": ["*"]})).await.expect(200);
    assert_eq!(moved.json["expires_at"], "2999-01-01T00:00:00Z");
    let mut tx = api.state.db.begin(api.organization.id).await.unwrap();
    let id = made.json["id"].as_str().unwrap().parse().unwrap();
    let kept = store::webhooks::get(&mut tx, id).await.unwrap();
    assert_eq!(kept.scopes.as_deref(), Some(&scopes.map(str::to_owned)[..]));
    let listener = actions::webhooks::listener(&mut tx, &kept).await.unwrap().unwrap();
    let limits =
        Limits::to([Permission::EventsFollow, Permission::TicketsViewOwn, Permission::WebhooksManage]);
    assert_eq!(listener.rights().unwrap().limits, Some(limits));
}

#[tokio::test]
async fn the_log_hides_what_the_reader_does_not_see() {
    let api = Api::start().await;
    api.post(
        WEBHOOKS,
        &api.admin,
        json!({"url": "https://hooks.example.com/", "event_types": ["incident.*"]}),
    )
    .await
    .expect(201);
    let secret = api
        .post("/api/v1/incidents", &api.agent, json!({"title": "salaries", "confidential": true}))
        .await
        .expect(201)
        .json;
    let open = api.post("/api/v1/incidents", &api.agent, json!({"title": "printer"})).await.expect(201).json;
    // What the react jobs do.
    let mut tx = api.state.db.begin(api.organization.id).await.unwrap();
    let (now, hour) = (tx.now(), chrono::TimeDelta::hours(1));
    let events =
        store::events::within(&mut tx, (now - hour, now + hour), (now - hour, 0), 100).await.unwrap();
    actions::webhooks::tell(&mut tx, &events, |_| None).await.unwrap();
    tx.commit().await.unwrap();
    let person = json!({"email": "manager@acme.example", "name": "Manager", "role": "manager"});
    let person = api.post("/api/v1/users", &api.admin, person).await.expect(201).json;
    let manager = api.token_of(&person["id"]).await;
    let tickets = |list: &Value| -> Vec<Value> {
        list["items"].as_array().unwrap().iter().map(|item| item["ticket"].clone()).collect()
    };
    let all = api.get("/api/v1/webhook-deliveries", &api.admin).await.expect(200).json;
    assert_eq!(tickets(&all), [open["id"].clone(), secret["id"].clone()]);
    let some = api.get("/api/v1/webhook-deliveries", &manager).await.expect(200).json;
    assert_eq!(tickets(&some), [open["id"].clone()]);
    let hidden = format!("/api/v1/webhook-deliveries/{}", all["items"][1]["id"].as_str().unwrap());
    api.get(&hidden, &manager).await.expect(404);
    api.get(&format!("{hidden}/attempts"), &manager).await.expect(404);
    api.call(Method::POST, &format!("{hidden}/replay"), &manager, None).await.expect(403);
    api.get("/api/v1/webhook-deliveries?event_type=incident.opened&status=pending", &manager)
        .await
        .expect(200);
    let number = secret["number"].as_str().unwrap();
    let unseen =
        api.get(&format!("/api/v1/webhook-deliveries?ticket={number}"), &manager).await.expect(200).json;
    assert_eq!(unseen["items"], json!([]));
    let one =
        api.get(&format!("/api/v1/webhook-deliveries?ticket={number}"), &api.admin).await.expect(200).json;
    assert_eq!(tickets(&one), [secret["id"].clone()]);
}
