//! Jobs, lanes and the live stream.

use crate::support::{Api, token_of};
use axum::body::{Body, BodyDataStream};
use axum::http::{Method, Request};
use futures::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;
use tower::ServiceExt;

#[tokio::test]
async fn jobs_are_listed_shown_cancelled() {
    let api = Api::start().await;
    api.post("/api/v1/teams", &api.admin, json!({"name": "Network"})).await.expect(201);
    let list = api.get("/api/v1/jobs?kind=react", &api.admin).await.expect(200);
    let id = list.json["items"][0]["id"].as_str().unwrap().to_owned();
    let shown = api.get(&format!("/api/v1/jobs/{id}"), &api.admin).await.expect(200);
    assert_eq!((shown.json["state"].as_str(), shown.json["lane"].as_str()), (Some("ready"), Some("react")));
    assert!(shown.json["attempts"].as_array().unwrap().is_empty());
    api.get("/api/v1/jobs", &api.agent).await.expect(403);
    let retry =
        api.call(Method::POST, &format!("/api/v1/jobs/{id}/retry"), &api.admin, None).await.expect(409);
    assert!(retry.json["detail"].as_str().unwrap().contains("only a dead or a scheduled job"));
    let cancelled =
        api.call(Method::POST, &format!("/api/v1/jobs/{id}/cancel"), &api.admin, None).await.expect(200);
    assert_eq!(cancelled.json, json!({"over": true}));
    assert_eq!(api.get(&format!("/api/v1/jobs/{id}"), &api.admin).await.json["state"], "cancelled");
    api.get("/api/v1/jobs?state=nonsense", &api.admin).await.expect(422);
}

#[tokio::test]
async fn only_the_operator_pauses_lanes() {
    let api = Api::start().await;
    let mut connection = api.test_db.owner().await;
    queue::admin::know_lanes(&mut connection, &["outbound"]).await.unwrap();
    let pause = || api.call(Method::POST, "/api/v1/lanes/outbound/pause", &api.admin, None);
    pause().await.expect(403);
    sqlx::query("update organizations set is_operator = true").execute(&mut connection).await.unwrap();
    pause().await.expect(204);
    let lanes = api.get("/api/v1/lanes", &api.admin).await.expect(200);
    let outbound = lanes.json["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|lane| lane["name"] == "outbound")
        .unwrap()
        .clone();
    assert_eq!(outbound["paused"], true);
    api.call(Method::POST, "/api/v1/lanes/outbound/resume", &api.admin, None).await.expect(204);
    api.call(Method::POST, "/api/v1/lanes/nowhere/pause", &api.admin, None).await.expect(404);
    api.call(Method::POST, "/api/v1/lanes/outbound/pause", &api.agent, None).await.expect(403);
}

#[tokio::test]
async fn the_operator_gives_tenants_their_shares() {
    let api = Api::start().await;
    let other = testkit::organization(&api.test_db, "globex").await;
    let stranger = token_of(&api.test_db, &other.admin).await;
    let share = |token: String, slug: &'static str, weight: Value| {
        let api = &api;
        async move { api.patch(&format!("/api/v1/tenants/{slug}"), &token, json!({"weight": weight})).await }
    };
    share(api.admin.clone(), "globex", json!(3)).await.expect(403);
    api.get("/api/v1/tenants", &api.admin).await.expect(403);
    let mut owner = api.test_db.owner().await;
    sqlx::query("update organizations set is_operator = true where slug = 'acme'")
        .execute(&mut owner)
        .await
        .unwrap();
    share(api.agent.clone(), "globex", json!(3)).await.expect(403);
    share(stranger.clone(), "globex", json!(3)).await.expect(403);
    api.get("/api/v1/tenants", &stranger).await.expect(403);
    api.get("/api/v1/tenants", &api.agent).await.expect(403);

    share(api.admin.clone(), "globex", json!(2.5)).await.expect(204);
    share(api.admin.clone(), "nobody", json!(2)).await.expect(404);
    for wrong in [json!(0), json!(-1), json!(1001), json!(1e39)] {
        let refused = share(api.admin.clone(), "globex", wrong.clone()).await;
        assert!([400, 422].contains(&refused.status.as_u16()), "{wrong}: {}", refused.text);
    }
    let list = api.get("/api/v1/tenants", &api.admin).await.expect(200);
    let shares: Vec<_> =
        list.json["items"].as_array().unwrap().iter().map(|t| (&t["slug"], &t["weight"])).collect();
    assert_eq!(shares, [(&json!("acme"), &json!(1.0)), (&json!("globex"), &json!(2.5))]);
    // What claims go by, and what stands in the log of those who operate.
    let weight: f32 = sqlx::query_scalar("select weight from queue.tenants where organization_id = $1")
        .bind(other.id.0)
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert_eq!(weight, 2.5);
    let told: Vec<(uuid::Uuid, Value)> =
        sqlx::query_as("select organization_id, payload from events where kind = 'tenant.changed'")
            .fetch_all(&mut owner)
            .await
            .unwrap();
    let fact = json!({"organization": other.id, "slug": "globex", "weight": 2.5});
    assert_eq!(told, [(api.organization.id.0, fact)]);
}

