//! Story: the power goes while an escalation chain runs, with one message on the wire and one step half done. Afterwards every
//! step was done once, and every message has arrived.

use serde_json::{Value, json};
use std::time::Duration;
use testkit::sinks::{Answer, HttpSink};
use testkit::{App, Client};

const V1: &str = "/api/v1";
/// The lease of the dead process (20 s) has to end before its work is taken up.
const PATIENCE: Duration = Duration::from_secs(90);
/// The step that is cut off.
const TORN: i32 = 3;

async fn made(client: &Client, noun: &str, body: Value) -> String {
    let made = client.post(&format!("{V1}/{noun}"), body).await.expect(201);
    made["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_was_cut_off_goes_on_and_does_nothing_twice() {
    let mut app = App::start().await;
    let admin = &app.client;
    let (slack, teams) = (HttpSink::start().await, HttpSink::start().await);
    // The first message is taken and never answered: nobody can know whether it arrived.
    slack.script([Answer::status(200).body("ok").after(Duration::from_secs(600))]);
    teams.otherwise(Answer::status(202));
    let config = json!({"webhook_url": slack.url("/services/T/B/x")});
    let to_slack =
        made(admin, "notification-channels", json!({"kind": "slack", "name": "ops", "config": config})).await;
    let config = json!({"webhook_url": teams.url("/workflows/1")});
    let to_teams =
        made(admin, "notification-channels", json!({"kind": "teams", "name": "all", "config": config})).await;
    let boss = app.organization.admin.user_id().expect("a person").to_string();
    let team = made(admin, "teams", json!({"name": "second line", "manager": boss})).await;
    // The first step waits, so that the test finds the escalation before it runs.
    let steps = json!([
        {"action": "notify_channel", "channel": to_slack, "after_seconds": 2},
        {"action": "assign_team", "team": team},
        {"action": "notify_manager"},
        {"action": "raise_priority", "after_seconds": 1},
        {"action": "notify_channel", "channel": to_teams, "after_seconds": 1},
    ]);
    let chain = made(admin, "escalation-chains", json!({"name": "call for help", "steps": steps})).await;
    let targets = json!([{"priority": "medium", "resolution_seconds": 1}, {"priority": "high", "resolution_seconds": 1}]);
    let policy = json!({"name": "seconds", "is_default": true, "warn_percent": null, "breach_chain": chain, "targets": targets});
    made(admin, "sla-policies", policy).await;
    let report = json!({"title": "No network", "impact": "medium", "urgency": "medium"});
    let incident = app.agent.post(&format!("{V1}/incidents"), report).await.expect(201);
    let path = format!("{V1}/incidents/{}", incident["number"].as_str().expect("a number"));

    // Somebody else holds the place of the fourth step: it does all its work and cannot end.
    let started =
        app.agent.until(&format!("{path}/escalations"), |body| body["items"][0]["id"].is_string()).await;
    let mut holder = app.db.owner().await;
    sqlx::raw_sql("begin").execute(&mut holder).await.unwrap();
    sqlx::query(
        "insert into escalation_steps (organization_id, escalation_id, step, action, outcome, done_at)
         values ($1, $2::text::uuid, $3, 'test', 'done', now())",
    )
    .bind(app.organization.id.0)
    .bind(started["items"][0]["id"].as_str().unwrap())
    .bind(TORN)
    .execute(&mut holder)
    .await
    .unwrap();
    slack.wait_for(1, PATIENCE).await;
    let to_boss = |mail: &testkit::sinks::Mail| mail.to.iter().any(|to| to == "admin@acme.example");
    app.outbox.until("the mail to the manager", |mails| mails.iter().any(to_boss)).await;
    app.db.until_blocked(1, "escalation_steps").await;
    app.kill().await;
    sqlx::raw_sql("rollback").execute(&mut holder).await.unwrap();
    let done: i64 =
        sqlx::query_scalar("select count(*) from escalation_steps").fetch_one(&mut holder).await.unwrap();
    assert_eq!(done, i64::from(TORN), "what was half done is not done");
    let priority: String =
        sqlx::query_scalar("select priority from tickets").fetch_one(&mut holder).await.unwrap();
    assert_eq!(priority, "medium");
    assert!(teams.requests().is_empty());

    app.start_again().await;
    let finished = |body: &Value| body["items"][0]["state"] == "finished";
    let escalations = app.agent.within(PATIENCE, &format!("{path}/escalations"), finished).await;
    assert_eq!(escalations["items"].as_array().expect("escalations").len(), 1, "{escalations}");
    let steps = escalations["items"][0]["done"].as_array().expect("steps");
    let outcomes: Vec<_> =
        steps.iter().map(|step| (step["step"].as_i64(), step["outcome"].as_str())).collect();
    assert_eq!(outcomes.len(), 5, "{escalations}");
    assert!(outcomes.iter().all(|(_, outcome)| *outcome == Some("done")), "{escalations}");
    let history = app.agent.all(&format!("{path}/history")).await;
    let of_chain = history.iter().filter(|entry| entry["action"] == "escalation").count();
    assert_eq!(of_chain, 6, "started, and five steps: {history:?}");
    let raised = history
        .iter()
        .flat_map(|entry| entry["changes"].as_array().expect("changes"))
        .filter(|change| change["field"] == "priority" && change["from"].is_string());
    assert_eq!(raised.count(), 1, "raised once: {history:?}");
    let after = app.agent.get(&path).await.expect(200);
    assert_eq!((&after["team"], &after["priority"]), (&json!(team), &json!("high")));

    // Of each message there is one in the ledger, and it was sent. The one on the wire was sent again: a webhook gives no
    // way to ask whether it had arrived.
    let of_chain = |page: &Value| -> Vec<Value> {
        let all = page["items"].as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|one| one["message"] == "sla.breached").collect()
    };
    let ledger = format!("{V1}/notifications?ticket={}", incident["number"].as_str().expect("a number"));
    let all_sent = |page: &Value| of_chain(page).iter().filter(|one| one["status"] == "sent").count() == 3;
    let sent = app.client.within(PATIENCE, &ledger, all_sent).await;
    assert_eq!(of_chain(&sent).len(), 3, "{sent}");
    let requests = slack.requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert_eq!(requests[0].json()["text"], requests[1].json()["text"]);
    assert_eq!(teams.requests().len(), 1);
    assert_eq!(app.outbox.mails().iter().filter(|mail| to_boss(mail)).count(), 1);
    assert_eq!(app.agent.all(&format!("{V1}/sla-breaches")).await.len(), 1);
}
