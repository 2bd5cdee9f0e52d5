//! What holds for all lists and all changes, walked over the OpenAPI document.

use crate::support::{Api, request};
use crate::tenants::{STREAMS, WITHOUT_LOGIN, fixtures, operations};
use axum::http::Method;
use serde_json::{Value, json};

fn document() -> Value {
    serde_json::to_value(api::description()).unwrap()
}

fn query_parameters(description: &Value) -> Vec<&str> {
    let all = description["parameters"].as_array().into_iter().flatten();
    all.filter(|one| one["in"] == "query").filter_map(|one| one["name"].as_str()).collect()
}

#[tokio::test]
async fn unknown_parameters_and_orders_are_refused_everywhere() {
    let api = Api::start().await;
    let objects = fixtures::make(&api, &api.organization, &api.admin, "acme").await;
    let mut failures = Vec::new();
    for operation in operations(&document()) {
        if WITHOUT_LOGIN.iter().any(|prefix| operation.path.starts_with(prefix)) {
            continue;
        }
        let path = objects.fill(&operation.path).unwrap();
        let known = query_parameters(&operation.description);
        let mut asked = vec![("colour", "red", 400)];
        asked.extend((!known.contains(&"q")).then_some(("q", "x", 400)));
        asked.push(("ordering", "colour", if known.contains(&"ordering") { 422 } else { 400 }));
        for (name, value, status) in asked {
            let path = format!("{path}?{name}={value}");
            let answer = api.call(operation.method.clone(), &path, &api.admin, None).await;
            let pointer = &answer.json["errors"][0]["pointer"];
            if answer.status != status || *pointer != format!("/{name}") {
                failures.push(format!("{} {path}: {} {}", operation.method, answer.status, answer.text));
            }
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
    // Other systems add to the addresses of hooks what they like.
    api.post("/hooks/generic/nobody?colour=red", "", json!({})).await.expect(404);
}

/// The word stands in all texts of the organization, so each list that can be searched finds it, and nothing by another.
#[tokio::test]
async fn q_searches() {
    let api = Api::start().await;
    fixtures::make(&api, &api.organization, &api.admin, "acme").await;
    let (mut searched, document) = (0, document());
    for operation in operations(&document) {
        if operation.method != Method::GET
            || operation.path.contains('{')
            || STREAMS.contains(&operation.path.as_str())
            || !query_parameters(&operation.description).contains(&"q")
        {
            continue;
        }
        let found = api.get(&format!("{}?q=acme", operation.path), &api.admin).await.expect(200);
        assert_ne!(found.json["items"], json!([]), "{}", operation.path);
        let found = api.get(&format!("{}?q=zebra%25_", operation.path), &api.admin).await.expect(200);
        assert_eq!(found.json["items"], json!([]), "{}", operation.path);
        searched += 1;
    }
    assert!(searched >= 14, "only {searched} lists can be searched");
}

#[tokio::test]
async fn filters_take_numbers_where_they_take_ids() {
    let api = Api::start().await;
    let objects = fixtures::make(&api, &api.organization, &api.admin, "acme").await;
    let incident = objects.fill("/api/v1/incidents/{id}").unwrap();
    let incident = api.get(&incident, &api.admin).await.expect(200).json;
    let mut owner = api.test_db.owner().await;
    for sql in ["update alerts set incident_id = $1", "update inbox set ticket_id = $1"] {
        let id: uuid::Uuid = incident["id"].as_str().unwrap().parse().unwrap();
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(id).execute(&mut owner).await.unwrap();
    }
    for list in ["/api/v1/alerts?incident=", "/api/v1/inbox?ticket="] {
        for key in [&incident["id"], &incident["number"]] {
            let found = api.get(&format!("{list}{}", key.as_str().unwrap()), &api.admin).await.expect(200);
            assert_eq!(found.json["items"].as_array().unwrap().len(), 1, "{list}{key}");
        }
        let none = api.get(&format!("{list}INC0009999"), &api.admin).await.expect(200);
        assert_eq!(none.json["items"], json!([]));
    }
}

#[tokio::test]
async fn configuration_items_sort_by_name_both_ways() {
    let api = Api::start().await;
    let items = "/api/v1/configuration-items";
    for name in ["b", "c", "a", "b"] {
        api.post(items, &api.admin, json!({"name": name, "class": "server"})).await.expect(201);
    }
    for (ordering, expected) in
        [("name", "abbc"), ("-name", "cbba"), ("created_at", "bcab"), ("-created_at", "bacb")]
    {
        let (mut seen, mut cursor) = (String::new(), String::new());
        loop {
            let path = format!("{items}?ordering={ordering}&page_size=1{cursor}");
            let page = api.get(&path, &api.agent).await.expect(200).json;
            seen.push_str(page["items"][0]["name"].as_str().unwrap());
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, expected, "{ordering}");
    }
}

/// Whatever shows an ETag minds it when it is changed or deleted.
#[tokio::test]
async fn if_match_guards_every_change_and_deletion() {
    let api = Api::start().await;
    let objects = fixtures::make(&api, &api.organization, &api.admin, "acme").await;
    let document = document();
    let mut checked = 0;
    for operation in operations(&document) {
        let shown = document["paths"][&operation.path]["get"].is_object();
        if ![Method::DELETE, Method::PUT].contains(&operation.method) || !shown {
            continue;
        }
        let path = objects.fill(&operation.path).unwrap();
        // What went with something deleted before (a relationship with its item) has no tag either.
        let before = api.get(&path, &api.admin).await;
        let tag = before.header("etag").to_owned();
        if tag.is_empty() || path.contains("/attachments/") {
            continue;
        }
        let send = async |tag: &str| {
            let body = (operation.method == Method::PUT).then(|| before.json.clone());
            let mut request = request(operation.method.clone(), &path, &api.admin, body);
            request.headers_mut().insert("if-match", tag.parse().unwrap());
            api.send(request).await
        };
        let answer = send("\"12345\"").await;
        assert_eq!(answer.status, 412, "{operation}: {}", answer.text);
        // 409: something hangs on it.
        let answer = send(&tag).await;
        assert!(answer.status.is_success() || answer.status == 409, "{operation}: {}", answer.text);
        checked += 1;
    }
    assert!(checked >= 13, "only {checked} checked");
}
