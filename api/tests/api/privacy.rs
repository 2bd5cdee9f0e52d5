//! What a person may ask for: a copy of all that is held about them, and to be forgotten; their tickets stay, and so does the chain.

use crate::support::Api;
use axum::http::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};
use store::audit_chain;

const NAME: &str = "Grace M. Hopper";
const EMAIL: &str = "grace@navy.example";
const PHONE: &str = "+1 (555) 0100";

/// Tables in which one of the words stands, in whatever column.
async fn tables_with(owner: &mut PgConnection, words: &[&str]) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where n.nspname in ('public', 'queue', 'audit', 'search') and c.relkind = 'r' order by 1",
    )
    .fetch_all(&mut *owner)
    .await
    .unwrap();
    let mut found = Vec::new();
    for table in tables {
        let sql = format!(
            "select distinct w from {table} t, unnest($1::text[]) w
              where strpos(lower(to_jsonb(t)::text), lower(w)) > 0 or strpos(lower(t::text), encode(convert_to(lower(w), 'UTF8'), 'hex')) > 0"
        );
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let there: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(sql)).bind(words).fetch_all(&mut *owner).await.unwrap();
        found.extend(there.into_iter().map(|word| format!("{table}: {word}")));
    }
    found
}

#[tokio::test]
async fn a_person_gets_a_copy_and_is_forgotten() {
    let api = Api::start().await;
    let organization = api.organization.id;
    let new = json!({"name": NAME, "email": EMAIL, "phone": PHONE, "role": "end_user", "password": "a very long password"});
    let user = api.post("/api/v1/users", &api.admin, new).await.expect(201).json;
    let id = user["id"].as_str().unwrap();
    let hers = api.token_of(&user["id"]).await;
    let words = format!("It burns. Yours, {NAME}, {}, {PHONE}", EMAIL.to_uppercase());
    let ticket = json!({"title": format!("Printer of {NAME}"), "description": words});
    let ticket = api.post("/api/v1/incidents", &hers, ticket).await.expect(201).json;
    let path = format!("/api/v1/incidents/{}", ticket["id"].as_str().unwrap());
    api.post(&format!("{path}/comments"), &hers, json!({"body": words, "visibility": "public"}))
        .await
        .expect(201);
    let graceful = json!({"body": "Gracefully degraded", "visibility": "internal"});
    api.post(&format!("{path}/comments"), &api.agent, graceful).await.expect(201);
    // A mail of hers, and one to her.
    let mut owner = api.test_db.owner().await;
    for sql in [
        "insert into inbox (id, organization_id, source, channel_id, unique_key, content_type, raw, headers, received_at)
         values (gen_random_uuid(), $1, 'mail', gen_random_uuid(), 'k', 'message/rfc822', convert_to('From: ' || $2, 'UTF8'),
                 jsonb_build_object('from', $2), now())",
        "insert into mail_messages (id, organization_id, message_id, direction, ticket_id, inbox_id, address, created_at)
         select gen_random_uuid(), $1, 'm@navy', 'in', (select id from tickets where organization_id = $1), i.id, $2, now()
           from inbox i where i.organization_id = $1",
        "insert into deliveries (id, organization_id, unique_key, channel, message_kind, recipient, message, subject, status, sent_at, created_at, updated_at)
         values (gen_random_uuid(), $1, 'd', 'email', 'test', $2, jsonb_build_object('to', $2), 'Hello ' || $2, 'sent', now(), now(), now())",
    ] {
        sqlx::query(sql).bind(organization.0).bind(EMAIL).execute(&mut owner).await.unwrap();
    }
    actions::audit::seal(&api.test_db.db, || false).await.unwrap();

    let copy_path = format!("/api/v1/users/{id}/personal-data");
    let copy = api.get(&copy_path, &api.admin).await.expect(200);
    assert!(copy.header("content-disposition").contains(id), "{:?}", copy.headers);
    let held = &copy.json;
    assert_eq!((&held["profile"]["email"], &held["tickets"][0]["id"]), (&json!(EMAIL), &ticket["id"]));
    assert_eq!(held["comments"].as_array().unwrap().len(), 1);
    assert_eq!(held["messages"].as_array().unwrap().iter().filter(|m| m["kind"] == "test").count(), 1);
    assert_eq!(held["mails"].as_array().unwrap().len(), 1);
    assert!(held["audit"].as_array().unwrap().iter().any(|entry| entry["noun"] == "tickets"));
    assert!(
        !copy.text.contains("argon2")
            && !copy.text.contains("token_hash\":\"")
            && !copy.text.contains("Gracefully")
    );
    let anonymise = format!("/api/v1/users/{id}/anonymise");
    for token in [&api.agent, &api.end_user, &hers] {
        api.get(&copy_path, token).await.expect(403);
        api.post(&anonymise, token, json!({})).await.expect(403);
    }

    let words = [NAME, EMAIL, "555) 0100", "Hopper"];
    assert!(tables_with(&mut owner, &words).await.len() > 10, "the test finds them before");
    let policy = api.get("/api/v1/audit-policy", &api.admin).await.expect(200).json;
    let hold = |reason: Value| {
        let body = json!({"keep_days": policy["keep_days"], "legal_hold": reason});
        api.call(Method::PUT, "/api/v1/audit-policy", &api.admin, Some(body))
    };
    hold(json!("case 4711")).await.expect(200);
    api.post(&anonymise, &api.admin, json!({})).await.expect(409);
    assert!(tables_with(&mut owner, &words).await.len() > 10, "a legal hold keeps all of it");
    hold(Value::Null).await.expect(200);
    let done = api.post(&anonymise, &api.admin, json!({})).await.expect(200).json;
    assert!(done["tickets"] == 1 && done["audit_entries"].as_u64() > Some(3), "{done}");
    assert_eq!(tables_with(&mut owner, &words).await, Vec::<String>::new());
    let kept = api.get(&path, &api.agent).await.expect(200).json;
    assert_eq!(kept["title"], "Printer of Anonymous");
    let comments = api.get(&format!("{path}/comments"), &api.agent).await.expect(200).text;
    assert!(comments.contains("Gracefully degraded") && comments.contains("It burns"), "{comments}");
    // She is out, and nobody is forgotten twice.
    api.get(&path, &hers).await.expect(401);
    api.post(&anonymise, &api.admin, json!({})).await.expect(409);
    let me = api.organization.admin.user_id().unwrap();
    api.post(&format!("/api/v1/users/{me}/anonymise"), &api.admin, json!({})).await.expect(409);

    // Nothing of it breaks the chain, and the log says what was done.
    actions::audit::seal(&api.test_db.db, || false).await.unwrap();
    let report = audit_chain::verify(&api.test_db.db, organization, None).await.unwrap();
    assert!(report.is_whole() && report.erased > 3, "{report:?}");
    let log = api.get(&format!("/api/v1/compliance-logs?object={id}"), &api.admin).await.expect(200).json;
    let told: Vec<&str> =
        log["items"].as_array().unwrap().iter().map(|entry| entry["verb"].as_str().unwrap()).collect();
    for verb in ["personal_data", "anonymised", "forgotten", "erased"] {
        assert!(told.contains(&verb), "{verb}: {told:?}");
    }
}

