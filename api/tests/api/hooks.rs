//! The limits of the hooks.

use crate::support::{Answer, Api};
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::json;

/// A payload of one alert with a description of so many bytes.
fn payload(bytes: usize) -> String {
    json!({"dedup_key": "nas1", "title": "backup failed", "description": "x".repeat(bytes)}).to_string()
}

async fn knock(api: &Api, hook: &str, body: String) -> Answer {
    api.send(Request::builder().method(Method::POST).uri(hook).body(Body::from(body)).unwrap()).await
}

#[tokio::test]
async fn a_payload_may_be_as_long_as_an_upload_and_a_longer_one_is_seen() {
    let api = Api::start().await;
    let source = json!({"kind": "generic", "name": "backups"});
    let source = api.post("/api/v1/alert-sources", &api.admin, source).await.expect(201).json;
    let hook = format!("/hooks/generic/{}", source["token"].as_str().unwrap());
    let (ordinary, limit) = (api.state.settings.body_limit, api.state.settings.upload_limit);

    let kept = knock(&api, &hook, payload(2 * ordinary)).await.expect(202).json;
    let row = format!("/api/v1/inbox/{}", kept["inbox"].as_str().unwrap());
    let row = api.get(&row, &api.admin).await.expect(200).json;
    assert_eq!(row["status"], "pending");
    assert!(row["size_bytes"].as_u64().unwrap() > 2 * ordinary as u64, "{row}");

    let refused = knock(&api, &hook, payload(limit)).await.expect(413).json;
    assert!(refused["detail"].as_str().unwrap().contains(&limit.to_string()), "{refused}");
    let failed = api.get("/api/v1/inbox?status=failed", &api.admin).await.expect(200).json;
    let row = &failed["items"][0];
    assert_eq!((&row["channel"], &row["source"]), (&source["id"], &json!("generic")));
    assert_eq!(row["size_bytes"], 0);
    let size = payload(limit).len().to_string();
    assert!(row["reason"].as_str().unwrap().contains(&size), "{row}");
    // There is nothing that could be worked on again.
    let replay = format!("/api/v1/inbox/{}/replay", row["id"].as_str().unwrap());
    api.post(&replay, &api.admin, json!({})).await.expect(409);

    // A stranger's is not even read to its end.
    knock(&api, "/hooks/generic/rda_nobody", payload(limit)).await.expect(404);
    assert_eq!(api.get("/api/v1/inbox", &api.admin).await.json["items"].as_array().unwrap().len(), 2);
}

/// ASVS 5.0, 14.2.1: a header is in no proxy's log.
#[tokio::test]
async fn the_token_of_a_hook_goes_in_a_header() {
    let api = Api::start().await;
    let source = json!({"kind": "generic", "name": "backups"});
    let source = api.post("/api/v1/alert-sources", &api.admin, source).await.expect(201).json;
    let mailbox = json!({"name": "Support", "address": "support@acme.example"});
    let mailbox = api.post("/api/v1/mailboxes", &api.admin, mailbox).await.expect(201).json;
    let (alerts, mails) = (source["token"].as_str().unwrap(), mailbox["hook_token"].as_str().unwrap());
    let mail =
        "From: ada@acme.example\r\nMessage-ID: <1@acme.example>\r\nSubject: Printer\r\n\r\nIt burns.\r\n";
    for (hook, good, other, body) in
        [("/hooks/generic", alerts, mails, payload(1)), ("/hooks/email", mails, alerts, mail.to_owned())]
    {
        let knock = |authorization: Option<String>| {
            let mut request = Request::builder().method(Method::POST).uri(hook);
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            api.send(request.body(Body::from(body.clone())).unwrap())
        };
        assert!(!knock(None).await.expect(401).header("www-authenticate").is_empty());
        for wrong in ["Bearer ", &format!("Basic {good}")] {
            knock(Some(wrong.to_owned())).await.expect(401);
        }
        for wrong in [other, "rda_nobody", &api.admin] {
            knock(Some(format!("Bearer {wrong}"))).await.expect(404);
        }
        knock(Some(format!("bearer {good}"))).await.expect(202);
    }
    let kept = api.get("/api/v1/inbox", &api.admin).await.expect(200).json;
    assert_eq!(kept["items"].as_array().unwrap().len(), 2);
}
