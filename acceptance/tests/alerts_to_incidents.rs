//! Story: monitoring fires, an incident appears; monitoring says it is over, the incident is resolved.

use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use testkit::{App, free_port, http_client};
use tokio::process::{Child, Command};

const INCIDENTS: &str = "/api/v1/incidents";

/// A source and the path of its hook.
async fn source(app: &App, kind: &str, more: Value) -> (Value, String) {
    let mut body = json!({"kind": kind, "name": format!("monitoring by {kind}")});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let source = app.client.post("/api/v1/alert-sources", body).await.expect(201);
    let hook = format!("/hooks/{kind}/{}", source["token"].as_str().unwrap());
    assert!(source["hook_url"].as_str().unwrap().ends_with(&hook));
    (source, hook)
}

fn payload(name: &str, status: &str, start: &str, end: &str) -> Value {
    let labels = json!({"alertname": name, "instance": "db1:9100", "severity": "critical"});
    json!({
        "version": "4", "groupKey": format!("{{}}:{{alertname={name:?}}}"), "truncatedAlerts": 0, "status": status,
        "receiver": "relaydesk", "groupLabels": {"alertname": name}, "commonLabels": labels,
        "commonAnnotations": {"summary": format!("{name} on db1")}, "externalURL": "http://alertmanager.example",
        "alerts": [{
            "status": status, "labels": labels, "annotations": {"summary": format!("{name} on db1")},
            "startsAt": start, "endsAt": end, "generatorURL": "http://prometheus.example/graph",
            "fingerprint": format!("fp-{name}"),
        }],
    })
}

const OPEN_END: &str = "0001-01-01T00:00:00Z";

/// Waits until nothing that was sent is left to be worked on.
async fn worked_off(app: &App) {
    app.client.until("/api/v1/inbox?status=pending", |page| page["items"] == json!([])).await;
}

/// `/usr/bin/prometheus-alertmanager` with short intervals, which tells `hook` everything.
struct Alertmanager {
    api: String,
    process: Child,
}