/// A name can be a word that stands for something else.
#[tokio::test]
async fn words_of_lists_survive_who_is_called_so() {
    let api = Api::start().await;
    let new = json!({"name": "assigned", "email": "assigned@acme.example", "phone": "1", "role": "end_user"});
    let user = api.post("/api/v1/users", &api.admin, new).await.expect(201).json["id"].clone();
    let hers = api.token_of(&user).await;
    let ticket = json!({"title": "It is assigned"});
    let ticket = api.post("/api/v1/incidents", &hers, ticket).await.expect(201).json["id"].clone();
    let path = format!("/api/v1/incidents/{}", ticket.as_str().unwrap());
    let to = json!({"assignee": api.organization.agent.user_id().unwrap()});
    api.post(&format!("{path}/assign"), &api.agent, to).await.expect_success();
    let history = |text: &str| text.contains("\"to\":\"assigned\"") && text.contains("\"field\":\"status\"");
    assert!(history(&api.get(&format!("{path}/history"), &api.agent).await.expect(200).text));
    let id = user.as_str().unwrap();
    api.post(&format!("/api/v1/users/{id}/anonymise"), &api.admin, json!({})).await.expect(200);
    let after = api.get(&format!("{path}/history"), &api.agent).await.expect(200).text;
    assert!(history(&after), "{after}");
    assert_eq!(api.get(&path, &api.agent).await.expect(200).json["title"], "It is Anonymous");
}
