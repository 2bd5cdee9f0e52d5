//! What a flood, a slow client or a monstrous body costs: an answer that says so, and nothing for anybody else.

use crate::support::{Answer, Api, request};
use api::{Rates, Settings};
use axum::body::{Body, Bytes};
use axum::http::{Method, header};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const TEAMS: &str = "/api/v1/teams";

impl Api {
    /// From now on with other settings.
    pub fn set(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = (*self.state.settings).clone();
        change(&mut settings);
        self.state.settings = Arc::new(settings);
        self.router = api::app(self.state.clone());
    }

    /// Repeats a request until it is refused for its number. Buckets fill again while a slow machine works, so the
    /// number of those that are taken is known from below only.
    async fn flood(&self, least: usize, send: impl AsyncFn() -> Answer) -> Answer {
        for sent in 0..10_000 {
            let answer = send().await;
            if answer.status == 429 {
                assert!(sent >= least, "refused after {sent}");
                return answer;
            }
        }
        panic!("10,000 requests, and none was refused");
    }
}

fn is_refusal(answer: &Answer, policy: &str) {
    assert_eq!(answer.json["type"], "https://relaydesk.dev/problems/too-many-requests");
    assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| (1..=60).contains(&seconds)));
    assert!(answer.header("ratelimit-policy").contains(policy), "{}", answer.header("ratelimit-policy"));
    assert!(answer.header("ratelimit").contains(";r=0;t="), "{}", answer.header("ratelimit"));
}

#[tokio::test]
async fn a_flood_with_one_token_stops_that_token_only() {
    let mut api = Api::start().await;
    api.set(|settings| {
        settings.rates = Rates { token: Some(5), person: None, organization: Some(1000), address: Some(1000) }
    });
    let refused = api.flood(5, async || api.get(TEAMS, &api.agent).await).await;
    is_refusal(&refused, "\"token\";q=5;w=60, \"organization\";q=1000;w=60");
    let answer = api.get(TEAMS, &api.admin).await.expect(200);
    assert_eq!(answer.header("ratelimit-policy"), "\"address\";q=1000;w=60", "not known yet");
    let answer = api.get(TEAMS, &api.admin).await.expect(200);
    assert!(answer.header("ratelimit").starts_with("\"token\";r=4;t="), "{}", answer.header("ratelimit"));

    // The database is not even asked, nor is a body read: this one is no JSON, and there is no database any more.
    api.test_db.db.pool().close().await;
    let refused = api
        .flood(0, async || {
            let mut request = request(Method::POST, TEAMS, &api.agent, None);
            request.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
            request.headers_mut().insert("idempotency-key", "flood".parse().unwrap());
            *request.body_mut() = Body::from("{".repeat(100_000));
            api.send(request).await
        })
        .await;
    is_refusal(&refused, "\"token\"");
}

#[tokio::test]
async fn the_tokens_of_an_organization_have_a_limit_together() {
    let mut api = Api::start().await;
    let other = testkit::organization(&api.test_db, "globex").await;
    let theirs = crate::support::token_of(&api.test_db, &other.admin).await;
    api.set(|settings| {
        settings.rates = Rates { token: Some(1000), person: None, organization: Some(6), address: Some(1000) }
    });
    let tokens = [&api.admin, &api.agent, &api.end_user];
    let turn = AtomicUsize::new(0);
    let refused = api
        .flood(6, async || {
            let token = tokens[turn.fetch_add(1, Ordering::SeqCst) % 3];
            api.get("/api/v1/users/me", token).await
        })
        .await;
    is_refusal(&refused, "\"organization\";q=6;w=60");
    for _ in 0..3 {
        api.get("/api/v1/users/me", &theirs).await.expect(200);
    }
}

/// Logins cost nothing: ten of one person are not ten times as much, or the organization's share would be theirs.
#[tokio::test]
async fn the_tokens_of_a_person_have_a_limit_together() {
    let mut api = Api::start().await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(testkit::token(&api.test_db, &api.organization.agent).await);
    }
    api.set(|settings| settings.rates = Rates { token: Some(1000), person: Some(6), ..Rates::default() });
    let turn = AtomicUsize::new(0);
    let refused =
        api.flood(6, async || api.get(TEAMS, &tokens[turn.fetch_add(1, Ordering::SeqCst) % 3]).await).await;
    is_refusal(&refused, "\"person\";q=6;w=60");
    api.get(TEAMS, &api.admin).await.expect(200);
}

/// Guessed tokens, logins: counted by the network that they come from, and only those.
#[tokio::test]
async fn who_is_not_known_counts_by_address() {
    let mut api = Api::start().await;
    api.get(TEAMS, &api.agent).await.expect(200);
    api.set(|settings| settings.rates = Rates { address: Some(4), ..Rates::default() });
    let guess = AtomicUsize::new(0);
    let login = json!({"email": "nobody@acme.example", "password": "x"});
    let refused = api
        .flood(4, async || {
            let token = format!("rd_{}", guess.fetch_add(1, Ordering::SeqCst));
            api.post_from("2001:db8::1", TEAMS, &token, json!({"name": "x"})).await
        })
        .await;
    is_refusal(&refused, "\"address\";q=4;w=60");
    // The same customer's other addresses are the same network.
    let refused = api
        .flood(0, async || api.post_from("2001:db8::ffff", "/api/v1/auth/login", "", login.clone()).await)
        .await;
    is_refusal(&refused, "\"address\"");
    api.post_from("2001:db8:1::1", "/api/v1/auth/login", "", login.clone()).await.expect(401);
    // Who was known before goes on, from the same address too.
    api.post_from("2001:db8::1", TEAMS, &api.agent, json!({"name": "x"})).await.expect(403);
}

