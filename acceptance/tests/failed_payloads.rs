//! Story: a payload could not be used. It is kept with the reason; once the cause is mended, somebody replays it, and its
//! incident opens: once, however often it is replayed.

use serde_json::{Value, json};
use sqlx::PgConnection;
use testkit::App;

const INBOX: &str = "/api/v1/inbox";
const INCIDENTS: &str = "/api/v1/incidents";

async fn hook(app: &App) -> String {
    let source = json!({"kind": "generic", "name": "backups"});
    let source = app.client.post("/api/v1/alert-sources", source).await.expect(201);
    format!("/hooks/generic/{}", source["token"].as_str().unwrap())
}

fn path(entry: &Value) -> String {
    format!("{INBOX}/{}", entry["id"].as_str().unwrap())
}

async fn become_failed(app: &App, path: &str, replays: u32) -> Value {
    app.client.until(path, |entry| entry["status"] == "failed" && entry["replays"] == replays).await
}

async fn execute(owner: &mut PgConnection, sql: &'static str) {
    sqlx::query(sql).execute(owner).await.unwrap();
}

/// Asks five times at once; every one of them is told a job, or that it is done already.
async fn replay_at_once(app: &App, path: &str) {
    let asked: Vec<_> = (0..5)
        .map(|_| {
            let (client, path) = (app.client.clone(), format!("{path}/replay"));
            tokio::spawn(async move { client.post(&path, json!({})).await.status.as_u16() })
        })
        .collect();
    let mut statuses = Vec::new();
    for one in asked {
        statuses.push(one.await.unwrap());
    }
    assert!(
        statuses.contains(&202) && statuses.iter().all(|status| [202, 409].contains(status)),
        "{statuses:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_database_refused_is_replayed_into_one_incident() {
    let app = App::start().await;
    let hook = hook(&app).await;
    // The cause: something in this installation that takes no alert.
    let mut owner = app.db.owner().await;
    execute(&mut owner, "alter table tickets add constraint no_alerts check (source <> 'alert')").await;
    let alert = json!({"dedup_key": "nas1", "severity": "critical", "title": "Backup of nas1 failed"});
    let kept = app.client.with_token("").post(&hook, alert).await.expect(202);
    let path = format!("{INBOX}/{}", kept["inbox"].as_str().unwrap());
    let failed = become_failed(&app, &path, 0).await;
    assert!(failed["reason"].as_str().unwrap().contains("no_alerts"), "{failed}");
    assert_eq!(app.client.all("/api/v1/jobs?state=dead").await.len(), 0);
    let metrics = String::from_utf8(app.client.get("/metrics").await.bytes).unwrap();
    assert!(
        metrics.contains("relaydesk_alert_ingest_total{outcome=\"failed\",source=\"generic\"} 1"),
        "{metrics}"
    );

    // Too early: it fails again, and says so again.
    app.client.post(&format!("{path}/replay"), json!({})).await.expect(202);
    let again = become_failed(&app, &path, 1).await;
    assert_eq!(again["reason"], failed["reason"]);
    assert!(app.agent.all(INCIDENTS).await.is_empty());

    execute(&mut owner, "alter table tickets drop constraint no_alerts").await;
    replay_at_once(&app, &path).await;
    let done = app.client.until(&path, |entry| entry["status"] == "processed").await;
    assert_eq!(done["reason"], json!(null));
    app.client.post(&format!("{path}/replay"), json!({})).await.expect(409);
    let incidents = app.agent.all(INCIDENTS).await;
    assert_eq!((incidents.len(), &incidents[0]["title"]), (1, &json!("Backup of nas1 failed")));
    assert_eq!(incidents[0]["id"], done["ticket"]);
    let alerts = app.agent.all("/api/v1/alerts").await;
    assert_eq!((alerts.len(), &alerts[0]["received_count"]), (1, &json!(1)));
    app.client.until("/api/v1/jobs?state=ready", |page| page["items"] == json!([])).await;
    let comments = format!("{INCIDENTS}/{}/comments", incidents[0]["number"].as_str().unwrap());
    assert!(app.agent.all(&comments).await.is_empty(), "not even a note that it fired again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_version_refused_is_replayed_into_one_incident() {
    let app = App::start().await;
    let hook = hook(&app).await;
    let refused = json!({"dedup_key": "nas2", "title": "Backup of nas2 failed", "status": "smoking"});
    let refused = app.client.with_token("").post(&hook, refused).await;
    refused.expect(400);
    let kept = app.client.all(&format!("{INBOX}?status=failed")).await.remove(0);
    assert!(kept["reason"].as_str().unwrap().contains("smoking"), "{kept}");
    let path = path(&kept);
    app.agent.post(&format!("{path}/replay"), json!({})).await.expect(403);
    app.client.post(&format!("{path}/replay"), json!({})).await.expect(202);
    assert_eq!(become_failed(&app, &path, 1).await["reason"], kept["reason"]);

    // A version that knows the word is there: as if it had been one that we know.
    let mut owner = app.db.owner().await;
    execute(
        &mut owner,
        "update inbox set raw = convert_to(replace(convert_from(raw, 'UTF8'), 'smoking', 'problem'), 'UTF8')",
    )
    .await;
    replay_at_once(&app, &path).await;
    app.client.until(&path, |entry| entry["status"] == "processed").await;
    app.client.post(&format!("{path}/replay"), json!({})).await.expect(409);
    let incidents = app.agent.all(INCIDENTS).await;
    assert_eq!((incidents.len(), &incidents[0]["title"]), (1, &json!("Backup of nas2 failed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_outlives_its_source_with_the_reason() {
    let app = App::start().await;
    let source = json!({"kind": "generic", "name": "backups"});
    let source = app.client.post("/api/v1/alert-sources", source).await.expect(201);
    let hook = format!("/hooks/generic/{}", source["token"].as_str().unwrap());
    // A title of control characters alone is JSON, and no title.
    let unusable = json!({"dedup_key": "nas3", "title": "\u{1}"});
    let kept = app.client.with_token("").post(&hook, unusable).await.expect(202);
    let path = format!("{INBOX}/{}", kept["inbox"].as_str().unwrap());
    let failed = become_failed(&app, &path, 0).await;
    assert!(failed["reason"].as_str().unwrap().contains("/title"), "{failed}");
    let path_of_source = format!("/api/v1/alert-sources/{}", source["id"].as_str().unwrap());
    assert_eq!(app.client.delete(&path_of_source).await.status, 204);
    app.client.post(&format!("{path}/replay"), json!({})).await.expect(202);
    let again = become_failed(&app, &path, 1).await;
    assert!(again["reason"].as_str().unwrap().contains("alert source was deleted"), "{again}");
    assert!(app.agent.all(INCIDENTS).await.is_empty());
}
