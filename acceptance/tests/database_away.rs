//! Story: the database is away for a while. Whoever brings something is told to come again, in the words of its protocol,
//! and is served as before once the database is back; nobody restarts Relaydesk.

use reqwest::Method;
use serde_json::{Value, json};
use testkit::{Answer, App, Client, Server, SmtpClient};

const INCIDENTS: &str = "/api/v1/incidents";
const SUPPORT: &str = "support@acme.example";

/// Its path, media type and body.
type Knock = (String, &'static str, String);

async fn hooks(app: &App) -> [Knock; 3] {
    let mut sources = Vec::new();
    for kind in ["alertmanager", "generic"] {
        let body = json!({"kind": kind, "name": kind});
        let source = app.client.post("/api/v1/alert-sources", body).await.expect(201);
        sources.push(format!("/hooks/{kind}/{}", source["token"].as_str().unwrap()));
    }
    let mailbox = json!({"address": SUPPORT, "name": "Acme IT"});
    let mailbox = app.client.post("/api/v1/mailboxes", mailbox).await.expect(201);
    let labels = json!({"alertname": "DiskFull", "severity": "critical"});
    let alertmanager = json!({
        "version": "4", "groupKey": "{}:{alertname=\"DiskFull\"}", "status": "firing", "receiver": "relaydesk",
        "groupLabels": {}, "commonLabels": labels, "commonAnnotations": {"summary": "by alertmanager"},
        "alerts": [{"status": "firing", "labels": labels, "annotations": {"summary": "by alertmanager"},
            "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z", "fingerprint": "f"}],
    });
    let generic = json!({"dedup_key": "backup", "title": "by generic"});
    let mail = "From: Eve <eve@kunde.example>\nSubject: by the mail hook\nMessage-ID: <hook@kunde.example>\n\nhello\n";
    [
        (sources[0].clone(), "application/json", alertmanager.to_string()),
        (sources[1].clone(), "application/json", generic.to_string()),
        (format!("/hooks/email/{}", mailbox["hook_token"].as_str().unwrap()), "message/rfc822", mail.into()),
    ]
}

async fn knock(anyone: &Client, (path, media_type, body): &Knock) -> Answer {
    let request = anyone.request(Method::POST, path).header("content-type", *media_type);
    anyone.send(request.body(body.clone())).await
}

fn message(name: &str) -> String {
    format!(
        "From: {name}@kunde.example\r\nTo: {SUPPORT}\r\nSubject: by {name}\r\nMessage-ID: <{name}@kunde.example>\r\n\r\nhello"
    )
}

fn is_told_to_come_again(answer: Answer) {
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{answer:?}");
    let wait: u32 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let problem = answer.expect(503);
    assert_eq!(problem["status"], 503);
    assert!(problem["detail"].as_str().unwrap().contains("database"), "{problem}");
}

/// One incident for each of these, and no other: what was refused left nothing.
async fn opened(app: &App, titles: &[&str]) {
    let all = |page: &Value| page["items"].as_array().unwrap().len() >= titles.len();
    app.agent.until(INCIDENTS, all).await;
    app.client.until("/api/v1/inbox?status=pending", |page| page["items"] == json!([])).await;
    let incidents = app.agent.all(INCIDENTS).await;
    let mut found: Vec<&str> = incidents.iter().map(|one| one["title"].as_str().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, titles);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_and_smtp_say_come_again_and_go_on_by_themselves() {
    let mut server = Server::start().await;
    let mut app = App::start_on(server.database().await, &[]).await;
    let hooks = hooks(&app).await;
    let anyone = app.client.with_token("");
    // One session is half-way through its mail when it happens.
    let mut under_way = SmtpClient::connect(app.smtp).await.unwrap();
    for command in ["MAIL FROM:<early@kunde.example>", &format!("RCPT TO:<{SUPPORT}>")] {
        let reply = under_way.say(command).await.unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    }
    assert_eq!(anyone.get("/readyz").await.status, 200);

    server.go_away().await;
    for hook in &hooks {
        is_told_to_come_again(knock(&anyone, hook).await);
    }
    assert!(under_way.say("DATA").await.unwrap().starts_with("354"));
    let reply = under_way.say(&format!("{}\r\n.", message("early"))).await.unwrap();
    assert!(reply.starts_with("451 4.3"), "{reply}");
    let mut late = SmtpClient::connect(app.smtp).await.unwrap();
    let reply = late.send("late@kunde.example", SUPPORT, &message("late")).await.unwrap();
    assert!(reply.starts_with("451 4.3"), "{reply}");
    // It lives, and does not hide its state.
    assert_eq!(anyone.get("/livez").await.status, 200);
    assert_eq!(anyone.get("/readyz").await.status, 503);
    let listed = app.agent.get(INCIDENTS).await;
    assert!(listed.headers.contains_key("retry-after"));
    listed.expect(503);

    server.come_back().await;
    for hook in &hooks {
        knock(&anyone, hook).await.expect(202);
    }
    for (session, name) in [(&mut under_way, "early"), (&mut late, "late")] {
        let from = format!("{name}@kunde.example");
        let reply = session.send(&from, SUPPORT, &message(name)).await.unwrap();
        assert!(reply.starts_with("250"), "{reply}");
    }
    assert_eq!(anyone.get("/readyz").await.status, 200);
    opened(&app, &["by alertmanager", "by early", "by generic", "by late", "by the mail hook"]).await;
    assert!(app.process.is_running(), "and it is the same process");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_is_away_too() {
    let server = Server::start().await;
    let mut app = App::start_on(server.database().await, &[]).await;
    let hooks = hooks(&app).await;
    let anyone = app.client.with_token("");
    let mut session = SmtpClient::connect(app.smtp).await.unwrap();

    server.freeze();
    let asked: Vec<_> = hooks
        .iter()
        .map(|hook| {
            let (anyone, hook) = (anyone.clone(), hook.clone());
            tokio::spawn(async move { knock(&anyone, &hook).await })
        })
        .collect();
    let reply = session.send("ada@kunde.example", SUPPORT, &message("ada")).await.unwrap();
    assert!(reply.starts_with("451 4.3"), "{reply}");
    for answer in asked {
        is_told_to_come_again(answer.await.unwrap());
    }
    assert_eq!(anyone.get("/livez").await.status, 200);
    assert_eq!(anyone.get("/readyz").await.status, 503);

    server.thaw();
    for hook in &hooks {
        knock(&anyone, hook).await.expect(202);
    }
    let reply = session.send("ada@kunde.example", SUPPORT, &message("ada")).await.unwrap();
    assert!(reply.starts_with("250"), "{reply}");
    opened(&app, &["by ada", "by alertmanager", "by generic", "by the mail hook"]).await;
    assert!(app.process.is_running());
}
