//! Story: a manager wants to know how the service desk did, now and every morning.

use serde_json::json;
use std::time::Duration;
use testkit::App;

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_mailed_on_demand_with_its_file() {
    let app = App::start().await;
    for title in ["=1+1", "Drucker brennt", "VPN"] {
        app.end_user.post("/api/v1/incidents", json!({"title": title})).await.expect(201);
    }
    let solved = json!({"resolution": "extinguished"});
    app.agent.post("/api/v1/incidents/INC0000002/resolve", solved).await.expect(200);
    let body = json!({
        "kind": "incidents_and_sla", "from": "2020-01-01T00:00:00Z", "to": "2100-01-01T00:00:00Z",
        "recipients": ["boss@acme.example"]
    });
    let started = app.client.post("/api/v1/reports", body).await.expect(202);
    let path = format!("/api/v1/report-executions/{}", started["execution"].as_str().unwrap());
    let done = app.client.until(&path, |execution| execution["status"] == "done").await;
    let summary = &done["summary"];
    assert_eq!(
        (&summary["opened"], &summary["resolved"], &summary["open_at_end"]),
        (&json!(3), &json!(1), &json!(2))
    );
    assert_eq!(done["incidents"], 3);

    let csv = app.client.get(&format!("{path}/csv")).await;
    let text = String::from_utf8(csv.bytes.clone()).unwrap();
    assert!(text.contains("INC0000001,'=1+1,new"), "{text}");
    assert!(
        csv.headers["content-disposition"]
            .to_str()
            .unwrap()
            .starts_with("attachment; filename=\"incidents_and_sla_")
    );

    app.client
        .until("/api/v1/notifications?status=sent", |list| {
            list["items"].as_array().is_some_and(|items| items.iter().any(|item| item["message"] == "report"))
        })
        .await;
    let mails = app.outbox.mails();
    let report: Vec<_> = mails.iter().filter(|mail| mail.to == ["boss@acme.example"]).collect();
    assert_eq!(report.len(), 1);
    assert!(report[0].header("subject").unwrap().contains("3 opened, 1 resolved, 2 open"));
    assert!(report[0].text().contains("text/csv"));
}

/// The shortest rhythm of cron is a minute, so this takes up to one.
#[tokio::test(flavor = "multi_thread")]
async fn a_report_comes_by_itself() {
    let app = App::start().await;
    app.end_user.post("/api/v1/incidents", json!({"title": "Counted"})).await.expect(201);
    let schedule = json!({
        "name": "Every minute", "kind": "incidents_and_sla", "cron": "* * * * *", "time_zone": "Europe/Berlin",
        "period": {"kind": "last_n_minutes", "count": 10}, "recipients": ["boss@acme.example"]
    });
    let schedule = app.client.post("/api/v1/report-schedules", schedule).await.expect(201);
    let mail = app.outbox.wait_for(1, Duration::from_secs(90)).await.remove(0);
    assert_eq!(mail.to, ["boss@acme.example"]);
    assert!(mail.header("subject").unwrap().contains("1 opened"), "{:?}", mail.header("subject"));
    let path = format!("/api/v1/report-executions?schedule={}", schedule["id"].as_str().unwrap());
    let execution = app.client.get(&path).await.expect(200)["items"][0].clone();
    assert_eq!((&execution["status"], &execution["incidents"]), (&json!("done"), &json!(1)));
    let delete = format!("/api/v1/report-schedules/{}", schedule["id"].as_str().unwrap());
    assert_eq!(app.client.delete(&delete).await.status, 204);
}
