//! `incidents` from outside the router.

use crate::support::{Answer, Api, request, token_of};
use axum::body::Body;
use axum::http::{Method, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const INCIDENTS: &str = "/api/v1/incidents";

impl Api {
    async fn incident(&self, token: &str, title: &str) -> Value {
        self.post(INCIDENTS, token, json!({"title": title})).await.expect(201).json
    }

    async fn act(&self, token: &str, number: &Value, verb: &str, body: Value) -> Answer {
        self.post(&format!("{INCIDENTS}/{}/{verb}", number.as_str().unwrap()), token, body).await
    }
}

fn pointer(answer: &Answer) -> &str {
    answer.json["errors"][0]["pointer"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn an_incident_lives_from_report_to_closing() {
    let api = Api::start().await;
    let body = json!({
        "title": "No network", "description": "since eight", "impact": "high", "urgency": "medium",
        "requester": "new.person@acme.example", "assignee": "agent@acme.example", "tags": ["VPN"]
    });
    let opened = api.post(INCIDENTS, &api.agent, body).await.expect(201);
    let incident = &opened.json;
    assert_eq!(opened.header("location"), format!("{INCIDENTS}/{}", incident["id"].as_str().unwrap()));
    assert_eq!(opened.header("etag"), "\"1\"");
    for (field, value) in [
        ("number", json!("INC0000001")),
        ("status", json!("assigned")),
        ("priority", json!("high")),
        ("source", json!("api")),
        ("requester_email", json!("new.person@acme.example")),
        ("assignee_name", json!("agent")),
        ("tags", json!(["vpn"])),
    ] {
        assert_eq!(incident[field], value, "{field}");
    }
    let number = &incident["number"];
    let by_number = api.get(&format!("{INCIDENTS}/INC0000001/"), &api.agent).await.expect(200);
    assert_eq!(by_number.json["id"], incident["id"]);

    let reason = json!({"reason": "a whole floor"});
    assert_eq!(
        api.act(&api.agent, number, "escalate", reason).await.expect(200).json["priority"],
        "critical"
    );
    let answer = api.act(&api.agent, number, "add_comment", json!({"body": "on it"})).await.expect(201);
    assert_eq!(answer.json["author_name"], "agent");
    assert_eq!(pointer(&api.act(&api.agent, number, "resolve", json!({})).await.expect(422)), "/resolution");
    api.act(&api.agent, number, "close", json!({})).await.expect(409);
    let done = api.act(&api.agent, number, "resolve", json!({"resolution": "cable"})).await.expect(200).json;
    assert_eq!((&done["status"], &done["resolution"]), (&json!("resolved"), &json!("cable")));
    assert_eq!(done["allowed_statuses"], json!(["new", "assigned", "in_progress", "closed"]));
    assert_eq!(api.act(&api.agent, number, "reopen", json!({})).await.expect(200).json["status"], "assigned");
    api.act(&api.agent, number, "resolve", json!({"resolution": "other cable"})).await.expect(200);
    // Without a body at all.
    let path = format!("{INCIDENTS}/INC0000001/close");
    let closed = api.send(request(Method::POST, &path, &api.agent, None)).await.expect(200).json;
    assert_eq!((&closed["status"], &closed["reopened_count"]), (&json!("closed"), &json!(1)));

    let history = api.get(&format!("{INCIDENTS}/INC0000001/history"), &api.agent).await.expect(200).json;
    let actions: Vec<_> =
        history["items"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["opened", "escalated", "commented", "resolved", "reopened", "resolved", "closed"]);
    assert_eq!(history["items"][0]["trace_id"], opened.header("x-trace-id"));
    assert_eq!(history["items"][0]["actor_name"], "agent");
}

#[tokio::test]
async fn a_change_is_guarded_by_the_version_it_was_made_for() {
    let api = Api::start().await;
    let number = api.incident(&api.agent, "printer").await["number"].clone();
    let path = format!("{INCIDENTS}/{}", number.as_str().unwrap());
    let patch = |etag: &str, body: Value| {
        let mut request = request(Method::PATCH, &path, &api.agent, Some(body));
        request.headers_mut().insert(header::IF_MATCH, etag.parse().unwrap());
        api.send(request)
    };
    let changed = patch("\"1\"", json!({"title": "printer on fire", "urgency": "high"})).await.expect(200);
    assert_eq!((changed.header("etag"), &changed.json["priority"]), ("\"2\"", &json!("high")));
    patch("\"1\"", json!({"title": "mine"})).await.expect(412);
    // A comment is no change that others must have seen.
    api.act(&api.agent, &number, "comments", json!({"body": "note", "visibility": "internal"}))
        .await
        .expect(201);
    let changed = patch("\"2\"", json!({"status": "pending", "tags": ["a", "b"]})).await.expect(200);
    assert_eq!((&changed.json["status"], &changed.json["tags"]), (&json!("pending"), &json!(["a", "b"])));
    assert_eq!(changed.header("etag"), "\"4\"");
}

#[tokio::test]
async fn what_is_wrong_is_pointed_at() {
    let api = Api::start().await;
    for (body, at) in [
        (json!({}), "/title"),
        (json!({"title": "  "}), "/title"),
        (json!({"title": "x".repeat(501)}), "/title"),
        (json!({"title": "x", "impact": "huge"}), "/impact"),
        (json!({"title": "x", "prio": "high"}), "/prio"),
        (json!({"title": "x", "requester": "nobody"}), "/requester"),
        (json!({"title": "x", "requester": uuid::Uuid::nil()}), "/requester"),
        (json!({"title": "x", "assignee": "end-user@acme.example"}), "/assignee"),
        (json!({"title": "x", "assignee": "nobody@acme.example"}), "/assignee"),
        (json!({"title": "x", "team": uuid::Uuid::nil()}), "/team"),
        (json!({"title": "x", "tags": ["ok", "a,b"]}), "/tags/1"),
        (json!({"title": "x", "configuration_items": [uuid::Uuid::nil()]}), "/configuration_items"),
    ] {
        let answer = api.post(INCIDENTS, &api.agent, body.clone()).await.expect(422);
        assert_eq!(pointer(&answer), at, "{body}: {}", answer.text);
    }
    let list = api.get(INCIDENTS, &api.agent).await.expect(200).json;
    assert_eq!(list["items"], json!([]), "a refused incident leaves nothing behind");
    for query in ["status=open", "assignee=x", "created_at[gte]=yesterday", "ordering=title", "cursor=x"] {
        api.get(&format!("{INCIDENTS}?{query}"), &api.agent).await.expect(422);
    }
}

#[tokio::test]
async fn lists_filter_search_and_page() {
    let api = Api::start().await;
    for n in 0..5 {
        let urgency = if n % 2 == 0 { "high" } else { "low" };
        let body = json!({"title": format!("Printer {n} jams"), "impact": "high", "urgency": urgency});
        api.post(INCIDENTS, &api.agent, body).await.expect(201);
    }
    let number = api.incident(&api.end_user, "No network").await["number"].clone();
    api.act(&api.agent, &number, "assign", json!({"assignee": "agent@acme.example"})).await.expect(200);
    let count = async |query: &str| {
        let list = api.get(&format!("{INCIDENTS}?{query}"), &api.agent).await.expect(200).json;
        list["items"].as_array().unwrap().len()
    };
    for (query, expected) in [
        ("", 6),
        ("priority=critical", 3),
        ("priority=critical,medium&status=new", 5),
        ("assignee=me", 1),
        ("assignee=none", 5),
        ("q=print", 5),
        ("q=INC0000006", 1),
        ("open=true", 6),
        ("open=false", 0),
        ("source=email", 0),
        ("created_at[gte]=2100-01-01T00:00:00Z", 0),
    ] {
        assert_eq!(count(query).await, expected, "{query}");
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("{INCIDENTS}?ordering=priority&page_size=4{cursor}");
        let page = api.get(&path, &api.agent).await.expect(200).json;
        seen.extend(
            page["items"].as_array().unwrap().iter().map(|i| i["number"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen.len(), 6);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6);
}

#[tokio::test]
async fn end_users_see_their_side() {
    let api = Api::start().await;
    let own = api.incident(&api.end_user, "mine").await["number"].clone();
    let foreign = api.incident(&api.agent, "theirs").await["number"].clone();
    let user = &api.end_user;
    let list = api.get(INCIDENTS, user).await.expect(200).json;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let path = |number: &Value, rest: &str| format!("{INCIDENTS}/{}{rest}", number.as_str().unwrap());
    for rest in ["", "/comments", "/history", "/attachments", "/watchers", "/links"] {
        api.get(&path(&foreign, rest), user).await.expect(404);
        api.get(&path(&own, rest), user).await.expect(200);
    }
    api.act(user, &foreign, "add_comment", json!({"body": "hi"})).await.expect(404);
    api.act(user, &own, "add_comment", json!({"body": "psst", "visibility": "internal"})).await.expect(403);
    api.act(user, &own, "assign", json!({"assignee": null})).await.expect(403);
    api.post(INCIDENTS, user, json!({"title": "x", "assignee": "agent@acme.example"})).await.expect(403);
    for other in ["agent@acme.example", "nobody@acme.example"] {
        api.post(INCIDENTS, user, json!({"title": "x", "requester": other})).await.expect(403);
    }
    api.post(INCIDENTS, user, json!({"title": "x", "requester": "End-User@acme.example"})).await.expect(201);

    api.act(&api.agent, &own, "add_comment", json!({"body": "psst", "visibility": "internal"}))
        .await
        .expect(201);
    api.act(&api.agent, &own, "add_comment", json!({"body": "hello"})).await.expect(201);
    let comments = |list: &Answer| list.json["items"].as_array().unwrap().len();
    assert_eq!(comments(&api.get(&path(&own, "/comments"), &api.agent).await), 2);
    assert_eq!(comments(&api.get(&path(&own, "/comments"), user).await), 1);
    assert_eq!(comments(&api.get(&path(&own, "/history"), &api.agent).await), 3);
    assert_eq!(comments(&api.get(&path(&own, "/history"), user).await), 2);

    api.act(&api.agent, &foreign, "watchers", json!({"user": "end-user@acme.example"})).await.expect(201);
    api.get(&path(&foreign, ""), user).await.expect(200);
    api.act(user, &foreign, "links", json!({"kind": "blocks", "ticket": own})).await.expect(403);
    api.delete(&path(&foreign, "/watchers/me"), user).await.expect(204);
    api.get(&path(&foreign, ""), user).await.expect(404);
}

#[tokio::test]
async fn tags_links_and_watchers() {
    let api = Api::start().await;
    let (a, b) = (api.incident(&api.agent, "a").await, api.incident(&api.agent, "b").await);
    let (number, other) = (&a["number"], &b["number"]);
    let tagged = api.act(&api.agent, number, "tags", json!({"tag": " Big Boss "})).await.expect(200).json;
    assert_eq!(tagged["tags"], json!(["big boss"]));
    let path = format!("{INCIDENTS}/INC0000001/tags/big%20boss");
    assert_eq!(api.delete(&path, &api.agent).await.expect(200).json["tags"], json!([]));
    api.delete(&path, &api.agent).await.expect(404);

    let body = json!({"kind": "caused_by", "ticket": other});
    let links = api.act(&api.agent, number, "links", body.clone()).await.expect(201).json;
    assert_eq!(links["items"][0]["number"], *other);
    api.act(&api.agent, number, "links", body).await.expect(200);
    let seen = api.get(&format!("{INCIDENTS}/INC0000002/links"), &api.agent).await.expect(200).json;
    assert_eq!(seen["items"][0]["direction"], "incoming");
    let id = seen["items"][0]["id"].as_str().unwrap();
    api.delete(&format!("{INCIDENTS}/INC0000002/links/{id}"), &api.agent).await.expect(204);
    let wrong = api.act(&api.agent, number, "links", json!({"kind": "blocks", "ticket": "INC9999999"})).await;
    assert_eq!(pointer(&wrong.expect(422)), "/ticket");

    let watch = format!("{INCIDENTS}/INC0000001/watchers");
    let watching = api.send(request(Method::POST, &watch, &api.agent, None)).await.expect(201).json;
    assert_eq!(watching["items"][0]["name"], "agent");
    api.send(request(Method::POST, &watch, &api.agent, None)).await.expect(200);
}

fn form(file_name: &str, media_type: &str, bytes: &[u8], more: &str) -> Vec<u8> {
    let mut body = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{file_name}\"\r\nContent-Type: {media_type}\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(bytes);
    body.extend_from_slice(format!("\r\n{more}--XX--\r\n").as_bytes());
    body
}

async fn upload(api: &Api, token: &str, body: Vec<u8>) -> Answer {
    let mut request = request(Method::POST, &format!("{INCIDENTS}/INC0000001/attachments"), token, None);
    request.headers_mut().insert(header::CONTENT_TYPE, "multipart/form-data; boundary=XX".parse().unwrap());
    *request.body_mut() = Body::from(body);
    api.send(request).await
}

/// ASVS 5.0, 5.2.2: people open a file by its name.
#[tokio::test]
async fn a_file_is_what_its_name_says() {
    let api = Api::start().await;
    api.incident(&api.end_user, "see the file").await;
    let program = b"MZ\x90\0\x03\0\0\0";
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    for (name, media_type, bytes) in [
        ("invoice.pdf", "application/pdf", &program[..]),
        ("photo.jpg", "image/jpeg", b"<script>alert(1)</script>"),
        ("readme.txt", "text/plain", program),
        ("scan.PDF", "application/pdf", png),
    ] {
        let refused = upload(&api, &api.end_user, form(name, media_type, bytes, "")).await.expect(422);
        assert_eq!(pointer(&refused), "/file", "{name}");
    }
    for (name, said, bytes, media_type) in [
        ("screen.png", "text/html", &png[..], "image/png"),
        ("setup.exe", "image/png", program, "application/vnd.microsoft.portable-executable"),
        ("page.html", "text/html", b"<script>alert(1)</script>", "text/html"),
    ] {
        let kept = upload(&api, &api.end_user, form(name, said, bytes, "")).await.expect(201).json;
        assert_eq!(kept["media_type"], media_type, "{name}");
    }
}

#[tokio::test]
async fn files_come_back_byte_for_byte_and_cannot_do_harm() {
    let api = Api::start().await;
    api.incident(&api.end_user, "see the file").await;
    // Larger than an ordinary body may be.
    let bytes: Vec<u8> = (0..1_500_000u32).map(|n| (n % 251) as u8).collect();
    let file =
        upload(&api, &api.end_user, form("../Übersicht.html", "text/html; charset=x", &bytes, "")).await;
    let file = file.expect(201).json;
    assert_eq!(file["file_name"], "Übersicht.html");
    assert_eq!(file["media_type"], "text/html");
    assert_eq!(file["size_bytes"], 1_500_000);
    let hash = hex::encode(Sha256::digest(&bytes));
    assert_eq!(file["sha256"], hash);

    let url = file["url"].as_str().unwrap();
    let request_of = |token: &str| request(Method::GET, url, token, None);
    use tower::ServiceExt;
    let response = api.router.clone().oneshot(request_of(&api.agent)).await.unwrap();
    let headers = response.headers().clone();
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(
        header("content-disposition"),
        "attachment; filename=\"_bersicht.html\"; filename*=UTF-8''%C3%9Cbersicht.html"
    );
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("content-length"), "1500000");
    assert_eq!(header("etag"), format!("\"{hash}\""));
    assert_eq!(header("cache-control"), "no-store");
    let body = axum::body::to_bytes(response.into_body(), 64 << 20).await.unwrap();
    assert!(body == bytes, "the bytes differ");
    let mut again = request_of(&api.agent);
    again.headers_mut().insert(header::IF_NONE_MATCH, headers["etag"].clone());
    api.send(again).await.expect(304);

    let note = api
        .act(&api.agent, &json!("INC0000001"), "comments", json!({"body": "x", "visibility": "internal"}))
        .await;
    let comment = note.expect(201).json["id"].as_str().unwrap().to_owned();
    let more = format!("--XX\r\nContent-Disposition: form-data; name=\"comment\"\r\n\r\n{comment}\r\n");
    let hidden =
        upload(&api, &api.agent, form("secret.txt", "text/plain", b"secret", &more)).await.expect(201).json;
    let hidden = hidden["url"].as_str().unwrap();
    api.get(hidden, &api.agent).await.expect(200);
    api.get(hidden, &api.end_user).await.expect(404);
    let files = api.get(&format!("{INCIDENTS}/INC0000001/attachments"), &api.end_user).await.expect(200).json;
    assert_eq!(files["items"].as_array().unwrap().len(), 1);

    let sneaked = upload(&api, &api.end_user, form("x.txt", "text/plain", b"x", &more)).await;
    assert_eq!(pointer(&sneaked.expect(422)), "/comment");
    assert_eq!(pointer(&upload(&api, &api.agent, b"--XX--\r\n".to_vec()).await.expect(422)), "/file");
    api.act(&api.agent, &json!("INC0000001"), "attachments", json!({})).await.expect(415);
    let limit = api.state.settings.upload_limit;
    upload(&api, &api.agent, form("big", "text/plain", &vec![0; limit + 1], "")).await.expect(413);
}

#[tokio::test]
async fn another_organization_sees_nothing() {
    let api = Api::start().await;
    let incident = api.incident(&api.agent, "secret").await;
    let other = testkit::organization(&api.test_db, "other").await;
    let token = token_of(&api.test_db, &other.admin).await;
    assert_eq!(api.get(INCIDENTS, &token).await.expect(200).json["items"], json!([]));
    for key in [incident["id"].as_str().unwrap(), "INC0000001"] {
        for rest in ["", "/comments", "/history", "/attachments", "/watchers", "/links"] {
            api.get(&format!("{INCIDENTS}/{key}{rest}"), &token).await.expect(404);
        }
        for verb in ["close", "reopen", "cancel", "watchers"] {
            api.post(&format!("{INCIDENTS}/{key}/{verb}"), &token, json!({})).await.expect(404);
        }
        api.patch(&format!("{INCIDENTS}/{key}"), &token, json!({"title": "x"})).await.expect(404);
    }
}

#[tokio::test]
async fn the_priority_matrix_decides() {
    let api = Api::start().await;
    let path = "/api/v1/priority-matrix";
    let mut matrix = api.get(path, &api.agent).await.expect(200).json;
    assert_eq!(matrix["high"]["high"], "critical");
    matrix["low"]["low"] = json!("critical");
    api.call(Method::PUT, path, &api.agent, Some(matrix.clone())).await.expect(403);
    api.call(Method::PUT, path, &api.admin, Some(matrix)).await.expect(200);
    let body = json!({"title": "x", "impact": "low", "urgency": "low"});
    assert_eq!(api.post(INCIDENTS, &api.agent, body).await.expect(201).json["priority"], "critical");
}

#[tokio::test]
async fn invisible_titles_too_many_tags_and_nulls_are_refused() {
    let api = Api::start().await;
    let tags = |count: usize| (0..count).map(|n| format!("t{n}")).collect::<Vec<_>>();
    for (body, wrong) in [
        (json!({"title": "\u{200b}\u{feff} \u{2060}"}), "/title"),
        (json!({"title": "x", "tags": tags(51)}), "/tags"),
        (json!({"title": "x", "tags": tags(5000)}), "/tags"),
    ] {
        assert_eq!(pointer(&api.post(INCIDENTS, &api.agent, body).await.expect(422)), wrong);
    }
    let full =
        api.post(INCIDENTS, &api.agent, json!({"title": "x", "tags": tags(50)})).await.expect(201).json;
    let path = format!("{INCIDENTS}/{}", full["id"].as_str().unwrap());
    api.act(&api.agent, &full["number"], "tags", json!({"tag": "T7"})).await.expect(200);
    let one_more = api.act(&api.agent, &full["number"], "tags", json!({"tag": "one more"})).await;
    assert_eq!(pointer(&one_more.expect(422)), "/tag");
    for field in ["title", "description", "impact", "status", "tags", "configuration_items"] {
        let mut body = json!({});
        body[field] = Value::Null;
        let refused = api.patch(&path, &api.agent, body).await.expect(422);
        assert_eq!(pointer(&refused), format!("/{field}"));
    }
    api.patch(&path, &api.agent, json!({"tags": tags(51)})).await.expect(422);
    api.patch(&path, &api.agent, json!({"team": null, "assignee": null})).await.expect(200);
}
