//! Story: an operator puts all lanes on RabbitMQ, over TLS. While the broker is away Relaydesk starts, is ready and takes
//! tickets; when the broker comes, what waited is done.

use std::path::Path;
use std::time::{Duration, Instant};
use testkit::{App, BrokerNode};
use tokio::process::Command;

const LANES: &str = "ingest=4@rabbitmq,react=4@rabbitmq,timers=2@rabbitmq,outbound=4@rabbitmq,mail=2@rabbitmq,\
                     reports=1@rabbitmq,discovery=1@rabbitmq,maintenance=1@rabbitmq";

/// An authority of our own, and a certificate for `localhost`.
async fn certificates(folder: &Path) {
    let key =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let authority = ["-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"];
    let server = [
        "-subj",
        "/CN=localhost",
        "-keyout",
        "server.key",
        "-out",
        "server.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
    ];
    let names = ["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"];
    for more in [authority.to_vec(), [server.as_slice(), &names].concat()] {
        let made = Command::new("openssl").args(key).args(more).current_dir(folder).output().await.unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_a_broker_that_is_away_and_nothing_else_does() {
    if !testkit::has_broker() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path()).await;
    let port = testkit::free_port();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let settings = vec![
        format!("listeners.ssl.1 = 127.0.0.1:{port}"),
        format!("ssl_options.cacertfile = {}", file("ca.pem")),
        format!("ssl_options.certfile = {}", file("server.pem")),
        format!("ssl_options.keyfile = {}", file("server.key")),
    ];
    let Some(node) = BrokerNode::start_with(settings).await else { return };
    let url = node.names().url;
    let (credentials, _) = url.trim_start_matches("amqp://").split_once('@').unwrap();
    let url = format!("amqps://{credentials}@localhost:{port}/relaydesk?heartbeat=2");
    node.stop().await;

    let authority = file("ca.pem");
    let app =
        App::start_with(&[("RELAYDESK_LANES", LANES), ("AMQP_URL", &url), ("SSL_CERT_FILE", &authority)])
            .await;
    assert_eq!(app.client.get("/readyz").await.status, 200);
    for n in 0..5 {
        let incident =
            serde_json::json!({"title": format!("printer {n}"), "impact": "low", "urgency": "low"});
        app.client.post("/api/v1/incidents", incident).await.expect(201);
    }
    let lanes = app.client.get("/api/v1/lanes").await.expect(200);
    let waiting = |lanes: &serde_json::Value| -> i64 {
        lanes["items"].as_array().unwrap().iter().map(|lane| lane["ready"].as_i64().unwrap()).sum()
    };
    assert!(waiting(&lanes) >= 5, "{lanes}");
    let shown = app.run(&["lanes", "list"]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("rabbitmq (away)"), "{shown}");
    assert_eq!(app.client.get("/readyz").await.status, 200, "the broker is not needed to take tickets");

    node.start_again().await;
    let lanes = app.client.until("/api/v1/lanes", |lanes| waiting(lanes) == 0).await;
    assert_eq!(lanes["items"][0]["transport"], "rabbitmq");
    app.client.until("/api/v1/lanes", |lanes| lanes["items"][0]["broker"] == "connected").await;
    // Whoever is still at it is waiting no more.
    let done = "select count(*) from queue.history where outcome = 'done' and lane = 'react'";
    let (begun, mut found) = (Instant::now(), 0i64);
    while found < 5 {
        assert!(begun.elapsed() < Duration::from_secs(30), "{found} jobs of the lane react are done");
        tokio::time::sleep(Duration::from_millis(20)).await;
        found = sqlx::query_scalar(done).fetch_one(&mut app.db.owner().await).await.unwrap();
    }
    let metrics = String::from_utf8(app.client.get("/metrics").await.bytes).unwrap();
    assert!(metrics.contains("relaydesk_amqp_connected{purpose=\"publishing\"} 1"), "{metrics}");
    assert_eq!(app.process.terminate().await, Some(0));
}