impl Alertmanager {
    async fn start(folder: &Path, hook: &str) -> Alertmanager {
        let config = format!(
            "route:\n  receiver: relaydesk\n  group_by: [alertname]\n  group_wait: 200ms\n  group_interval: 1s\n  \
             repeat_interval: 1s\nreceivers:\n- name: relaydesk\n  webhook_configs:\n  - url: {hook}\n    send_resolved: true\n"
        );
        let file = folder.join("alertmanager.yml");
        std::fs::write(&file, config).unwrap();
        let listen = format!("127.0.0.1:{}", free_port());
        let process = Command::new("/usr/bin/prometheus-alertmanager")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", folder.join("alertmanager").display()))
            .arg(format!("--web.listen-address={listen}"))
            .arg("--cluster.listen-address=")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("alertmanager.log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .expect("the Debian package prometheus-alertmanager is needed: script/test installs it");
        let api = format!("http://{listen}/api/v2");
        let http = http_client();
        for _ in 0..400 {
            if http.get(format!("{api}/status")).send().await.is_ok_and(|answer| answer.status().is_success())
            {
                return Alertmanager { api, process };
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "alertmanager did not start: {}",
            std::fs::read_to_string(folder.join("alertmanager.log")).unwrap()
        );
    }

    async fn alert(&self, instance: &str, ends: Option<&str>) {
        let mut alert = json!({
            "labels": {"alertname": "DiskAlmostFull", "instance": instance, "severity": "critical"},
            "annotations": {"summary": format!("the disk of {instance} is almost full")},
            "startsAt": "2026-01-01T00:00:00Z", "generatorURL": "http://prometheus.example/graph",
        });
        // Without an end it would time out after `resolve_timeout`.
        alert["endsAt"] = json!(ends.unwrap_or("2099-01-01T00:00:00Z"));
        let answer =
            http_client().post(format!("{}/alerts", self.api)).json(&json!([alert])).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_alertmanager_opens_and_resolves_one_incident() {
    let app = App::start().await;
    let (source, hook) = source(&app, "alertmanager", json!({})).await;
    let mut alertmanager =
        Alertmanager::start(app.folder.path(), &format!("{}{hook}", app.process.base)).await;
    alertmanager.alert("db1", None).await;
    let opened = app.agent.until(INCIDENTS, |page| page["items"] != json!([])).await;
    let incident = &opened["items"][0];
    assert_eq!(incident["title"], "the disk of db1 is almost full");
    assert_eq!((&incident["priority"], &incident["source"]), (&json!("critical"), &json!("alert")));

    // It says so again and again.
    let alerts = format!("/api/v1/alerts?source={}", source["id"].as_str().unwrap());
    app.agent.until(&alerts, |page| page["items"][0]["received_count"].as_i64() >= Some(3)).await;
    // A second alert of the group joins the incident.
    alertmanager.alert("db2", None).await;
    app.agent.until(&alerts, |page| page["items"].as_array().is_some_and(|items| items.len() == 2)).await;

    for instance in ["db1", "db2"] {
        alertmanager.alert(instance, Some("2026-01-02T00:00:00Z")).await;
    }
    let path = format!("{INCIDENTS}/{}", incident["number"].as_str().unwrap());
    let resolved = app.agent.until(&path, |incident| incident["status"] == "resolved").await;
    assert!(resolved["resolution"].as_str().unwrap().contains("monitoring by alertmanager"));
    alertmanager.process.kill().await.unwrap();
    worked_off(&app).await;
    assert_eq!(app.agent.all(INCIDENTS).await.len(), 1);
    let comments = app.agent.all(&format!("{path}/comments")).await;
    assert!(
        comments.iter().any(|comment| comment["body"].as_str().unwrap().contains("the disk of db2")),
        "{comments:?}"
    );
    assert!(comments.iter().all(|comment| comment["visibility"] == "internal"));
    assert!(app.end_user.all(INCIDENTS).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_identical_posts_at_once_make_one_incident() {
    let app = App::start().await;
    let (_, hook) = source(&app, "alertmanager", json!({})).await;
    let body = payload("DiskFull", "firing", "2026-01-01T00:00:00Z", OPEN_END);
    let posts = (0..20).map(|_| {
        let (client, hook, body) = (app.client.with_token(""), hook.clone(), body.clone());
        tokio::spawn(async move { client.post(&hook, body).await.expect(202) })
    });
    for post in posts.collect::<Vec<_>>() {
        let accepted = post.await.unwrap();
        assert!(accepted["inbox"].is_string() && accepted["job"].is_string());
    }
    worked_off(&app).await;
    assert_eq!(app.agent.all(INCIDENTS).await.len(), 1);
    let alerts = app.agent.all("/api/v1/alerts").await;
    assert_eq!((alerts.len(), &alerts[0]["received_count"]), (1, &json!(20)));
}

#[tokio::test(flavor = "multi_thread")]
async fn late_and_unknown_signals_open_nothing() {
    let app = App::start().await;
    let (_, hook) = source(&app, "alertmanager", json!({})).await;
    let anyone = app.client.with_token("");
    let (start, end) = ("2026-01-01T00:00:00Z", "2026-01-01T00:10:00Z");
    anyone.post(&hook, payload("Unknown", "resolved", start, end)).await.expect(202);
    worked_off(&app).await;
    assert!(app.agent.all(INCIDENTS).await.is_empty());
    let ignored = app.client.all("/api/v1/inbox?status=ignored").await;
    assert!(ignored[0]["reason"].as_str().unwrap().contains("never known to fire"), "{ignored:?}");

    for (status, end) in [("firing", OPEN_END), ("resolved", end), ("firing", OPEN_END)] {
        anyone.post(&hook, payload("DiskFull", status, start, end)).await.expect(202);
        worked_off(&app).await;
    }
    let incidents = app.agent.all(INCIDENTS).await;
    assert_eq!((incidents.len(), &incidents[0]["status"]), (1, &json!("resolved")));
    // The next episode is a new incident.
    anyone.post(&hook, payload("DiskFull", "firing", "2026-01-01T01:00:00Z", OPEN_END)).await.expect(202);
    worked_off(&app).await;
    assert_eq!(app.agent.all(INCIDENTS).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_that_can_post_json_can_raise_an_alert() {
    let app = App::start().await;
    let map = json!({"severity_map": {"gold": {"impact": "high", "urgency": "low"}}});
    let (source, hook) = source(&app, "generic", map).await;
    let anyone = app.client.with_token("");
    let alert = json!({"dedup_key": "backup-nas1", "severity": "gold", "title": "Backup of nas1 failed", "labels": {"host": "nas1"}});
    anyone.post(&hook, alert.clone()).await.expect(202);
    anyone.post(&hook, alert).await.expect(202);
    worked_off(&app).await;
    let incidents = app.agent.all(INCIDENTS).await;
    assert_eq!(
        (incidents.len(), &incidents[0]["impact"], &incidents[0]["urgency"]),
        (1, &json!("high"), &json!("low"))
    );
    anyone.post(&hook, json!({"dedup_key": "backup-nas1", "status": "ok"})).await.expect(202);
    worked_off(&app).await;
    assert_eq!(app.agent.all(INCIDENTS).await[0]["status"], "resolved");

    // The token is not shown again, and a new one ends the old.
    let path = format!("/api/v1/alert-sources/{}", source["id"].as_str().unwrap());
    assert!(app.client.get(&path).await.expect(200)["token"].is_null());
    let rotated = app.client.post(&format!("{path}/rotate_token"), json!({})).await.expect(200);
    assert_ne!(rotated["token"], source["token"]);
    assert_eq!(anyone.post(&hook, json!({})).await.status, 404);
    assert_eq!(
        app.agent.post("/api/v1/alert-sources", json!({"kind": "generic", "name": "x"})).await.status,
        403
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_refused_with_a_reason_and_kept() {
    let app = App::start().await;
    let (_, hook) = source(&app, "alertmanager", json!({})).await;
    let anyone = app.client.with_token("");
    let post = async |body: Vec<u8>| {
        let request = anyone.request(reqwest::Method::POST, &hook).header("content-type", "application/json");
        anyone.send(request.body(body)).await
    };
    let broken = post(b"{\"version\": \"4\", \"alerts\": [".to_vec()).await;
    assert_eq!(broken.headers["content-type"], "application/problem+json");
    assert!(broken.expect(400)["detail"].as_str().unwrap().contains("not valid JSON"));
    let wrong = anyone
        .post(&hook, json!({"alerts": [{"status": "burning", "labels": {"a": "b"}}]}))
        .await
        .expect(400);
    assert_eq!(wrong["errors"][0]["pointer"], "/alerts/0/status");
    assert!(
        post("[".repeat(200).into_bytes()).await.expect(400)["detail"].as_str().unwrap().contains("deeper")
    );

    let failed = app.client.all("/api/v1/inbox?status=failed").await;
    assert_eq!(failed.len(), 3, "{failed:?}");
    assert!(failed.iter().all(|entry| entry["source"] == "alertmanager" && entry["reason"].is_string()));
    assert!(app.agent.all(INCIDENTS).await.is_empty());

    assert_eq!(anyone.post("/hooks/alertmanager/nobody", json!({})).await.status, 404);
    let planned = anyone.post("/hooks/zabbix/nobody", json!({})).await.expect(404);
    assert!(planned["detail"].as_str().unwrap().contains("does not exist yet"));
}

/// A payload of many groups is worked in parts: each is opened once, and others get their numbers in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_payload_of_many_groups_opens_all_of_them() {
    let app = App::start().await;
    let source = json!({"kind": "generic", "name": "storm"});
    let source = app.client.post("/api/v1/alert-sources", source).await.expect(201);
    let hook = format!("/hooks/generic/{}", source["token"].as_str().unwrap());
    let alerts: Vec<_> = (0..120)
        .map(|n| json!({"dedup_key": format!("k{n}"), "title": format!("disk {n} is full")}))
        .collect();
    let kept = app.client.with_token("").post(&hook, json!({ "alerts": alerts })).await.expect(202);
    let path = format!("/api/v1/inbox/{}", kept["inbox"].as_str().unwrap());
    let done = app.client.until(&path, |entry| entry["status"] != "pending").await;
    assert_eq!(done["status"], "processed", "{done}");
    assert!(done["ticket"].is_object() || done["ticket"].is_string(), "{done}");
    let incidents = app.agent.all("/api/v1/incidents").await;
    assert_eq!(incidents.len(), 120);
    let jobs = app.client.all("/api/v1/jobs?kind=ingest_alert").await;
    assert_eq!(jobs.len(), 3, "fifty groups a job");
}
