//! What holds for every route: problems, slashes, traces, headers, health, documentation.

use crate::support::{Api, request};
use axum::body::Body;
use axum::http::{Method, Request};

#[tokio::test]
async fn every_path_works_with_and_without_a_slash_at_its_end() {
    let api = Api::start().await;
    for path in [
        "/api/v1/user-roles",
        "/api/v1/user-roles/",
        "/livez",
        "/livez/",
        "/readyz",
        "/metrics/",
        "/api/docs/",
    ] {
        api.get(path, &api.admin).await.expect(200);
    }
    api.get("/api/v1/user-roles/?page_size=3", &api.admin).await.expect(200);
}

#[tokio::test]
async fn errors_are_problem_documents() {
    let api = Api::start().await;
    for (method, path, token, status, slug) in [
        (Method::GET, "/nowhere", "", 404, "not-found"),
        (Method::GET, "/api/v1/nowhere", &*api.admin, 404, "not-found"),
        (Method::DELETE, "/api/v1/user-permissions", &api.admin, 405, "method-not-allowed"),
        (Method::GET, "/api/v1/user-roles", "", 401, "unauthorized"),
        (Method::GET, "/api/v1/user-roles", "rd_nonsense", 401, "unauthorized"),
        (Method::GET, "/api/v1/user-roles", "not.a.jwt", 401, "unauthorized"),
    ] {
        let answer = api.call(method, path, token, None).await.expect(status);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
        assert_eq!(answer.json["type"], format!("https://relaydesk.dev/problems/{slug}"));
        assert_eq!(answer.json["status"], status);
        assert_eq!(answer.json["trace_id"], answer.header("x-trace-id"));
        match status {
            405 => assert_eq!(answer.header("allow"), "GET,HEAD"),
            401 => assert!(answer.header("www-authenticate").starts_with("Bearer")),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_trace_goes_on_and_answers_are_guarded() {
    let api = Api::start().await;
    let request = Request::builder()
        .uri("/livez")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .body(Body::empty())
        .unwrap();
    let answer = api.send(request).await;
    assert_eq!(answer.header("x-trace-id"), "0af7651916cd43dd8448eb211c80319c");
    assert!(answer.header("traceparent").starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert!(!answer.header("traceparent").contains("b7ad6b7169203331"));
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(answer.header("content-security-policy").contains("default-src 'none'"));
}

#[tokio::test]
async fn readiness_ends_when_draining_but_liveness_does_not() {
    let api = Api::start().await;
    api.get("/readyz", "").await.expect(200);
    api.state.drain();
    let answer = api.get("/readyz", "").await.expect(503);
    assert_eq!(answer.header("retry-after"), "5");
    api.get("/livez", "").await.expect(200);
}

#[tokio::test]
async fn the_documentation_is_served_offline() {
    let api = Api::start().await;
    let document = api.get("/api/openapi.json", "").await.expect(200);
    assert!(document.json["paths"]["/api/v1/user-roles"]["get"]["responses"]["default"].is_object());
    let page = api.get("/api/docs", "").await.expect(200);
    assert!(page.header("content-security-policy").contains("script-src 'self'"));
    assert!(!page.text.contains("http"), "nothing from elsewhere");
    for part in page.text.split('"').filter(|part| part.starts_with("/api/docs/")) {
        api.get(part, "").await.expect(200);
    }
    assert!(api.get("/api/docs/swagger-initializer.js", "").await.text.contains("/api/openapi.json"));
}

#[tokio::test]
async fn requests_are_measured() {
    let api = Api::start().await;
    api.get("/api/v1/user-roles", &api.admin).await.expect(200);
    let metrics = api.get("/metrics", "").await.expect(200);
    assert!(metrics.text.contains(
        "relaydesk_http_request_duration_seconds_count{method=\"GET\",route=\"/api/v1/user-roles\",status=\"200\"}"
    ));
    assert!(metrics.text.contains("relaydesk_build_info{version="));
    assert!(metrics.header("content-type").ends_with("; charset=utf-8"));
    assert!(metrics.text.contains("relaydesk_db_pool_connections{state=\"idle\"}"));
}

#[tokio::test]
async fn permissions_are_listed_for_the_caller() {
    let api = Api::start().await;
    let answer =
        api.send(request(Method::GET, "/api/v1/user-permissions", &api.end_user, None)).await.expect(200);
    let allowed = |name: &str| {
        let items = answer.json["items"].as_array().unwrap();
        items.iter().find(|item| item["name"] == name).unwrap()["allowed"].as_bool().unwrap()
    };
    assert!(allowed("tickets.create") && !allowed("people.manage"));
}

/// A handler runs to its commit although the client hangs up, and the pool gets its connections back clean.
#[tokio::test]
async fn a_storm_of_disconnects_harms_nobody() {
    let api = Api::start().await;
    for round in 0..60_u64 {
        let body = serde_json::json!({"name": format!("Team {round}")});
        let call = api.send(request(Method::POST, "/api/v1/teams", &api.admin, Some(body)));
        // The future is dropped when the time is over, wherever it is.
        let _ = tokio::time::timeout(std::time::Duration::from_micros(round * 150), call).await;
    }
    // Every request that began is in the end either wholly there or not at all, and all connections work.
    for _ in 0..20 {
        let answers = (0..8).map(|_| api.get("/api/v1/teams?page_size=200", &api.admin));
        for answer in futures::future::join_all(answers).await {
            answer.expect(200);
        }
    }
    let mut owner = api.test_db.owner().await;
    let stuck: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'",
    )
    .fetch_one(&mut owner)
    .await
    .unwrap();
    let torn: i64 = sqlx::query_scalar(
        "select count(*) from teams t where not exists (select from events e where e.kind = 'team.created'
                                                         and e.payload ->> 'team' = t.id::text)",
    )
    .fetch_one(&mut owner)
    .await
    .unwrap();
    assert_eq!((stuck, torn), (0, 0));
}

/// ASVS 5.0, 13.4.5.
#[tokio::test]
async fn metrics_have_a_listener_of_their_own() {
    let mut api = Api::start().await;
    api.get("/metrics", "").await.expect(200);
    let settings = api::Settings { metrics_elsewhere: true, ..api::Settings::default() };
    api.state.settings = std::sync::Arc::new(settings);
    api.router = api::app(api.state.clone());
    api.get("/metrics", "").await.expect(404);
    api.get("/metrics", &api.admin).await.expect(404);
    api.router = api::metrics_alone(api.state.db.clone());
    assert!(api.get("/metrics", "").await.expect(200).text.contains("relaydesk_db_pool_connections"));
    api.get("/api/v1/users/me", &api.admin).await.expect(404);
}