async fn follow(api: &Api, token: &str, last: Option<&str>) -> BodyDataStream {
    let mut request =
        Request::builder().uri("/api/v1/events/stream").header("authorization", format!("Bearer {token}"));
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let response = api.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    response.into_body().into_data_stream()
}

/// The next message that is no comment: id, kind, data.
async fn next(stream: &mut BodyDataStream) -> (String, String, Value) {
    loop {
        let chunk =
            tokio::time::timeout(Duration::from_secs(10), stream.next()).await.expect("a message in time");
        let text = String::from_utf8(chunk.expect("an open stream").unwrap().to_vec()).unwrap();
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).map(str::to_owned)
        };
        if let Some(id) = field("id") {
            return (id, field("event").unwrap(), serde_json::from_str(&field("data").unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn staff_follow_what_happens_and_resume() {
    let api = Api::start().await;
    let other = testkit::organization(&api.test_db, "globex").await;
    let stranger = token_of(&api.test_db, &other.admin).await;
    let mut stream = follow(&api, &api.agent, None).await;
    api.post("/api/v1/teams", &stranger, json!({"name": "foreign"})).await.expect(201);
    api.post("/api/v1/teams", &api.admin, json!({"name": "one"})).await.expect(201);
    api.post("/api/v1/departments", &api.admin, json!({"name": "two"})).await.expect(201);
    let (first, kind, data) = next(&mut stream).await;
    assert_eq!((kind.as_str(), data["kind"].as_str()), ("team.created", Some("team.created")));
    assert!(data["payload"]["team"].is_string());
    let (_, kind, _) = next(&mut stream).await;
    assert_eq!(kind, "department.created");
    drop(stream);
    api.delete(&format!("/api/v1/api-tokens/{}", uuid::Uuid::now_v7()), &api.admin).await.expect(404);
    api.post("/api/v1/teams", &api.admin, json!({"name": "three"})).await.expect(201);
    let mut stream = follow(&api, &api.agent, Some(&first)).await;
    assert_eq!(next(&mut stream).await.1, "department.created");
    assert_eq!(next(&mut stream).await.1, "team.created");
}

#[tokio::test]
async fn whoever_missed_many_gets_all_of_them() {
    let api = Api::start().await;
    let mut owner = api.test_db.owner().await;
    api.post("/api/v1/teams", &api.admin, json!({"name": "first"})).await.expect(201);
    // Older than what a stream that begins now begins with.
    sqlx::query(
        "insert into events (id, organization_id, kind, actor_kind, payload, created_at)
         select gen_random_uuid(), $1, 'team.updated', 'system', jsonb_build_object('n', n), now() - interval '1 hour'
         from generate_series(1, 2600) n order by n",
    )
    .bind(api.organization.id.0)
    .execute(&mut owner)
    .await
    .unwrap();
    let mut stream = follow(&api, &api.agent, Some("0")).await;
    assert_eq!(next(&mut stream).await.1, "team.created");
    for n in 1..=2600 {
        assert_eq!(next(&mut stream).await.2["payload"]["n"], n);
    }
}

#[tokio::test]
async fn what_commits_late_comes_in_its_place() {
    let api = Api::start().await;
    let mut stream = follow(&api, &api.agent, None).await;
    let mut late = api.test_db.db.begin(api.organization.id).await.unwrap();
    let actor = domain::Actor::system(api.organization.id, "test");
    actions::events::record(&mut late, &actor, "test.late", None, json!({})).await.unwrap();
    api.post("/api/v1/teams", &api.admin, json!({"name": "early"})).await.expect(201);
    // Held back while the other one is open.
    let early = tokio::time::timeout(Duration::from_secs(1), next(&mut stream)).await;
    assert!(early.is_err(), "{early:?}");
    late.commit().await.unwrap();
    assert_eq!(next(&mut stream).await.1, "test.late");
    assert_eq!(next(&mut stream).await.1, "team.created");
    // And one that never commits holds nothing up.
    let mut never = api.test_db.db.begin(api.organization.id).await.unwrap();
    actions::events::record(&mut never, &actor, "test.never", None, json!({})).await.unwrap();
    api.post("/api/v1/teams", &api.admin, json!({"name": "after"})).await.expect(201);
    never.rollback().await.unwrap();
    assert_eq!(next(&mut stream).await.1, "team.created");
}

#[tokio::test]
async fn end_users_hear_of_their_own_tickets_only() {
    let api = Api::start().await;
    let mut stream = follow(&api, &api.end_user, None).await;
    let ticket = |title: &str| json!({"title": title, "description": "", "impact": "low", "urgency": "low"});
    api.post("/api/v1/incidents", &api.agent, ticket("not theirs")).await.expect(201);
    let own = api.post("/api/v1/incidents", &api.end_user, ticket("theirs")).await.expect(201);
    let comments = format!("/api/v1/incidents/{}/comments", own.json["number"].as_str().unwrap());
    api.post(&comments, &api.agent, json!({"body": "secret", "visibility": "internal"})).await.expect(201);
    api.post(&comments, &api.agent, json!({"body": "hello", "visibility": "public"})).await.expect(201);
    let (_, kind, data) = next(&mut stream).await;
    assert_eq!((kind.as_str(), &data["ticket"]), ("incident.opened", &own.json["id"]));
    assert!(data.get("payload").is_none() && data.get("actor").is_none());
    let (id, kind, _) = next(&mut stream).await;
    assert_eq!(kind, "incident.commented");
    // The internal note lies between them and was not told.
    let mut staff = follow(&api, &api.agent, Some("0")).await;
    let mut told = Vec::new();
    loop {
        let (position, kind, _) = next(&mut staff).await;
        told.push(kind);
        if position == id {
            break;
        }
    }
    assert_eq!(told, ["incident.opened", "incident.opened", "incident.commented", "incident.commented"]);
}

#[tokio::test]
async fn end_users_do_not_learn_what_staff_tell_each_other() {
    let api = Api::start().await;
    let mut stream = follow(&api, &api.end_user, None).await;
    let ticket = |title: &str| json!({"title": title, "description": "", "impact": "low", "urgency": "low"});
    let own = api.post("/api/v1/incidents", &api.end_user, ticket("theirs")).await.expect(201).json;
    let foreign = api.post("/api/v1/incidents", &api.agent, ticket("not theirs")).await.expect(201).json;
    let path = format!("/api/v1/incidents/{}", own["number"].as_str().unwrap());
    let act = async |verb: &str, token: &str, body: Value| {
        api.post(&format!("{path}/{verb}"), token, body).await.expect_success();
    };
    act("assign", &api.agent, json!({"assignee": "agent@acme.example", "reason": "nobody else bears him"}))
        .await;
    act("escalate", &api.agent, json!({"reason": "the boss is angry"})).await;
    act("links", &api.agent, json!({"kind": "caused_by", "ticket": foreign["number"]})).await;
    // As a step of a chain does it.
    let mut tx = api.state.db.begin(api.organization.id).await.unwrap();
    let system = domain::Actor::system(api.organization.id, "escalate");
    let id = own["id"].as_str().unwrap().parse().unwrap();
    let step = actions::tickets::Escalation {
        reason: "Night shift, step 1: an SLA target has passed".into(),
        ..Default::default()
    };
    actions::tickets::escalate(&mut tx, &system, id, step).await.unwrap();
    tx.commit().await.unwrap();
    act("resolve", &api.agent, json!({"resolution": "a new cable"})).await;
    act("reopen", &api.end_user, json!({"reason": "it is broken again"})).await;

    let secrets = [
        "bears",
        "boss",
        "Night shift",
        foreign["number"].as_str().unwrap(),
        foreign["id"].as_str().unwrap(),
    ];
    let seen = api.get(&format!("{path}/history"), &api.end_user).await.expect(200);
    for secret in secrets {
        assert!(!seen.text.contains(secret), "{secret}: {}", seen.text);
    }
    let actions = |answer: &crate::support::Answer| -> Vec<String> {
        let items = answer.json["items"].as_array().unwrap();
        items.iter().map(|item| item["action"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(actions(&seen), ["opened", "assigned", "resolved", "reopened"]);
    assert!(seen.text.contains("it is broken again"), "one's own reasons are shown: {}", seen.text);
    let staff = api.get(&format!("{path}/history"), &api.agent).await.expect(200);
    assert_eq!(
        actions(&staff),
        ["opened", "assigned", "escalated", "linked", "escalated", "resolved", "reopened"]
    );
    for secret in &secrets[..4] {
        assert!(staff.text.contains(secret), "{secret}: {}", staff.text);
    }
    for expected in ["incident.opened", "incident.assigned", "incident.resolved", "incident.reopened"] {
        let (_, kind, data) = next(&mut stream).await;
        assert_eq!((kind.as_str(), &data["ticket"]), (expected, &own["id"]));
        assert_eq!(data.as_object().unwrap().len(), 4, "{data}");
    }
}

#[tokio::test]
async fn the_stream_ends_with_the_login_and_with_the_process() {
    let api = Api::start().await;
    let mut stream = follow(&api, &api.agent, None).await;
    let path = format!("/api/v1/users/{}", api.organization.agent.user_id().unwrap());
    api.patch(&path, &api.admin, json!({"is_active": false})).await.expect(200);
    let rest = async { while let Some(Ok(_)) = stream.next().await {} };
    tokio::time::timeout(Duration::from_secs(12), rest).await.expect("the stream ends");
    let mut stream = follow(&api, &api.admin, None).await;
    api.state.drain();
    let rest = async { while let Some(Ok(_)) = stream.next().await {} };
    tokio::time::timeout(Duration::from_secs(5), rest).await.expect("the stream ends");
}

#[tokio::test]
async fn the_confidential_is_told_to_those_who_have_a_part_in_it() {
    let api = Api::start().await;
    let (mut agent, mut admin) = (follow(&api, &api.agent, None).await, follow(&api, &api.admin, None).await);
    let secret = json!({"title": "salaries", "confidential": true});
    let secret = api.post("/api/v1/incidents", &api.admin, secret).await.expect(201).json;
    let path = format!("/api/v1/incidents/{}", secret["id"].as_str().unwrap());
    api.post("/api/v1/teams", &api.admin, json!({"name": "one"})).await.expect(201);
    assert_eq!(next(&mut admin).await.1, "incident.opened");
    assert_eq!(next(&mut agent).await.1, "team.created", "and nothing before it");
    let watcher = json!({"user": api.organization.agent.user_id()});
    api.post(&format!("{path}/watchers"), &api.admin, watcher).await.expect(201);
    api.post(&format!("{path}/comments"), &api.admin, json!({"body": "look"})).await.expect(201);
    let (_, kind, data) = next(&mut agent).await;
    assert_eq!((kind.as_str(), &data["ticket"]), ("incident.commented", &secret["id"]));
    // What was missed, too: seen by now. And hidden from whom it was told before it became confidential.
    let plain = api.post("/api/v1/incidents", &api.admin, json!({"title": "plain"})).await.expect(201).json;
    let plain = format!("/api/v1/incidents/{}", plain["id"].as_str().unwrap());
    assert_eq!(next(&mut agent).await.1, "incident.opened");
    api.patch(&plain, &api.admin, json!({"confidential": true})).await.expect(200);
    api.post("/api/v1/teams", &api.admin, json!({"name": "two"})).await.expect(201);
    let mut again = follow(&api, &api.agent, Some("0")).await;
    let mut told = Vec::new();
    while told.iter().filter(|kind| *kind == "team.created").count() < 2 {
        told.push(next(&mut again).await.1);
    }
    assert_eq!(told, ["incident.opened", "team.created", "incident.commented", "team.created"]);
}
