//! The audit log: every write is in it, with who did it and by way of what; nobody can change it; nobody else reads it.

use crate::support::{Api, request};
use axum::extract::ConnectInfo;
use axum::http::Method;
use domain::Actor;
use serde_json::{Value, json};
use std::net::SocketAddr;

async fn log(api: &Api, query: &str) -> Vec<Value> {
    let page = api.get(&format!("/api/v1/audit-logs?{query}"), &api.admin).await.expect(200).json;
    page["items"].as_array().unwrap().clone()
}

fn change<'a>(entry: &'a Value, field: &str) -> &'a Value {
    let changes = entry["changes"].as_array().unwrap();
    changes.iter().find(|change| change["field"] == field).unwrap_or_else(|| panic!("no {field}: {entry}"))
}

#[tokio::test]
async fn a_write_is_told_with_who_did_it_from_where() {
    let api = Api::start().await;
    let ticket =
        api.post("/api/v1/incidents", &api.agent, json!({"title": "No paper"})).await.expect(201).json;
    let id = ticket["id"].as_str().unwrap();
    let path = format!("/api/v1/incidents/{id}");
    let mut patch = request(Method::PATCH, &path, &api.agent, Some(json!({"title": "No paper at all"})));
    let peer: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    patch.extensions_mut().insert(ConnectInfo(peer));
    patch.headers_mut().insert("x-request-id", "from-the-proxy.1".parse().unwrap());
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    patch.headers_mut().insert("traceparent", format!("00-{trace}-00f067aa0ba902b7-01").parse().unwrap());
    let answer = api.send(patch).await.expect(200);
    assert_eq!(answer.header("x-request-id"), "from-the-proxy.1");
    let comment = json!({"body": "It is on its way", "visibility": "public"});
    api.post(&format!("{path}/comments"), &api.admin, comment).await.expect(201);

    let entries = log(&api, &format!("object={id}&noun=tickets&verb=update")).await;
    let update = entries.iter().find(|entry| entry["address"] == "192.0.2.7").unwrap();
    assert_eq!(
        (&update["request"], &update["trace"], &update["category"]),
        (&json!("from-the-proxy.1"), &json!(trace), &json!("change"))
    );
    let agent = api.organization.agent.user_id().unwrap().0;
    assert_eq!(update["actor"], json!({"kind": "user", "user": agent, "on_behalf": null, "label": null}));
    assert_eq!(
        change(update, "title"),
        &json!({"field": "title", "from": "No paper", "to": "No paper at all"})
    );
    assert_eq!(update["changes"].as_array().unwrap().len(), 1, "only what changed: {update}");

    // What was made, and what is part of it.
    let all = log(&api, &format!("object={id}")).await;
    let created = all.iter().find(|e| e["noun"] == "tickets" && e["verb"] == "create").unwrap();
    assert_eq!(
        (&change(created, "title")["from"], &change(created, "title")["to"]),
        (&Value::Null, &json!("No paper"))
    );
    let comment = all.iter().find(|e| e["noun"] == "ticket_comments").unwrap();
    assert_eq!(
        (&comment["parent"], &change(comment, "body")["to"]),
        (&json!(id), &json!("It is on its way"))
    );

    // Filters and pages: the same entries, whoever asks how.
    assert_eq!(log(&api, "request=from-the-proxy.1").await, vec![update.clone()]);
    assert_eq!(log(&api, "address=192.0.2.7").await, vec![update.clone()]);
    assert_eq!(log(&api, "address=::ffff:192.0.2.7").await, vec![update.clone()]);
    assert!(log(&api, &format!("actor={agent}")).await.iter().all(|e| e["actor"]["user"] == json!(agent)));
    assert!(log(&api, "at[lt]=2001-01-01T00:00:00Z").await.is_empty());
    let (mut walked, mut query) = (Vec::new(), "page_size=2".to_owned());
    loop {
        let page = api.get(&format!("/api/v1/audit-logs?{query}"), &api.admin).await.expect(200).json;
        walked.extend(page["items"].as_array().unwrap().clone());
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        query = format!("page_size=2&cursor={cursor}");
    }
    assert_eq!(walked, log(&api, "page_size=200").await);
    for token in [&api.agent, &api.end_user] {
        for path in ["/api/v1/audit-logs", "/api/v1/compliance-logs"] {
            api.get(path, token).await.expect(403);
        }
    }
}

