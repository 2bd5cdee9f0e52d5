//! What holds for all lists and all changes, walked over the OpenAPI document.

use crate::support::{Api, request};
use crate::tenants::{SCIM, STREAMS, WITHOUT_LOGIN, fixtures, operations};
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
        // Identity providers add to the callback what they like, as other systems do to hooks.
        if WITHOUT_LOGIN.iter().any(|prefix| operation.path.starts_with(prefix))
            || operation.path.ends_with("/callback")
            || operation.path.starts_with(SCIM)
        {
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
    let operator = sqlx::query("update organizations set is_operator = true where slug = 'acme'");
    operator.execute(&mut api.test_db.owner().await).await.unwrap();
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
        // Deeper than the stack of PostgreSQL's parser of words.
        let deep = format!("{}?q={}acme", operation.path, "-".repeat(60));
        api.get(&deep, &api.admin).await.expect(200);
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

/// Every operation says how it fails, and fails as a problem document.
#[test]
fn every_operation_describes_its_errors() {
    let mut missing = Vec::new();
    let document = document();
    for operation in operations(&document) {
        let responses = operation.description["responses"].as_object().unwrap();
        let mut needed = vec!["400", "500", "503", "default"];
        let (writes, has_body) =
            (operation.method != Method::GET, !operation.description["requestBody"].is_null());
        needed.extend(writes.then_some("409"));
        needed.extend(operation.path.contains('{').then_some("404"));
        if has_body {
            needed.extend(["413", "415"]);
            needed.extend((!operation.path.starts_with(SCIM)).then_some("422"));
        }
        if operation.path.starts_with("/api/v1/") {
            needed.push("429");
        }
        for status in needed {
            if !responses.contains_key(status) {
                missing.push(format!("{operation}: {status}"));
            }
        }
        assert!(responses.keys().any(|status| status.starts_with(['1', '2', '3'])), "{operation}");
        for (status, response) in responses.iter().filter(|(status, _)| !status.starts_with(['1', '2', '3']))
        {
            let shared = response["$ref"].as_str().map(|place| place.trim_start_matches('#'));
            let response =
                shared.map_or(Some(response), |place| document.pointer(place)).expect("it is there");
            let is_scim = operation.path.starts_with(SCIM);
            let media_type = if is_scim { "application/scim+json" } else { "application/problem+json" };
            let is_problem = response["content"][media_type].is_object();
            assert!(is_problem, "{operation}: {status} is no problem document");
        }
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

/// A route is made by what describes it. Without a description are only the pages that `router.rs` and `openapi.rs` name.
#[test]
fn no_route_is_undocumented() {
    fn look(folder: &std::path::Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look(&path, found);
            } else if std::fs::read_to_string(&path).unwrap().contains(".route(") {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    look(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    found.sort();
    assert_eq!(found, ["deprecated.rs", "openapi.rs", "router.rs"], "use routes!(…): the first is a test's");
}
