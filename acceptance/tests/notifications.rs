//! Story: something happens to a ticket, and the people who must know hear of it, once, in the place they chose.

use serde_json::{Value, json};
use std::time::Duration;
use testkit::App;
use testkit::sinks::{Answer, HttpSink};

const WAIT: Duration = Duration::from_secs(30);

async fn channel(app: &App, kind: &str, config: Value) -> String {
    let body = json!({"kind": kind, "name": format!("{kind} of operations"), "config": config});
    let channel = app.client.post("/api/v1/notification-channels", body).await.expect(201);
    channel["id"].as_str().unwrap().to_owned()
}

async fn rule(app: &App, event: &str, channel: &str, conditions: Value) {
    let body = json!({"event": event, "channel": channel, "conditions": conditions});
    app.client.post("/api/v1/notification-rules", body).await.expect(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_teams_and_mail_hear_of_an_incident_once_though_slack_stumbles() {
    let app = App::start().await;
    let (slack, teams) = (HttpSink::start().await, HttpSink::start().await);
    slack.script([
        Answer::status(429).header("retry-after", 1).body("slow down"),
        Answer::status(500).body("oops"),
        Answer::status(200).body("ok"),
    ]);
    teams.otherwise(Answer::status(202));
    let slack_channel = channel(&app, "slack", json!({"webhook_url": slack.url("/services/T/B/x")})).await;
    let teams_channel = channel(&app, "teams", json!({"webhook_url": teams.url("/workflows/1?sig=2")})).await;
    let mail_channel = channel(&app, "email", json!({"to": ["operations@acme.example"]})).await;
    for channel in [&slack_channel, &teams_channel, &mail_channel] {
        rule(&app, "incident.opened", channel, json!({"priority": ["critical", "high"]})).await;
    }
    let quiet = json!({"title": "A mouse is slow", "impact": "low", "urgency": "low"});
    app.end_user.post("/api/v1/incidents", quiet).await.expect(201);
    let loud = json!({"title": "Server room <burns> & smokes", "impact": "high", "urgency": "high"});
    let incident = app.end_user.post("/api/v1/incidents", loud).await.expect(201);
    let number = incident["number"].as_str().unwrap();

    let requests = slack.wait_for(3, WAIT).await;
    assert_eq!(requests.iter().map(|r| r.answered.as_u16()).collect::<Vec<_>>(), [429, 500, 200]);
    let message = requests[2].json();
    assert_eq!(message["text"], format!("{number} opened: Server room &lt;burns&gt; &amp; smokes"));
    assert_eq!(message["blocks"][0]["type"], "header");
    let keys: Vec<_> = requests.iter().map(|r| r.header("idempotency-key").unwrap().to_owned()).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");

    let card = teams.wait_for(1, WAIT).await[0].json();
    assert_eq!(card["type"], "message");
    assert_eq!(card["attachments"][0]["content"]["type"], "AdaptiveCard");

    let ledger = format!("/api/v1/notifications?status=sent&ticket={number}");
    let sent = app
        .client
        .until(&ledger, |list| list["items"].as_array().is_some_and(|items| items.len() == 3))
        .await;
    let of = |kind: &str| {
        sent["items"].as_array().unwrap().iter().find(|item| item["kind"] == kind).unwrap().clone()
    };
    assert_eq!((&of("slack")["attempts"], &of("slack")["last_status"]), (&json!(3), &json!(200)));
    assert_eq!((&of("teams")["attempts"], &of("teams")["last_status"]), (&json!(1), &json!(202)));
    let mails = app.outbox.mails();
    let to_operations = mails.iter().filter(|mail| mail.to == ["operations@acme.example"]).count();
    assert_eq!((to_operations, slack.requests().len(), teams.requests().len()), (1, 3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_refuses_is_visible_and_can_be_sent_again() {
    let app = App::start().await;
    let sink = HttpSink::start().await;
    sink.script([Answer::status(410).body("channel_is_archived")]);
    let id = channel(&app, "slack", json!({"webhook_url": sink.url("/services/gone")})).await;
    let accepted =
        app.client.post(&format!("/api/v1/notification-channels/{id}/test"), json!({})).await.expect(202);
    let ledger = format!("/api/v1/notifications?channel={id}");
    let first = |list: &Value| list["items"][0].clone();
    let listed = app.client.until(&ledger, |list| first(list)["status"] == "given_up").await;
    let delivery = first(&listed);
    assert_eq!(delivery["job"], accepted["job"]);
    assert_eq!(delivery["last_error"], "answered 410: channel_is_archived");

    let retry = format!("/api/v1/notifications/{}/retry", delivery["id"].as_str().unwrap());
    app.agent.post(&retry, json!({})).await.expect(403);
    app.client.post(&retry, json!({})).await.expect(202);
    app.client.until(&ledger, |list| first(list)["status"] == "sent").await;
    assert_eq!(sink.requests().len(), 2);
}