#[tokio::test]
async fn what_concerns_security_is_a_list_of_its_own() {
    let api = Api::start().await;
    let (agent, organization) = (api.organization.agent.user_id().unwrap(), api.organization.id);
    api.patch(&format!("/api/v1/users/{agent}"), &api.admin, json!({"role": "manager"})).await.expect(200);
    api.patch(&format!("/api/v1/users/{agent}"), &api.admin, json!({"phone": "+49 30 1234"}))
        .await
        .expect(200);
    let mut tx = api.test_db.db.begin(organization).await.unwrap();
    let nobody = Actor::system(organization, "login");
    actions::audit::security(&mut tx, &nobody, "auth.login_failed", Some(agent), json!({"why": "password"}))
        .await
        .unwrap();
    // Events of logins are told by themselves.
    let by = &api.organization.agent;
    actions::events::record(&mut tx, by, "auth.logged_in", None, json!({"user": agent})).await.unwrap();
    tx.commit().await.unwrap();

    let page = api.get("/api/v1/compliance-logs", &api.admin).await.expect(200).json;
    let found: Vec<(&str, &str)> = page["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|entry| entry["object"] == json!(agent))
        .map(|entry| (entry["noun"].as_str().unwrap(), entry["verb"].as_str().unwrap()))
        .collect();
    // The last is the account itself; its phone number is none of security's.
    let expected =
        [("auth", "logged_in"), ("auth", "login_failed"), ("users", "update"), ("users", "create")];
    assert_eq!(found, expected, "{page:#}");
    let failed = &page["items"][1];
    assert_eq!(
        (&failed["details"], &failed["actor"]["label"], &failed["changes"]),
        (&json!({"why": "password"}), &json!("login"), &json!([]))
    );
    assert_eq!(page["items"][0]["actor"]["user"], json!(agent));
    // A token is made and revoked: both are of security, and its hash is in neither.
    let tokens = api.get("/api/v1/compliance-logs?noun=api_tokens", &api.admin).await.expect(200).json;
    assert_eq!(change(&tokens["items"][0], "token_hash")["to"], "(secret)");
}

/// ASVS 5.0, 16.3.2. Who tries a thousand doors is seen, and does not fill the log.
#[tokio::test]
async fn refusals_are_on_record_and_nobody_fills_the_log_with_them() {
    let api = Api::start().await;
    for _ in 0..40 {
        api.get("/api/v1/audit-logs", &api.agent).await.expect(403);
    }
    let admin = api.organization.admin.user_id().unwrap();
    let set = format!("/api/v1/users/{admin}/set-password");
    let mut request =
        request(Method::POST, &set, &api.end_user, Some(json!({"password": "not mine to choose"})));
    request.headers_mut().insert("x-request-id", "of-somebody-curious".parse().unwrap());
    api.send(request).await.expect(403);
    let list =
        api.get("/api/v1/compliance-logs?verb=refused&page_size=200", &api.admin).await.expect(200).json;
    let refused = list["items"].as_array().unwrap();
    let by =
        |user: &Actor| refused.iter().filter(|one| one["actor"]["user"] == json!(user.user_id())).count();
    assert_eq!((by(&api.organization.agent), by(&api.organization.end_user)), (10, 1), "{list:#}");
    let curious = &refused[0];
    assert_eq!((&curious["noun"], &curious["request"]), (&json!("access"), &json!("of-somebody-curious")));
    let details = json!({"method": "POST", "route": "/api/v1/users/{id}/set-password", "reason": "forbidden", "left_out": 0});
    assert_eq!(curious["details"], details);
    assert!(!list.to_string().contains("not mine to choose"));
}

/// Whatever the application's role tries, and whatever it has in its hands.
#[tokio::test]
async fn the_application_cannot_touch_the_log() {
    let api = Api::start().await;
    api.post("/api/v1/incidents", &api.agent, json!({"title": "Fire"})).await.expect(201);
    let columns = "(organization_id, seq, at, category, noun, verb, actor_kind, changes, salt)";
    let mut attempts: Vec<String> = Vec::new();
    for table in ["audit_entries", "audit_seals", "audit_anchors", "audit.tables"] {
        attempts.push(format!("delete from {table}"));
        attempts.push(format!("truncate {table}"));
        attempts.push(format!("drop table {table}"));
        attempts.push(format!("alter table {table} add column more text"));
        attempts.push(format!("insert into {table} default values"));
    }
    attempts.push("update audit_entries set verb = 'read'".into());
    attempts.push("update audit_entries set changes = null, salt = null, erased_digest = ''".into());
    attempts.push("update audit_seals set hash = ''".into());
    attempts.push("select * from audit_entries for update".into());
    attempts.push(format!(
        "insert into audit_entries {columns} overriding system value select organization_id, 1, now(), 'change', 'tickets', 'delete', \
         'system', '{{}}', gen_random_uuid() from audit_entries limit 1"
    ));
    for table in ["tickets", "users"] {
        attempts.push(format!("alter table {table} disable trigger all"));
        attempts.push(format!("drop trigger audit_rows on {table}"));
        attempts.push(format!("truncate {table} cascade"));
    }
    attempts.push("set session_replication_role = replica".into());
    attempts.push("create or replace function audit.of_tickets() returns trigger language plpgsql as 'begin return null; end'".into());
    attempts.push(
        "select audit.append(gen_random_uuid(), 'change', 'tickets', 'delete', null, null, '{}')".into(),
    );
    attempts.push("select audit.security('audit.pruned', null, '{}', null, null, null)".into());
    attempts.push("call not_audited('tickets', 'because')".into());
    attempts.push("set role postgres".into());
    for attempt in &attempts {
        let mut tx = api.test_db.db.begin(api.organization.id).await.unwrap();
        let tried = sqlx::raw_sql(sqlx::AssertSqlSafe(attempt.clone())).execute(&mut *tx).await;
        assert!(tried.is_err(), "{attempt}");
    }
    let mut owner = api.test_db.owner().await;
    let kept: i64 = sqlx::query_scalar("select count(*) from audit_entries where noun = 'tickets'")
        .fetch_one(&mut owner)
        .await
        .unwrap();
    assert!(kept >= 1);
}

/// Changes of those who go around Relaydesk are recorded as theirs.
#[tokio::test]
async fn who_works_on_the_database_is_told_too() {
    let api = Api::start().await;
    let mut owner = api.test_db.owner().await;
    sqlx::query("update organizations set name = 'Somebody else'").execute(&mut owner).await.unwrap();
    let entries = log(&api, "noun=organizations&verb=update").await;
    assert_eq!(entries[0]["actor"]["kind"], "database");
    assert_eq!(change(&entries[0], "name")["to"], "Somebody else");
}

#[tokio::test]
async fn admins_say_how_long_it_is_kept_and_hold_it() {
    let api = Api::start().await;
    let path = "/api/v1/audit-policy";
    let policy = api.get(path, &api.admin).await.expect(200);
    assert_eq!(policy.json, json!({"keep_days": null, "legal_hold": null}));
    let put = async |token: &str, body: Value| api.call(Method::PUT, path, token, Some(body)).await;
    let answer = put(&api.admin, json!({"keep_days": 89, "legal_hold": null})).await.expect(422);
    assert_eq!(answer.json["errors"][0]["pointer"], "/keep_days");
    let held = put(&api.admin, json!({"keep_days": 400, "legal_hold": "case 4711"})).await.expect(200);
    let mut late = request(Method::PUT, path, &api.admin, Some(json!({"keep_days": 90, "legal_hold": null})));
    late.headers_mut().insert("if-match", policy.header("etag").parse().unwrap());
    api.send(late).await.expect(412);
    for token in [&api.agent, &api.end_user] {
        api.get(path, token).await.expect(403);
        put(token, json!({"keep_days": null, "legal_hold": null})).await.expect(403);
    }
    assert_eq!(api.get(path, &api.admin).await.expect(200).json, held.json);
    // Who holds it and who lets go is of security.
    put(&api.admin, json!({"keep_days": 400, "legal_hold": null})).await.expect(200);
    let log = api.get("/api/v1/compliance-logs?noun=audit_policies", &api.admin).await.expect(200).json;
    assert_eq!(change(&log["items"][0], "hold_reason")["from"], "case 4711");
    assert_eq!(change(&log["items"][1], "keep_days")["to"], 400);
}

/// However it was asked: a WebSocket has a way in of its own.
#[tokio::test]
async fn refusals_name_what_was_asked_for() {
    let api = Api::start().await;
    let narrow = crate::scim::token(&api, "agent").await;
    api.get("/api/v1/users", &narrow).await.expect(403);
    api.get("/api/v1/events/ws", &narrow).await.expect(403);
    let told = log(&api, "noun=access&verb=refused").await;
    let routes: Vec<&str> = told.iter().map(|entry| entry["details"]["route"].as_str().unwrap()).collect();
    assert_eq!(routes, ["/api/v1/events/ws", "/api/v1/users"], "{told:?}");
}
