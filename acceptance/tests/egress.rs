//! Story: an operator lists the hosts that may be connected to, and whatever people set up leads to no other.

use serde_json::{Value, json};
use testkit::App;
use testkit::sinks::HttpSink;

const SETTING: &str = "RELAYDESK_EGRESS_HOSTS";

#[tokio::test(flavor = "multi_thread")]
async fn only_listed_hosts_hear_anything() {
    let (listed, other) = (HttpSink::start().await, HttpSink::start().await);
    let hosts =
        format!("*.example.org, {}", listed.url("").trim_start_matches("http://").trim_end_matches('/'));
    let keys = "test:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let app = App::start_with(&[(SETTING, &hosts), ("RELAYDESK_JOB_KEYS", keys)]).await;

    // A chat.
    for (sink, status) in [(&listed, "sent"), (&other, "given_up")] {
        let channel =
            json!({"kind": "slack", "name": status, "config": {"webhook_url": sink.url("/services/T/B/x")}});
        let channel = app.client.post("/api/v1/notification-channels", channel).await.expect(201);
        let id = channel["id"].as_str().unwrap();
        app.client.post(&format!("/api/v1/notification-channels/{id}/test"), json!({})).await.expect(202);
        let ledger = format!("/api/v1/notifications?channel={id}");
        let told = app.client.until(&ledger, |list| list["items"][0]["status"] == status).await;
        let reason = told["items"][0]["last_error"].as_str().unwrap_or_default();
        assert_eq!(reason.contains(SETTING), status == "given_up", "{told}");
    }

    // A webhook.
    let webhook = json!({"url": other.url("/hook"), "event_types": ["incident.*"]});
    let webhook = app.client.post("/api/v1/webhooks", webhook).await.expect(201);
    let path = format!("/api/v1/webhooks/{}", webhook["id"].as_str().unwrap());
    app.client.post(&format!("{path}/test"), json!({})).await.expect(202);
    let refused =
        |list: &Value| list["items"][0]["last_error"].as_str().is_some_and(|it| it.contains(SETTING));
    app.client
        .until(&format!("/api/v1/webhook-deliveries?webhook={}", webhook["id"].as_str().unwrap()), refused)
        .await;

    // An inventory.
    let source = json!({"name": "elsewhere", "format": "json", "location": other.url("/hosts.json"),
                        "identification_keys": ["serial"]});
    let source = app.client.post("/api/v1/discovery-sources", source).await.expect(201);
    let path = format!("/api/v1/discovery-sources/{}", source["id"].as_str().unwrap());
    let started = app.client.post(&format!("{path}/preview"), json!({})).await.expect(202);
    let run = format!("{path}/runs/{}", started["run"].as_str().unwrap());
    let run = app.client.until(&run, |run| run["status"] == "failed").await;
    assert!(run.to_string().contains(SETTING), "{run}");

    // An identity provider: who begins a login there lands on the page of the console again.
    let provider = json!({"name": "elsewhere", "issuer": other.url(""), "client_id": "relaydesk", "client_secret": "any"});
    app.client.post("/api/v1/identity-providers", provider).await.expect(201);
    let buttons = app.client.get("/api/v1/auth/oidc?organization=acme").await.expect(200);
    app.client.get(buttons["items"][0]["start"].as_str().unwrap()).await.expect(200);

    assert_eq!((listed.requests().len(), other.requests().len()), (1, 0));
}
