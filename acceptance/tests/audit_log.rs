//! Story: an auditor verifies the log, keeps its head elsewhere, takes a copy along; somebody with the database in hand changes it, and is found.

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::App;

const KEY: &str = "a key of the tests that is long enough, and kept elsewhere";

async fn verified(app: &App, args: &[&str]) -> (bool, Value) {
    let args: Vec<&str> = ["audit", "verify", "--json"].into_iter().chain(args.iter().copied()).collect();
    let output = app.run(&args).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.success(), report)
}

#[tokio::test]
async fn who_changes_the_log_is_found() {
    let app = App::start_with(&[("RELAYDESK_AUDIT_KEY", KEY)]).await;
    let ticket = app.agent.post("/api/v1/incidents", json!({"title": "No paper"})).await.expect(201);
    let id = ticket["id"].as_str().unwrap();
    let entries =
        app.client.get(&format!("/api/v1/audit-logs?object={id}&verb=create&noun=tickets")).await.expect(200);
    let entry = &entries["items"][0];
    assert_eq!(entry["actor"]["user"], json!(app.organization.agent.user_id().unwrap()));
    assert_eq!(entry["address"], "127.0.0.1");
    let position = entry["position"].as_i64().unwrap();

    // The chain grows by itself.
    let begin = Instant::now();
    loop {
        let (whole, report) = verified(&app, &["--organization", "acme"]).await;
        assert!(whole, "{report:#}");
        if report["logs"][0]["head"].is_object() && report["logs"][0]["unsealed"] == 0 {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(90), "{report:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let head = app.run(&["audit", "head"]).await;
    assert!(head.status.success());
    let (heads, copy) = (app.folder.path().join("heads.ndjson"), app.folder.path().join("acme.ndjson"));
    std::fs::write(&heads, &head.stdout).unwrap();
    std::fs::write(&copy, app.run(&["audit", "export", "--organization", "acme"]).await.stdout).unwrap();
    let (heads, copy) = (heads.to_str().unwrap(), copy.to_str().unwrap());
    assert!(verified(&app, &["--head", heads]).await.0);
    let (whole, report) = verified(&app, &["--file", copy, "--head", heads]).await;
    assert!(whole && report["entries"].as_u64() > Some(3), "{report:#}");
    // A head of somebody else's making is not believed.
    let forged =
        String::from_utf8(head.stdout).unwrap().replacen("\"signature\":\"", "\"signature\":\"00", 1);
    std::fs::write(app.folder.path().join("forged.ndjson"), forged).unwrap();
    let refused = app.run(&["audit", "verify", "--head", "forged.ndjson"]).await;
    assert!(!refused.status.success());

    let mut owner = app.db.owner().await;
    sqlx::query("update audit_entries set actor_id = gen_random_uuid() where seq = $1")
        .bind(position)
        .execute(&mut owner)
        .await
        .unwrap();
    let (whole, report) = verified(&app, &["--organization", "acme"]).await;
    assert!(!whole);
    assert_eq!(report["logs"][0]["faults"], json!([{"fault": "entry_changed", "entry": position}]));
    assert!(verified(&app, &["--file", copy, "--head", heads]).await.0, "the copy is what it was");
}
