//! Story: a person reports that something is broken, staff mend it, and everybody sees their part of it.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::App;

const INCIDENTS: &str = "/api/v1/incidents";

#[tokio::test(flavor = "multi_thread")]
async fn reported_answered_escalated_resolved_reopened_closed() {
    let app = App::start().await;
    let report = json!({"title": "No network on floor three", "impact": "high", "urgency": "medium"});
    let incident = app.end_user.post(INCIDENTS, report).await.expect(201);
    let number = incident["number"].as_str().unwrap().to_owned();
    assert_eq!((number.as_str(), &incident["priority"]), ("INC0000001", &json!("high")));
    assert_eq!(incident["requester_email"], "end-user@acme.example");
    let path = format!("{INCIDENTS}/{number}");

    let assigned = app
        .agent
        .post(&format!("{path}/assign/"), json!({"assignee": "agent@acme.example"}))
        .await
        .expect(200);
    assert_eq!(assigned["status"], "assigned");
    let internal = json!({"body": "again this switch", "visibility": "internal"});
    app.agent.post(&format!("{path}/comments"), internal).await.expect(201);
    app.agent.post(&format!("{path}/add_comment"), json!({"body": "on our way"})).await.expect(201);
    assert!(app.agent.get(&path).await.expect(200)["first_responded_at"].is_string());
    let raised =
        app.agent.post(&format!("{path}/escalate"), json!({"reason": "all of them"})).await.expect(200);
    assert_eq!(raised["priority"], "critical");
    app.agent.post(&format!("{path}/resolve"), json!({"resolution": "a new switch"})).await.expect(200);
    // The requester disagrees, by answering.
    app.end_user.post(&format!("{path}/add_comment"), json!({"body": "still nothing"})).await.expect(201);
    let reopened = app.agent.get(&path).await.expect(200);
    assert_eq!((&reopened["status"], &reopened["reopened_count"]), (&json!("assigned"), &json!(1)));
    app.agent.post(&format!("{path}/resolve"), json!({"resolution": "the other switch"})).await.expect(200);
    let closed = app.agent.post(&format!("{path}/close"), json!({})).await.expect(200);
    assert_eq!(closed["status"], "closed");

    let bodies = |comments: Vec<Value>| -> Vec<String> {
        comments.iter().map(|comment| comment["body"].as_str().unwrap().to_owned()).collect()
    };
    let all = bodies(app.agent.all(&format!("{path}/comments")).await);
    assert_eq!(all, ["again this switch", "on our way", "still nothing"]);
    assert_eq!(bodies(app.end_user.all(&format!("{path}/comments")).await), ["on our way", "still nothing"]);
    let history = app.agent.all(&format!("{path}/history")).await;
    let actions: Vec<_> = history.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "opened",
            "assigned",
            "commented",
            "commented",
            "escalated",
            "resolved",
            "commented",
            "reopened",
            "resolved",
            "closed"
        ]
    );
    assert!(history.iter().all(|entry| entry["trace_id"].as_str().is_some_and(|id| id.len() == 32)));
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_reports_at_once_get_fifty_numbers() {
    let app = App::start().await;
    let mut reports = tokio::task::JoinSet::new();
    for n in 0..50 {
        let client = app.agent.clone();
        reports.spawn(async move {
            client.post(INCIDENTS, json!({"title": format!("report {n}")})).await.expect(201)
        });
    }
    let mut numbers: Vec<String> = reports
        .join_all()
        .await
        .iter()
        .map(|incident| incident["number"].as_str().unwrap().to_owned())
        .collect();
    numbers.sort();
    let expected: Vec<String> = (1..=50).map(|n| format!("INC{n:07}")).collect();
    assert_eq!(numbers, expected);
    assert_eq!(app.agent.all(&format!("{INCIDENTS}?open=true")).await.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_repeated_with_its_key_is_done_once() {
    let app = App::start().await;
    let send = || {
        let request = app.agent.request(Method::POST, INCIDENTS).header("Idempotency-Key", "report-1");
        app.agent.send(request.json(&json!({"title": "only once"})))
    };
    let first = send().await.expect(201);
    let second = send().await.expect(201);
    assert_eq!(first["number"], second["number"]);
    assert_eq!(app.agent.all(INCIDENTS).await.len(), 1);
}
