//! What all answers have in common: headers that guard them, names of requests, compression, other origins.

use crate::support::{Answer, Api, request};
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, header};
use serde_json::json;
use tower::ServiceExt;

const PORTAL: &str = "https://portal.example.org";

impl Api {
    async fn ask(&self, method: Method, path: &str, token: &str, headers: &[(&'static str, &str)]) -> Answer {
        let mut request = request(method, path, token, None);
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        self.send(request).await
    }
}

/// Whatever answers: a handler, the router, a layer in front of it, a page.
#[tokio::test]
async fn every_answer_is_guarded_and_named() {
    let mut api = Api::start().await;
    api.set(|settings| {
        settings.base_url = "https://desk.example.org".into();
        settings.cors_origins = vec![PORTAL.parse().unwrap()];
        settings.rates.address = Some(20);
    });
    let preflight = [("origin", PORTAL), ("access-control-request-method", "POST")];
    let mut answers = vec![
        api.get("/api/v1/users/me", &api.agent).await.expect(200),
        api.get("/api/v1/users/me", "").await.expect(401),
        api.get("/api/v1/nowhere", &api.agent).await.expect(404),
        api.get("/nowhere", "").await.expect(404),
        api.delete("/api/v1/users/me/", &api.agent).await,
        api.ask(Method::GET, "/api/v1/users/me", &api.agent, &[("content-encoding", "gzip")])
            .await
            .expect(415),
        api.get("/api/docs", "").await.expect(200),
        api.get("/api/openapi.json", "").await.expect(200),
        api.get("/livez", "").await.expect(200),
        api.get("/metrics", "").await.expect(200),
        api.ask(Method::OPTIONS, "/api/v1/incidents", "", &preflight).await.expect(200),
    ];
    let refused = loop {
        let answer = api.get("/api/v1/users/me", "rd_guessed").await;
        if answer.status == 429 {
            break answer;
        }
    };
    answers.push(refused);
    for answer in answers {
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{}", answer.text);
        assert_eq!(answer.header("x-frame-options"), "DENY");
        assert_eq!(answer.header("strict-transport-security"), "max-age=31536000; includeSubDomains");
        assert!(answer.header("content-security-policy").contains("default-src 'none'"));
        assert!(answer.header("content-security-policy").contains("base-uri 'none'"));
        assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"));
        assert!(!answer.header("cache-control").is_empty() && !answer.header("referrer-policy").is_empty());
        assert!(!answer.header("x-request-id").is_empty() && !answer.header("x-trace-id").is_empty());
        assert!(!answer.headers.contains_key("server") && !answer.headers.contains_key("x-powered-by"));
    }
}

#[tokio::test]
async fn a_request_keeps_the_name_that_it_came_with_if_it_can_be_one() {
    let api = Api::start().await;
    for (given, kept) in [
        ("order-66.b_1", true),
        ("", false),
        ("two words", false),
        ("<script>", false),
        (&"x".repeat(65), false),
    ] {
        let answer = api.ask(Method::GET, "/livez", "", &[("x-request-id", given)]).await;
        assert_eq!(answer.header("x-request-id") == given, kept, "{given}");
        assert!(!answer.header("x-request-id").is_empty());
    }
}

#[tokio::test]
async fn other_origins_are_strangers_unless_they_are_listed() {
    let mut api = Api::start().await;
    let preflight = [
        ("origin", PORTAL),
        ("access-control-request-method", "PATCH"),
        ("access-control-request-headers", "authorization,if-match,idempotency-key"),
    ];
    let allowed = |answer: &Answer| answer.header("access-control-allow-origin").to_owned();
    let answer = api.ask(Method::OPTIONS, "/api/v1/incidents/1", "", &preflight).await;
    assert_eq!((answer.status.as_u16(), allowed(&answer).as_str()), (405, ""), "off by default");

    api.set(|settings| {
        settings.cors_origins = vec![PORTAL.parse().unwrap()];
        settings.rates.address = Some(1);
    });
    let answer = api.ask(Method::OPTIONS, "/api/v1/incidents/1", "", &preflight).await.expect(200);
    assert_eq!(allowed(&answer), PORTAL);
    assert!(answer.header("access-control-allow-methods").contains("PATCH"));
    for name in ["authorization", "if-match", "idempotency-key"] {
        assert!(answer.header("access-control-allow-headers").contains(name), "{name}");
    }
    assert!(!answer.headers.contains_key("access-control-allow-credentials"));
    assert_eq!(answer.header("access-control-max-age"), "600");
    for origin in [
        "https://evil.example",
        "https://portal.example.org.evil.example",
        "null",
        "http://portal.example.org",
    ] {
        let mut asked = preflight;
        asked[0].1 = origin;
        let answer = api.ask(Method::OPTIONS, "/api/v1/incidents/1", "", &asked).await;
        assert_eq!(allowed(&answer), "", "{origin}");
        let answer = api.ask(Method::GET, "/api/v1/users/me", &api.agent, &[("origin", origin)]).await;
        assert_eq!(allowed(&answer), "", "{origin}");
        assert!(answer.header("vary").contains("origin"), "caches keep them apart");
    }
    // Errors can be read by the page as well, the refusal of a flood among them.
    for (path, token, status) in [
        ("/api/v1/users/me", &*api.agent, 200),
        ("/api/v1/nowhere", "", 429),
        ("/api/v1/nowhere", &api.agent, 404),
    ] {
        let answer = api.ask(Method::GET, path, token, &[("origin", PORTAL)]).await;
        assert_eq!((answer.status.as_u16(), allowed(&answer).as_str()), (status, PORTAL), "{path}");
        assert!(answer.header("access-control-expose-headers").contains("etag"));
    }
}

/// What a page of another origin can send without asking first (the media types of forms) is not read as JSON.
#[tokio::test]
async fn what_forms_send_is_not_taken() {
    let api = Api::start().await;
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        for path in ["auth/login", "auth/refresh", "auth/password-reset", "auth/mfa/verify", "incidents"] {
            let path = format!("/api/v1/{path}");
            let answer = api.ask(Method::POST, &path, &api.admin, &[("content-type", media_type)]).await;
            assert_eq!(answer.status, 415, "{path} {media_type}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn long_answers_are_compressed_and_secrets_and_streams_are_not() {
    let api = Api::start().await;
    let gzip = [("accept-encoding", "gzip, br")];
    let encoding = async |path: &str, token: &str, headers: &[(&'static str, &str)]| {
        let answer = api.ask(Method::GET, path, token, headers).await;
        assert!(answer.status.is_success(), "{path}: {}", answer.text);
        (answer.header("content-encoding").to_owned(), answer)
    };
    let (compressed, answer) = encoding("/api/openapi.json", "", &gzip).await;
    assert_eq!(compressed, "gzip");
    assert!(
        answer.header("vary").contains("accept-encoding") && !answer.headers.contains_key("content-length")
    );
    assert_eq!(encoding("/api/openapi.json", "", &[]).await.0, "");
    assert_eq!(encoding("/api/v1/user-permissions", &api.agent, &gzip).await.0, "gzip");
    assert_eq!(encoding("/livez", "", &gzip).await.0, "", "too short to gain by it");

    // A stream goes out message by message.
    let mut stream = request(Method::GET, "/api/v1/events/stream", &api.agent, None);
    stream.headers_mut().insert(header::ACCEPT_ENCODING, "gzip".parse().unwrap());
    let answer = api.router.clone().oneshot(stream).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().get("content-encoding")), (200, None));

    // Long enough, and with a secret in it.
    let new = json!({"name": "n".repeat(100), "scopes": ["tickets.view"]});
    let mut make: Request<Body> =
        request(Method::POST, "/api/v1/api-tokens", &api.agent_login().await, Some(new));
    make.headers_mut().insert(header::ACCEPT_ENCODING, "gzip".parse().unwrap());
    let answer = api.router.clone().oneshot(make).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().get("content-encoding")), (201, None));
    let body = to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    assert!(String::from_utf8_lossy(&body).contains("rd_"));
}
