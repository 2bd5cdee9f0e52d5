//! What somebody with an ordinary account (or a token that leaked) must not be able to do.

use crate::support::{Answer, Api, request};
use axum::body::{Body, Bytes};
use axum::http::{Method, header};
use futures::StreamExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const INCIDENTS: &str = "/api/v1/incidents";
const PASSWORD: &str = "correct horse battery";

/// Sends a form whose bytes are made while they are read, and counts how many were.
async fn send_form(api: &Api, head: &'static str, chunks: usize) -> (Answer, usize) {
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let filler = Bytes::from(vec![b'7'; 64 * 1024]);
    let body = futures::stream::iter(0..=chunks).map(move |n| {
        let chunk = if n == 0 { Bytes::from_static(head.as_bytes()) } else { filler.clone() };
        counted.fetch_add(chunk.len(), Ordering::SeqCst);
        Ok::<_, std::io::Error>(chunk)
    });
    let path = format!("{INCIDENTS}/INC0000001/attachments");
    let mut request = request(Method::POST, &path, &api.end_user, None);
    request.headers_mut().insert(header::CONTENT_TYPE, "multipart/form-data; boundary=x".parse().unwrap());
    *request.body_mut() = Body::from_stream(body);
    (api.send(request).await, read.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_form_cannot_fill_the_memory() {
    let mut api = Api::start().await;
    api.post(INCIDENTS, &api.end_user, json!({"title": "see the file"})).await.expect(201);
    let comment = "--x\r\ncontent-disposition: form-data; name=\"comment\"\r\n\r\n";
    let (answer, read) = send_form(&api, comment, 400).await;
    assert_eq!(answer.expect(422).json["errors"][0]["pointer"], "/comment");
    assert!(read < 1024 * 1024, "{read} bytes were read");
    let other = "--x\r\ncontent-disposition: form-data; name=\"more\"\r\n\r\n";
    let (answer, read) = send_form(&api, other, 400).await;
    assert_eq!(answer.expect(422).json["errors"][0]["pointer"], "/more");
    assert!(read < 1024 * 1024, "{read} bytes were read");

    let settings = api::Settings { upload_limit: 256 * 1024, ..(*api.state.settings).clone() };
    api.state.settings = Arc::new(settings);
    api.router = api::app(api.state.clone());
    let file = "--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    let preamble = "nothing that begins a part\r\n";
    let header = "--x\r\ncontent-disposition: form-data; name=\"file\"\r\nx-long: ";
    for head in [file, preamble, header] {
        let (answer, read) = send_form(&api, head, 400).await;
        assert!([400, 413].contains(&answer.status.as_u16()), "{}: {}", answer.status, answer.text);
        assert!(read < 1024 * 1024, "{read} bytes were read");
    }
}

#[tokio::test]
async fn end_users_do_not_learn_who_has_an_account() {
    let api = Api::start().await;
    let ticket = api.post(INCIDENTS, &api.end_user, json!({"title": "mine"})).await.expect(201);
    let path = format!("{INCIDENTS}/{}", ticket.json["id"].as_str().unwrap());
    let known = api.organization.agent.user_id().unwrap().to_string();
    let strange = uuid::Uuid::now_v7().to_string();
    for (method, path, body) in [
        (
            Method::POST,
            INCIDENTS.to_owned(),
            (|who| json!({"title": "x", "assignee": who})) as fn(&str) -> Value,
        ),
        (Method::POST, INCIDENTS.to_owned(), |who| json!({"title": "x", "requester": who})),
        (Method::PATCH, path.clone(), |who| json!({"assignee": who})),
        (Method::PATCH, path.clone(), |who| json!({"requester": who})),
        (Method::POST, format!("{path}/assign"), |who| json!({"assignee": who})),
        (Method::POST, format!("{path}/escalate"), |who| json!({"assignee": who, "reason": "now"})),
        (Method::POST, format!("{path}/watchers"), |who| json!({"user": who})),
    ] {
        let mut told = Vec::new();
        for who in ["agent@acme.example", "nobody@acme.example", &known, &strange] {
            let answer = api.call(method.clone(), &path, &api.end_user, Some(body(who))).await;
            assert_eq!(answer.status, 403, "{method} {path} {}: {}", body(who), answer.text);
            told.push(answer.json["detail"].clone());
        }
        told.dedup();
        assert_eq!(told.len(), 1, "{method} {path}: {told:?}");
    }
    // Oneself is no secret.
    let me = api.get("/api/v1/users/me", &api.end_user).await.expect(200).json;
    api.post(&format!("{path}/watchers"), &api.end_user, json!({"user": me["email"]})).await.expect_success();
}

#[tokio::test]
async fn what_a_deactivated_user_had_stays_dead() {
    let api = Api::start().await;
    let agent = api.organization.agent.user_id().unwrap();
    let path = format!("/api/v1/users/{agent}");
    let set_password = async |password: &str| {
        let path = format!("{path}/set-password");
        api.post(&path, &api.admin, json!({"password": password})).await.expect_success();
    };
    set_password(PASSWORD).await;
    let login = json!({"email": "agent@acme.example", "password": PASSWORD});
    let tokens = api.post("/api/v1/auth/login", "", login.clone()).await.expect(200).json;
    let refresh = json!({"refresh": tokens["refresh"]});
    for is_active in [false, true] {
        api.patch(&path, &api.admin, json!({"is_active": is_active})).await.expect(200);
        for token in [&*api.agent, tokens["access"].as_str().unwrap()] {
            api.get("/api/v1/users/me", token).await.expect(401);
        }
        api.post("/api/v1/auth/refresh", "", refresh.clone()).await.expect(401);
    }
    // The password still holds; another one, set by an admin, ends what was begun with it.
    let tokens = api.post("/api/v1/auth/login", "", login).await.expect(200).json;
    set_password("another long password").await;
    api.get("/api/v1/users/me", tokens["access"].as_str().unwrap()).await.expect(401);
    api.post("/api/v1/auth/refresh", "", json!({"refresh": tokens["refresh"]})).await.expect(401);
}

#[tokio::test]
async fn a_large_answer_goes_out_and_its_repetition_is_told_so() {
    let api = Api::start().await;
    let ticket = api.post(INCIDENTS, &api.admin, json!({"title": "everybody watches"})).await.expect(201);
    let id: uuid::Uuid = ticket.json["id"].as_str().unwrap().parse().unwrap();
    let mut owner = api.test_db.owner().await;
    sqlx::query(
        "with people as (
           insert into users (id, organization_id, email, name, role, created_at, updated_at)
           select gen_random_uuid(), $1, 'u' || n || '@acme.example', repeat('n', 100), 'end_user', now(), now()
           from generate_series(1, 6000) n returning id)
         insert into ticket_watchers (organization_id, ticket_id, user_id, created_at)
         select $1, $2, id, now() from people",
    )
    .bind(api.organization.id.0)
    .bind(id)
    .execute(&mut owner)
    .await
    .unwrap();
    let watch = async || {
        let mut request = request(Method::POST, &format!("{INCIDENTS}/{id}/watchers"), &api.agent, None);
        request.headers_mut().insert("idempotency-key", "large".parse().unwrap());
        api.send(request).await
    };
    let answer = watch().await.expect(201);
    assert!(answer.text.len() > 1024 * 1024, "{}", answer.text.len());
    let again = watch().await.expect(409);
    assert_eq!(again.json["type"], "https://relaydesk.dev/problems/idempotency-answer-lost");
}
