//! Story: hooks come in by way of RabbitMQ. While the database is away they are taken all the same, while the broker is away the
//! database takes them, and only when both are away the sender is told to come again. Nothing is lost and nothing comes twice.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, App, BrokerNode, Client, Server};

const LANES: &str =
    "ingest=4@rabbitmq,react=4,timers=2,outbound=2,mail=2,reports=1,discovery=1,maintenance=1";
const INCIDENTS: &str = "/api/v1/incidents";
const INBOX: &str = "/api/v1/inbox";

async fn source(app: &App, kind: &str, name: &str) -> (String, Value) {
    let source = json!({"kind": kind, "name": name});
    let source = app.client.post("/api/v1/alert-sources", source).await.expect(201);
    (format!("/hooks/{kind}/{}", source["token"].as_str().unwrap()), source)
}

/// A broker and a database server that can go away, and Relaydesk between them.
async fn house(lanes: &str) -> Option<(BrokerNode, Server, App)> {
    if !testkit::has_broker() {
        return None;
    }
    let node = BrokerNode::start().await?;
    let names = node.names();
    let server = Server::start().await;
    let env = [
        ("RELAYDESK_LANES", lanes),
        ("AMQP_URL", names.url.as_str()),
        ("RELAYDESK_AMQP_PREFIX", names.prefix.as_str()),
    ];
    let app = App::start_on(server.database().await, &env).await;
    Some((node, server, app))
}

async fn knock(anyone: &Client, path: &str, body: String) -> Answer {
    anyone.send(anyone.request(Method::POST, path).body(body)).await
}

fn alert(key: &str, status: &str) -> String {
    json!({"dedup_key": key, "title": format!("{key} is broken"), "status": status}).to_string()
}

async fn titles(app: &App) -> Vec<String> {
    let incidents = app.agent.all(INCIDENTS).await;
    let mut titles: Vec<String> =
        incidents.iter().map(|one| one["title"].as_str().unwrap().to_owned()).collect();
    titles.sort();
    titles
}

async fn until_worked(app: &App, rows: usize) {
    app.client
        .until(INBOX, |page| {
            let items = page["items"].as_array().unwrap();
            items.len() == rows && items.iter().all(|item| item["status"] != "pending")
        })
        .await;
}

