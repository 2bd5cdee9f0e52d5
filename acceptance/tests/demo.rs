//! Story: somebody tries Relaydesk with one command, stops it, and starts it again.

use std::os::unix::fs::PermissionsExt;
use testkit::Demo;

#[tokio::test(flavor = "multi_thread")]
async fn one_command_and_again_on_the_same_data() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path(), &[]).await;
    let file = folder.path().join("data/demo.json");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mails = folder.path().join("data/outbox");
    assert_eq!((mode(&file), mode(&mails)), (0o600, 0o700));
    for pointer in [
        "/api",
        "/smtp",
        "/organization",
        "/admin/email",
        "/admin/password",
        "/agent/email",
        "/token",
        "/hooks/alertmanager",
        "/mailboxes/0",
    ] {
        assert!(
            demo.facts.pointer(pointer).is_some_and(|value| value.is_string()),
            "demo.json lacks {pointer}: {}",
            demo.facts
        );
    }
    assert_eq!(demo.client.get("/livez").await.status, 200);
    assert_eq!(demo.client.get("/readyz").await.status, 200);
    let me = demo.client.get("/api/v1/users/me").await.expect(200);
    assert_eq!(me["role"], "admin");
    let login = serde_json::json!({"email": demo.facts["agent"]["email"], "password": demo.facts["agent"]["password"]});
    assert!(demo.client.post("/api/v1/auth/login", login).await.expect(200)["access"].is_string());

    let ticket = demo
        .client
        .post(
            "/api/v1/incidents",
            serde_json::json!({"title": "survives a restart", "impact": "low", "urgency": "low"}),
        )
        .await
        .expect(201);
    let token = demo.client.token.clone();
    assert_eq!(demo.process.terminate().await, Some(0));

    let demo = Demo::start(folder.path(), &[]).await;
    assert_eq!(demo.client.token, token, "the token stays");
    let path = format!("/api/v1/incidents/{}/", ticket["number"].as_str().unwrap());
    assert_eq!(demo.client.get(&path).await.expect(200)["title"], "survives a restart");
}

/// Starts a demo that is expected to end by itself, and answers what it said.
async fn failed_start(folder: &std::path::Path, http: &str, smtp: &str) -> String {
    let ended = tokio::process::Command::new(testkit::executable())
        .args(["demo", "--quiet", "--http", http, "--smtp", smtp, "--data-dir"])
        .arg(folder.join("data"))
        .output()
        .await
        .unwrap();
    assert!(!ended.status.success());
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_said_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    for (http, smtp) in [(&*taken, "127.0.0.1:0"), ("127.0.0.1:0", &*taken)] {
        let said = failed_start(folder.path(), http, smtp).await;
        assert!(said.contains(&taken), "{said}");
        assert!(!folder.path().join("data").exists());
    }
}

/// What is left when the first start ends between the making of the organization and the writing of `demo.json`.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_demo_is_completed_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path(), &[]).await;
    let counts = async |demo: &Demo| {
        let mut counts = Vec::new();
        for list in [
            "users",
            "teams",
            "mailboxes",
            "alert-sources",
            "notification-channels",
            "notification-rules",
            "escalation-chains",
            "business-calendars",
            "sla-policies",
            "report-schedules",
            "discovery-sources",
            "incidents",
        ] {
            counts.push((list, demo.client.all(&format!("/api/v1/{list}")).await.len()));
        }
        counts
    };
    let before = counts(&demo).await;
    let (old, hook) = (demo.client.token.clone(), demo.facts["hooks"]["generic"].clone());
    let rules = demo.client.all("/api/v1/notification-rules").await;
    let rule = format!("/api/v1/notification-rules/{}", rules[0]["id"].as_str().unwrap());
    demo.client.delete(&rule).await.expect(204);
    assert_eq!(demo.process.terminate().await, Some(0));
    std::fs::remove_file(folder.path().join("data/demo.json")).unwrap();

    let demo = Demo::start(folder.path(), &[]).await;
    assert_eq!(counts(&demo).await, before, "nothing twice, and what was missing is there");
    assert_ne!(demo.client.token, old);
    assert_eq!(demo.client.with_token(&old).get("/api/v1/users/me").await.status, 401);
    let login = serde_json::json!({"email": demo.facts["admin"]["email"], "password": demo.facts["admin"]["password"]});
    demo.client.post("/api/v1/auth/login", login).await.expect(200);
    assert_ne!(demo.facts["hooks"]["generic"], hook);
    for kind in ["alertmanager", "generic", "email"] {
        assert!(demo.facts["hooks"][kind].is_string(), "{}", demo.facts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_demo_on_the_same_folder_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let _demo = Demo::start(folder.path(), &[]).await;
    let data = folder.path().join("data");
    let second = tokio::process::Command::new(testkit::executable())
        .args(["demo", "--http", "127.0.0.1:0", "--smtp", "127.0.0.1:0", "--data-dir"])
        .arg(&data)
        .output()
        .await
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.lines().last().is_some_and(|line| line.contains("data")), "{said}");
}