/// A sender that is refused may have nothing to send it again from: what comes by hooks is kept, however much it is.
#[tokio::test]
async fn hooks_are_never_refused_for_their_number() {
    let mut api = Api::start().await;
    let source = json!({"kind": "generic", "name": "probe"});
    let source = api.post("/api/v1/alert-sources", &api.admin, source).await.expect(201).json;
    let hook = format!("/hooks/generic/{}", source["token"].as_str().unwrap());
    api.set(|settings| {
        settings.rates = Rates { token: Some(1), person: Some(1), organization: Some(1), address: Some(1) }
    });
    for n in 0..30 {
        let alert = json!({"dedup_key": format!("k{n}"), "title": "disk full"});
        let answer = api.post(&hook, "", alert).await.expect(202);
        assert_eq!(answer.header("ratelimit"), "");
    }
    let kept: i64 = sqlx::query_scalar("select count(*) from inbox")
        .fetch_one(&mut api.test_db.owner().await)
        .await
        .unwrap();
    assert_eq!(kept, 30);
    for path in ["/livez", "/readyz", "/metrics"] {
        api.get(path, "").await.expect(200);
    }
}

/// A body whose bytes are made while they are read.
async fn send_endless(api: &Api, with_key: bool) -> (Answer, usize) {
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let body = futures::stream::iter(0..2000).map_chunks(move |n| {
        let chunk =
            if n == 0 { Bytes::from_static(b"{\"name\":\"") } else { Bytes::from(vec![b'x'; 64 * 1024]) };
        counted.fetch_add(chunk.len(), Ordering::SeqCst);
        chunk
    });
    let mut request = request(Method::POST, TEAMS, &api.admin, None);
    request.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    if with_key {
        request.headers_mut().insert("idempotency-key", "giant".parse().unwrap());
    }
    *request.body_mut() = Body::from_stream(body);
    (api.send(request).await, read.load(Ordering::SeqCst))
}

trait MapChunks: futures::Stream<Item = i32> + Sized {
    fn map_chunks(
        self,
        mut make: impl FnMut(i32) -> Bytes,
    ) -> impl futures::Stream<Item = std::io::Result<Bytes>> {
        futures::StreamExt::map(self, move |n| Ok(make(n)))
    }
}

impl<S: futures::Stream<Item = i32>> MapChunks for S {}

#[tokio::test]
async fn giant_json_is_not_read_to_its_end() {
    let api = Api::start().await;
    for with_key in [false, true] {
        let (answer, read) = send_endless(&api, with_key).await;
        assert_eq!(answer.expect(413).json["type"], "https://relaydesk.dev/problems/payload-too-large");
        assert!(read < 2 * 1024 * 1024, "{read} bytes of 128 MiB were read");
    }
}

#[tokio::test]
async fn deep_json_is_refused_wherever_it_stands() {
    let api = Api::start().await;
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    for body in [
        deep("[", "]"),
        deep("{\"name\":", "}"),
        "[".repeat(1_000_000),
        format!("{{\"name\":{}}}", deep("[", "]")),
        // What is looked for in all fields is looked for in these too.
        format!("{{\"name\":\"\\u0000\",\"x\":{}}}", deep("[", "]")),
    ] {
        let mut request = request(Method::POST, TEAMS, &api.admin, None);
        request.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        *request.body_mut() = Body::from(body);
        let answer = api.send(request).await;
        assert!([400, 422].contains(&answer.status.as_u16()), "{}: {}", answer.status, answer.text);
    }
}

#[tokio::test]
async fn compressed_bodies_are_not_taken_apart() {
    let api = Api::start().await;
    for encoding in ["gzip", "br", "gzip, gzip"] {
        let mut request = request(Method::POST, TEAMS, &api.admin, Some(json!({"name": "x"})));
        request.headers_mut().insert(header::CONTENT_ENCODING, encoding.parse().unwrap());
        let answer = api.send(request).await.expect(415);
        assert_eq!(answer.header("accept-encoding"), "identity");
    }
    let mut request = request(Method::POST, TEAMS, &api.admin, Some(json!({"name": "x"})));
    request.headers_mut().insert(header::CONTENT_ENCODING, "identity".parse().unwrap());
    api.send(request).await.expect(201);
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let mut api = Api::start().await;
    api.set(|settings| settings.body_pause = Duration::from_millis(50));
    let stops = |method, path: &str| {
        let begun = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{\"name\":"))]);
        let body = futures::StreamExt::chain(begun, futures::stream::pending());
        let mut request = request(method, path, &api.admin, None);
        request.headers_mut().insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        *request.body_mut() = Body::from_stream(body);
        request
    };
    let answer = api.send(stops(Method::POST, TEAMS)).await.expect(408);
    assert_eq!(answer.json["type"], "https://relaydesk.dev/problems/request-timeout");
    let mut keyed = stops(Method::POST, TEAMS);
    keyed.headers_mut().insert("idempotency-key", "stopped".parse().unwrap());
    api.send(keyed).await.expect(408);
    // Who sends alerts comes again after 503, and not after 4xx.
    let source = json!({"name": "Backups", "kind": "generic"});
    let source = api.post("/api/v1/alert-sources", &api.admin, source).await.expect(201);
    let hook = source.json["hook_url"].as_str().unwrap();
    let hook = &hook[hook.find("/hooks/").unwrap()..];
    let answer = api.send(stops(Method::POST, hook)).await.expect(503);
    assert!(!answer.header("retry-after").is_empty());
}