/// Until the broker takes hooks: it is told of it by the metric.
async fn until_open(app: &App) {
    let begun = std::time::Instant::now();
    let anyone = app.client.with_token("");
    loop {
        let metrics = String::from_utf8(anyone.get("/metrics").await.bytes).unwrap();
        if metrics.contains("relaydesk_amqp_connected{purpose=\"hooks_in\"} 1") {
            return;
        }
        assert!(begun.elapsed().as_secs() < 30, "{metrics}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_are_taken_while_one_of_both_is_there() {
    let Some((node, mut server, mut app)) = house(LANES).await else { return };
    let (hook, _) = source(&app, "generic", "known").await;
    let (fresh, _) = source(&app, "generic", "not asked for yet").await;
    let mailbox = json!({"address": "support@acme.example", "name": "Acme IT"});
    let mailbox = app.client.post("/api/v1/mailboxes", mailbox).await.expect(201);
    let mail_hook = format!("/hooks/email/{}", mailbox["hook_token"].as_str().unwrap());
    let anyone = app.client.with_token("");
    until_open(&app).await;

    // Both are there: the answer names the row and the job.
    let kept = knock(&anyone, &hook, alert("disk", "problem")).await.expect(202);
    let row = app.client.until(INBOX, |page| page["items"][0]["status"] == "processed").await;
    assert_eq!(row["items"][0]["id"], kept["inbox"]);
    assert!(kept["job"].is_string());
    knock(&anyone, "/hooks/generic/rda_nobody", alert("x", "problem")).await.expect(404);
    let bad = knock(&anyone, &hook, "{\"title\"".into()).await.expect(400);
    assert!(bad["detail"].as_str().unwrap().contains("kept in the inbox"), "{bad}");
    let failed = app.client.until("/api/v1/inbox?status=failed", |page| page["items"] != json!([])).await;
    assert_eq!(failed["items"][0]["size_bytes"], 8, "{failed}");
    let mail = "From: Eve <eve@kunde.example>\nSubject: by mail\nMessage-ID: <1@kunde.example>\n\nhello\n";
    knock(&anyone, &mail_hook, mail.into()).await.expect(202);
    knock(&anyone, &mail_hook, mail.into()).await.expect(202);
    until_worked(&app, 3).await;
    assert_eq!(titles(&app).await, ["by mail", "disk is broken"]);

    // The database is away: what is known is taken, and so is what may be known, but no stranger's book.
    server.go_away().await;
    assert_eq!(anyone.get("/readyz").await.status, 200, "hooks are taken still");
    knock(&anyone, &hook, alert("fan", "problem")).await.expect(202);
    knock(&anyone, &fresh, alert("psu", "problem")).await.expect(202);
    let stranger = format!("/hooks/generic/rda_{}", "x".repeat(43));
    knock(&anyone, &stranger, alert("stranger", "problem")).await.expect(202);
    let large =
        json!({"dedup_key": "large", "title": "large", "description": "x".repeat(3 << 20)}).to_string();
    let answer = knock(&anyone, &stranger, large.clone()).await;
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    answer.expect(503);
    knock(&anyone, &hook, large).await.expect(202);
    knock(&anyone, &hook, "{".into()).await.expect(400);
    knock(&anyone, &mail_hook, mail.replace("<1@", "<2@").replace("by mail", "another mail"))
        .await
        .expect(202);
    app.agent.get(INCIDENTS).await.expect(503);

    // And then the process is killed. What was confirmed is there.
    app.kill().await;
    server.come_back().await;
    app.start_again().await;
    until_worked(&app, 8).await;
    let all = ["another mail", "by mail", "disk is broken", "fan is broken", "large", "psu is broken"];
    assert_eq!(titles(&app).await, all);

    // The broker is away: the database takes it, as without one.
    let anyone = app.client.with_token("");
    until_open(&app).await;
    node.kill().await;
    knock(&anyone, &hook, alert("nic", "problem")).await.expect(202);
    // Both are away.
    server.go_away().await;
    let answer = knock(&anyone, &hook, alert("cpu", "problem")).await;
    assert!(answer.headers.contains_key("retry-after"), "{answer:?}");
    answer.expect(503);
    server.come_back().await;
    node.start_again().await;
    app.agent.until(INCIDENTS, |page| page["items"][0]["title"] == "nic is broken").await;
    assert_eq!(titles(&app).await.len(), all.len() + 1);
    let doctor = app.run(&["doctor"]).await;
    let doctor = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(doctor.contains("ok    hooks in the broker: 0 wait, none are dead"), "{doctor}");
    assert_eq!(app.process.terminate().await, Some(0));
}

/// The firing lies in the broker while the resolve, which came later, takes the way by the database and is worked first.
#[tokio::test(flavor = "multi_thread")]
async fn a_resolve_that_overtakes_its_firing_leaves_nothing_open() {
    // Nobody of this installation takes anything out of the broker until the worker comes.
    let Some((node, mut server, mut app)) = house("ingest=4@rabbitmq").await else { return };
    let (hook, _) = source(&app, "generic", "backups").await;
    until_open(&app).await;
    let anyone = app.client.with_token("");
    knock(&anyone, &hook, alert("first", "problem")).await.expect(202);
    app.agent.until(INCIDENTS, |page| page["items"].as_array().unwrap().len() == 1).await;
    server.go_away().await;
    knock(&anyone, &hook, alert("disk", "problem")).await.expect(202);
    app.kill().await;
    node.stop().await;
    server.come_back().await;
    app.start_again().await;
    let anyone = app.client.with_token("");
    let resolve = knock(&anyone, &hook, alert("disk", "resolved")).await.expect(202);
    let row = format!("{INBOX}/{}", resolve["inbox"].as_str().unwrap());
    // The lane is on RabbitMQ too, so the resolve is worked when the broker is back, with the firing or before it.
    node.start_again().await;
    app.client.until(&row, |row| row["status"] == "ignored" || row["status"] == "processed").await;
    until_worked(&app, 3).await;
    let alerts = app.agent.all("/api/v1/alerts?status=firing").await;
    assert_eq!(alerts.len(), 1, "only the first fires: {alerts:?}");
    let open: Vec<Value> = app.agent.all(INCIDENTS).await;
    let open = open.iter().filter(|one| one["status"] != "resolved" && one["title"] == "disk is broken");
    assert_eq!(open.count(), 0);
    assert_eq!(app.process.terminate().await, Some(0));
}
