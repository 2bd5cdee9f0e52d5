//! Every list that takes the grammar takes all of it.

use crate::support::{Api, request};
use crate::tenants::fixtures::{self, Objects};
use axum::http::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

/// More of what the lists of settings hold, besides what `fixtures` made.
fn settings(n: u8) -> Vec<(&'static str, Value)> {
    let name = format!("More {n}");
    let windows = json!([{"weekday": "monday", "opens": "08:00", "closes": "12:00"}]);
    vec![
        ("alert-sources", json!({"kind": "generic", "name": name})),
        ("business-calendars", json!({"name": name, "time_zone": "UTC", "windows": windows})),
        ("ci-categories", json!({"name": name})),
        (
            "discovery-sources",
            json!({"name": name, "format": "json", "identification_keys": ["serial"], "location": "https://inventory.example.org/"}),
        ),
        (
            "escalation-chains",
            json!({"name": name, "steps": [{"action": "raise_priority", "after_seconds": 0}]}),
        ),
        (
            "identity-providers",
            json!({"name": name, "issuer": format!("https://id{n}.example.org"), "client_id": "relaydesk"}),
        ),
        ("mailboxes", json!({"name": name, "address": format!("more{n}@acme.example")})),
        (
            "notification-channels",
            json!({"kind": "email", "name": name, "config": {"to": ["ops@acme.example"]}}),
        ),
        (
            "report-schedules",
            json!({"name": name, "kind": "incidents_and_sla", "cron": "0 7 * * *", "period": {"kind": "previous_day"},
                   "recipients": ["boss@acme.example"]}),
        ),
        ("sla-policies", json!({"name": name, "targets": [{"priority": "high", "resolution_seconds": 60}]})),
        ("webhooks", json!({"url": format!("https://hooks{n}.example.org/"), "event_types": ["sla.*"]})),
    ]
}

/// What belongs to one object: three of each, at least.
async fn parts(api: &Api, objects: &Objects) {
    let post = async |path: &str, body: Value| {
        api.post(&objects.fill(path).unwrap(), &api.admin, body).await.expect_success().json
    };
    let people = ["admin@acme.example", "end-user@acme.example"];
    for n in 0..3 {
        post(
            "/api/v1/incidents/{id}/comments",
            json!({"body": format!("comment {n}"), "visibility": "internal"}),
        )
        .await;
        let other = post("/api/v1/incidents", json!({"title": format!("other {n}")})).await;
        post("/api/v1/incidents/{id}/links", json!({"kind": "blocks", "ticket": other["id"]})).await;
        let (media_type, bytes) = fixtures::upload();
        let path = objects.fill("/api/v1/incidents/{id}/attachments").unwrap();
        let mut upload = request(Method::POST, &path, &api.admin, None);
        upload.headers_mut().insert("content-type", media_type.parse().unwrap());
        *upload.body_mut() = bytes.into();
        api.send(upload).await.expect_success();
        let role = json!({"name": format!("Role {n}"), "permissions": {"tickets.view": "team"}});
        post("/api/v1/user-roles", role).await;
        api.login_of(&api.organization.agent).await;
        api.login_of(&api.organization.admin).await;
    }
    for person in people {
        post("/api/v1/incidents/{id}/watchers", json!({"user": person})).await;
    }
    let users = api.get("/api/v1/users?fields=id", &api.admin).await.expect(200).json;
    for user in users["items"].as_array().unwrap() {
        for path in ["/api/v1/teams/{id}/members", "/api/v1/user-roles/{id}/grants"] {
            let path = objects.fill(path).unwrap();
            let answer = api.post(&path, &api.admin, json!({"user": user["id"]})).await;
            // End users are in no team.
            assert!([200, 201, 204, 409, 422].contains(&answer.status.as_u16()), "{path}: {}", answer.text);
        }
    }
    let mut owner = api.test_db.owner().await;
    for sql in [
        "update organizations set is_operator = true where slug = 'acme'",
        "insert into discovery_runs (id, organization_id, source_id, mode, status, created_at)
         select gen_random_uuid(), organization_id, source_id, 'run', 'failed', now() from discovery_runs, generate_series(1, 3)",
        "insert into webhook_attempts (delivery_id, number, organization_id, started_at, duration_ms, status)
         select id, n, organization_id, now(), n * 10, nullif(200 + n, 202) from webhook_deliveries, generate_series(1, 3) n on conflict do nothing",
        "insert into escalations (id, organization_id, ticket_id, clock_id, generation, trigger, chain_id, chain_name, steps, state, started_at)
         select gen_random_uuid(), c.organization_id, c.ticket_id, c.id, n, 'breach', h.id, h.name, '[]', 'finished', now()
           from sla_clocks c, escalation_chains h, generate_series(1, 3) n where c.metric = 'resolution' on conflict do nothing",
    ] {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut owner).await.unwrap();
    }
}

