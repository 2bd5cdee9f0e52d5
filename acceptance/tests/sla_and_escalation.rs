//! Story: a promise of seconds is broken, and everybody who has to know learns of it, once.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::sinks::{Answer, HttpSink};
use testkit::{App, Client};

const V1: &str = "/api/v1";

async fn made(client: &Client, noun: &str, body: Value) -> String {
    let made = client.post(&format!("{V1}/{noun}"), body).await.expect(201);
    made["id"].as_str().expect("an id").to_owned()
}

fn moment(value: &Value) -> DateTime<Utc> {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is a moment"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_promise_is_found_on_time_and_its_chain_runs_once() {
    let app = App::start().await;
    let admin = &app.client;
    let (slack, teams) = (HttpSink::start().await, HttpSink::start().await);
    // Slack is busy first, then broken: the message still arrives, once.
    slack.script([Answer::status(429).header("retry-after", 1), Answer::status(500)]);
    teams.otherwise(Answer::status(202));
    let slack_body =
        json!({"kind": "slack", "name": "ops", "config": {"webhook_url": slack.url("/services/T/B/x")}});
    let slack_channel = made(admin, "notification-channels", slack_body).await;
    let teams_body = json!({"kind": "teams", "name": "ops on teams", "config": {"webhook_url": teams.url("/workflows/1")}});
    let teams_channel = made(admin, "notification-channels", teams_body).await;
    let boss = app.organization.admin.user_id().expect("a person").to_string();
    let team = made(admin, "teams", json!({"name": "second line", "manager": boss})).await;
    let chain = json!({"name": "call for help", "steps": [
        {"action": "assign_team", "team": team},
        {"action": "notify_manager"},
        {"action": "raise_priority"},
        {"action": "notify_channel", "channel": slack_channel},
        {"action": "notify_channel", "channel": teams_channel, "after_seconds": 1},
    ]});
    let chain = made(admin, "escalation-chains", chain).await;
    let targets: Vec<Value> = ["critical", "high", "medium", "low"]
        .iter()
        .map(|priority| json!({"priority": priority, "first_response_seconds": 600, "resolution_seconds": 2}))
        .collect();
    let policy = json!({"name": "seconds", "is_default": true, "warn_percent": 50, "breach_chain": chain, "targets": targets});
    made(admin, "sla-policies", policy).await;

    let report = json!({"title": "No network", "impact": "medium", "urgency": "medium"});
    let incident = app.agent.post(&format!("{V1}/incidents"), report).await.expect(201);
    assert_eq!(incident["sla"]["resolution"]["state"], "running");
    let due = moment(&incident["sla"]["resolution"]["due_at"]);
    let path = format!("{V1}/incidents/{}", incident["number"].as_str().expect("a number"));

    let finished = |body: &Value| body["items"][0]["state"] == "finished";
    let escalations = app.agent.until(&format!("{path}/escalations"), finished).await;
    let outcomes: Vec<_> = escalations["items"][0]["done"].as_array().expect("steps").iter().collect();
    assert_eq!(outcomes.len(), 5);
    assert!(outcomes.iter().all(|step| step["outcome"] == "done"), "{escalations}");
    let after = app.agent.get(&path).await.expect(200);
    assert_eq!((&after["team"], &after["priority"]), (&json!(team), &json!("high")));
    assert_eq!(after["sla"]["resolution"]["state"], "breached");

    let breaches =
        app.agent.all(&format!("{V1}/sla-breaches?ticket={}", incident["number"].as_str().unwrap())).await;
    assert_eq!(breaches.len(), 1, "{breaches:?}");
    assert_eq!(moment(&breaches[0]["breached_at"]), due);
    let lag = moment(&breaches[0]["detected_at"]) - due;
    assert!(lag >= chrono::TimeDelta::zero() && lag < chrono::TimeDelta::seconds(2), "found after {lag}");

    let requests = slack.wait_for(3, Duration::from_secs(30)).await;
    assert!(
        requests[2].json().to_string().contains(incident["number"].as_str().unwrap()),
        "{:?}",
        requests[2].json()
    );
    teams.wait_for(1, Duration::from_secs(30)).await;
    let to_boss = || {
        app.outbox
            .mails()
            .into_iter()
            .filter(|mail| mail.to.iter().any(|to| to == "admin@acme.example"))
            .count()
    };
    app.outbox.until("the mail to the manager", |_| to_boss() > 0).await;

    // Resolved late: the breach learns when it was made good, and nothing more is sent.
    app.agent.post(&format!("{path}/resolve"), json!({"resolution": "a new switch"})).await.expect(200);
    let breach = app
        .agent
        .get(&format!("{V1}/sla-breaches/{}", breaches[0]["id"].as_str().unwrap()))
        .await
        .expect(200);
    assert!(breach["fulfilled_at"].is_string() && breach["overrun_seconds"].is_i64(), "{breach}");
    let resolved = app.agent.get(&path).await.expect(200);
    assert_eq!(resolved["sla"]["resolution"]["state"], "missed");
    assert_eq!((slack.requests().len(), teams.requests().len(), to_boss()), (3, 1, 1));
    let history = app.agent.all(&format!("{path}/history")).await;
    assert_eq!(
        history.iter().filter(|entry| entry["action"] == "escalation").count(),
        6,
        "started, and five steps"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promise_that_is_kept_starts_nothing() {
    let app = App::start().await;
    let chain = made(
        &app.client,
        "escalation-chains",
        json!({"name": "up", "steps": [{"action": "raise_priority"}]}),
    )
    .await;
    let targets = json!([{"priority": "medium", "first_response_seconds": 3, "resolution_seconds": 4}]);
    let policy = json!({"name": "seconds", "is_default": true, "breach_chain": chain, "warn_percent": null, "targets": targets});
    made(&app.client, "sla-policies", policy).await;
    let report = json!({"title": "No network", "impact": "medium", "urgency": "medium"});
    let incident = app.end_user.post(&format!("{V1}/incidents"), report).await.expect(201);
    let path = format!("{V1}/incidents/{}", incident["number"].as_str().expect("a number"));
    app.agent.post(&format!("{path}/add_comment"), json!({"body": "on our way"})).await.expect(201);
    // Waiting for the requester: the clock stands still beyond its four seconds.
    let paused = app.agent.patch(&path, json!({"status": "pending"})).await.expect(200);
    assert_eq!(
        (&paused["sla"]["first_response"]["state"], &paused["sla"]["resolution"]["state"]),
        (&json!("met"), &json!("paused"))
    );
    // Another one that was opened later is late: so the four seconds have passed.
    let report = json!({"title": "No telephone", "impact": "medium", "urgency": "medium"});
    let other = app.end_user.post(&format!("{V1}/incidents"), report).await.expect(201);
    app.agent
        .post(
            &format!("{V1}/incidents/{}/add_comment", other["id"].as_str().unwrap()),
            json!({"body": "we look"}),
        )
        .await
        .expect(201);
    let late = format!("{V1}/sla-breaches?ticket={}", other["id"].as_str().unwrap());
    app.agent.until(&late, |body| body["items"][0]["metric"] == "resolution").await;
    app.agent.post(&format!("{path}/resolve"), json!({"resolution": "a new switch"})).await.expect(200);
    let resolved = app.agent.get(&path).await.expect(200);
    assert_eq!(resolved["sla"]["resolution"]["state"], "met");
    let breaches = app.agent.all(&format!("{V1}/sla-breaches")).await;
    assert_eq!(breaches.len(), 1, "that of the other one: {breaches:?}");
    assert_eq!(resolved["priority"], "medium");
}
