//! Story: somebody tries Relaydesk with one command, stops it, and starts it again.

use std::os::unix::fs::PermissionsExt;
use testkit::Demo;

#[tokio::test(flavor = "multi_thread")]
async fn one_command_and_again_on_the_same_data() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path(), &[]).await;
    let file = folder.path().join("data/demo.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
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