/// Each parameter of its description, each order in both directions, page by page, each field alone, each expansion;
/// and refuses anything else by name.
#[tokio::test]
async fn every_list_with_the_grammar_takes_all_of_it() {
    let api = Api::start().await;
    let description = api.get("/api/openapi.json", "").await.expect(200).json;
    let boss = json!({"email": "boss@acme.example", "name": "Boss", "role": "manager"});
    let boss = api.post("/api/v1/users", &api.admin, boss).await.expect(201).json;
    for n in 0..3 {
        let department = json!({"name": format!("D{n}"), "manager": boss["id"]});
        let department = api.post("/api/v1/departments", &api.admin, department).await.expect(201).json;
        let team = json!({"name": format!("T{n}"), "manager": boss["id"], "department": department["id"]});
        api.post("/api/v1/teams", &api.admin, team).await.expect(201);
    }
    api.five().await;
    let objects = fixtures::make(&api, &api.organization, &api.admin, "acme").await;
    for n in 0..2 {
        for (list, body) in settings(n) {
            api.post(&format!("/api/v1/{list}"), &api.admin, body).await.expect(201);
        }
    }
    parts(&api, &objects).await;
    let mut lists = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        let parameters = item["get"]["parameters"].as_array();
        let names: Vec<&str> = parameters
            .into_iter()
            .flatten()
            .filter(|one| one["in"] == "query")
            .filter_map(|one| one["name"].as_str())
            .collect();
        if !names.contains(&"fields") {
            continue;
        }
        lists.push(path.clone());
        let path = objects.fill(path).unwrap();
        let get = async |query: &str| api.get(&format!("{path}?{query}"), &api.admin).await;
        let whole = get("page_size=200").await.expect(200).json;
        let items = whole["items"].as_array().unwrap();
        // Every parameter of the description.
        for name in
            names.iter().filter(|name| !["fields", "expand", "cursor", "ordering", "user_id"].contains(*name))
        {
            let schema = &parameters.unwrap().iter().find(|one| one["name"] == *name).unwrap()["schema"];
            let example = schema["examples"][0].as_str().map(str::to_owned);
            let value = match (example, schema["type"].as_str(), schema["format"].as_str()) {
                (Some(example), ..) => example,
                (_, _, Some("date-time")) => "2026-01-01T00:00:00Z".to_owned(),
                (_, Some("boolean"), _) => "true".to_owned(),
                (_, Some("integer"), _) => "1".to_owned(),
                _ => "01980000-0000-7000-8000-000000000000".to_owned(),
            };
            get(&format!("{name}={value}")).await.expect(200);
        }
        // Every order, forth and back, page by page: each item once, and the same ones.
        let refused = get("ordering=nothing").await.expect(422);
        assert_eq!(refused.json["errors"][0]["pointer"], "/ordering", "{path}");
        let (_, offered) =
            refused.json["errors"][0]["detail"].as_str().unwrap().split_once("more of ").unwrap();
        let offered = offered.split(", each once").next().unwrap().split(", ");
        let is_key = |key: &&str| items.first().is_some_and(|item| !item[key].is_null());
        let key =
            ["id", "position", "number", "user", "name", "kind"].into_iter().find(is_key).unwrap_or("id");
        let walk = async |query: &str| {
            let (mut seen, mut cursor) = (Vec::new(), String::new());
            loop {
                let page = get(&format!("{query}&page_size=2{cursor}")).await.expect(200).json;
                seen.extend(page["items"].as_array().unwrap().iter().map(|item| item[key].clone()));
                let Some(next) = page["next_cursor"].as_str() else { return seen };
                cursor = format!("&cursor={next}");
            }
        };
        for order in offered {
            // Of the log the last entries are enough: reading it is written into it only for exports.
            let narrow = if key == "position" { "&noun=teams" } else { "" };
            let (forth, mut back) = (
                walk(&format!("ordering={order}{narrow}")).await,
                walk(&format!("ordering=-{order}{narrow}")).await,
            );
            back.reverse();
            assert_eq!(forth, back, "{path} by {order}");
            if narrow.is_empty() {
                assert_eq!(forth.len(), items.len(), "{path} by {order}");
            }
        }
        // Every field alone, and none that is not there.
        // Limits are written down by the workers of a program.
        let may_be_empty = ["compliance-logs", "/limits"].iter().any(|list| path.ends_with(list));
        assert!(!items.is_empty() || may_be_empty, "{path}: nothing to look at");
        if let Some(first) = items.first() {
            for field in first.as_object().unwrap().keys() {
                let shown = get(&format!("fields={field}&page_size=1")).await.expect(200).json;
                let names = shown["items"][0].as_object().unwrap();
                assert!(names.keys().all(|name| name == field || name == "id"), "{path}: {names:?}");
            }
        }
        for (query, status, pointer) in [
            ("fields=nothing", 422, "/fields"),
            ("expand=nothing", 422, "/expand"),
            ("colour=red", 400, "/colour"),
            ("id[gte]=1", 400, "/id[gte]"),
            ("cursor=e30", 422, "/cursor"),
        ] {
            assert_eq!(
                get(query).await.expect(status).json["errors"][0]["pointer"],
                pointer,
                "{path}?{query}"
            );
        }
    }
    lists.sort();
    let expected = [
        "alert-sources",
        "alerts",
        "api-tokens",
        "audit-logs",
        "auth/sessions",
        "business-calendars",
        "ci-categories",
        "ci-relationships",
        "compliance-logs",
        "configuration-items",
        "departments",
        "discovery-sources",
        "discovery-sources/{id}/runs",
        "escalation-chains",
        "identity-providers",
        "inbox",
        "incidents",
        "incidents/{id}/attachments",
        "incidents/{id}/comments",
        "incidents/{id}/escalations",
        "incidents/{id}/history",
        "incidents/{id}/links",
        "incidents/{id}/watchers",
        "lanes",
        "limits",
        "mailboxes",
        "notification-channels",
        "notification-rules",
        "notifications",
        "organizations",
        "report-executions",
        "report-schedules",
        "reports",
        "service-accounts",
        "sla-breaches",
        "sla-policies",
        "teams",
        "teams/{id}/members",
        "tenants",
        "user-imports",
        "user-permissions",
        "user-roles",
        "user-roles/{id}/grants",
        "users",
        "users/{id}/identities",
        "users/{id}/sessions",
        "webhook-deliveries",
        "webhook-deliveries/{id}/attempts",
        "webhooks",
    ];
    assert_eq!(lists, expected.map(|name| format!("/api/v1/{name}")));

    // What is behind an id, also when the id itself is not asked for.
    let users = api
        .get("/api/v1/teams?expand=manager,department&fields=name&ordering=-name", &api.admin)
        .await
        .expect(200)
        .json;
    let first = &users["items"][0];
    assert_eq!(
        (&first["name"], &first["expanded"]["manager"]["name"]),
        (&json!("T2"), &json!("Boss")),
        "{first}"
    );
    assert_eq!(first["expanded"]["department"]["name"], "D2");
    assert!(first["manager"].is_null());
}
