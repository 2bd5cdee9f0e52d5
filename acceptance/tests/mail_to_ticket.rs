//! Story: somebody writes a mail. A real SMTP client sends it, an incident is there with its attachment, the answer to
//! the receipt is a comment; programs and garbage open nothing, and nothing is lost.

use lettre::address::Envelope;
use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, MultiPart};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::App;

const SUPPORT: &str = "support@acme.example";
const INBOX: &str = "/api/v1/inbox";
const INCIDENTS: &str = "/api/v1/incidents";

async fn with_mailbox() -> (App, Value) {
    let app = App::start().await;
    let mailbox = json!({"address": "Support@Acme.example", "name": "Acme IT"});
    let mailbox = app.client.post("/api/v1/mailboxes", mailbox).await.expect(201);
    assert_eq!(mailbox["address"], SUPPORT);
    (app, mailbox)
}

async fn send(app: &App, mail_from: &str, to: &[&str], raw: &[u8]) -> Result<(), String> {
    let from = (!mail_from.is_empty()).then(|| mail_from.parse().unwrap());
    let envelope = Envelope::new(from, to.iter().map(|to| to.parse().unwrap()).collect()).unwrap();
    AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(app.smtp.ip().to_string())
        .port(app.smtp.port())
        .build()
        .send_raw(&envelope, raw)
        .await
        .map(drop)
        .map_err(|error| format!("{error:?}"))
}

/// The newest inbox row once its job has ended, when there are `count` rows.
async fn worked(app: &App, count: usize) -> Value {
    let done = |page: &Value| {
        let items = page["items"].as_array().unwrap();
        items.len() == count && items.iter().all(|item| item["status"] != "pending")
    };
    app.client.until(INBOX, done).await["items"][0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_an_incident_within_two_seconds() {
    let (app, _) = with_mailbox().await;
    let pdf: Vec<u8> = b"%PDF-1.7\n".iter().copied().chain((0..=255u8).cycle().take(60_000)).collect();
    let mail = Message::builder()
        .from("Jürgen Müller <juergen@kunde.example>".parse::<Mailbox>().unwrap())
        .to(SUPPORT.parse().unwrap())
        .subject("Drucker im 3. Stock – brennt")
        .message_id(Some("<one@kunde.example>".into()))
        .multipart(
            MultiPart::mixed()
                .multipart(MultiPart::alternative_plain_html(
                    "Schöne Grüße aus Köln".to_owned(),
                    "<p>Schöne <b>Grüße</b> aus Köln<script>alert(1)</script></p>".to_owned(),
                ))
                .singlepart(
                    Attachment::new("Übersicht.pdf".into())
                        .body(pdf.clone(), ContentType::parse("application/pdf").unwrap()),
                ),
        )
        .unwrap()
        .formatted();
    let started = Instant::now();
    send(&app, "juergen@kunde.example", &[SUPPORT], &mail).await.unwrap();
    let page = app.client.until(INCIDENTS, |page| page["items"] != json!([])).await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let incident = &page["items"][0];
    assert_eq!(incident["title"], "Drucker im 3. Stock – brennt");
    assert_eq!(incident["requester_email"], "juergen@kunde.example");
    let path = format!("{INCIDENTS}/{}", incident["number"].as_str().unwrap());
    let shown = app.client.get(&path).await.expect(200);
    assert!(shown["description"].as_str().unwrap().contains("Schöne Grüße aus Köln"));
    assert_eq!(shown["source"], "email");
    let files = app.client.all(&format!("{path}/attachments")).await;
    assert_eq!((files.len(), &files[0]["file_name"]), (1, &json!("Übersicht.pdf")));
    let id = files[0]["id"].as_str().unwrap();
    assert_eq!(app.client.get(&format!("{path}/attachments/{id}")).await.bytes, pdf);

    // The receipt, and the answer to it.
    let receipt = app.outbox.wait_for(1, Duration::from_secs(10)).await.remove(0);
    assert_eq!(receipt.to, ["juergen@kunde.example"]);
    assert_eq!(
        (receipt.from.as_str(), receipt.header("Auto-Submitted").as_deref()),
        ("", Some("auto-replied"))
    );
    assert_eq!(receipt.header("In-Reply-To").as_deref(), Some("<one@kunde.example>"));
    assert!(receipt.header("Subject").unwrap().contains(incident["number"].as_str().unwrap()));
    let threads = receipt.header("Message-ID").unwrap();
    let answer = format!(
        "From: juergen@kunde.example\r\nSubject: Re\r\nMessage-ID: <two@kunde.example>\r\nIn-Reply-To: {threads}\r\n\r\nImmer noch.\r\n\r\nOn Monday, Acme IT wrote:\r\n> -- Please write your answer above this line --\r\n"
    );
    send(&app, "juergen@kunde.example", &[SUPPORT], answer.as_bytes()).await.unwrap();
    let comments = app.client.until(&format!("{path}/comments"), |page| page["items"] != json!([])).await;
    assert_eq!(comments["items"][0]["body"], "Immer noch.");
    assert_eq!(comments["items"][0]["visibility"], "public");

    // The same mail again, over SMTP and through the command: one.
    send(&app, "juergen@kunde.example", &[SUPPORT], &mail).await.unwrap();
    let file = app.folder.path().join("again.eml");
    std::fs::write(&file, &mail).unwrap();
    let run = app.run(&["mail", "ingest", "--mailbox", SUPPORT, file.to_str().unwrap()]).await;
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    worked(&app, 2).await;
    assert_eq!(app.client.all(INCIDENTS).await.len(), 1);

    // Out of office: kept, about the incident, opens nothing, is not answered.
    let away = format!(
        "From: juergen@kunde.example\r\nSubject: Automatische Antwort\r\nMessage-ID: <away@kunde.example>\r\nIn-Reply-To: {threads}\r\nAuto-Submitted: auto-replied\r\n\r\nIch bin nicht da.\r\n"
    );
    send(&app, "", &[SUPPORT], away.as_bytes()).await.unwrap();
    let kept = worked(&app, 3).await;
    assert_eq!((&kept["status"], &kept["ticket"]), (&json!("ignored"), &incident["id"]));
    assert!(kept["reason"].as_str().unwrap().contains("automatic reply"));
    assert_eq!(app.client.all(INCIDENTS).await.len(), 1);
    assert_eq!(app.client.all(&format!("{path}/comments")).await.len(), 1);

    // An agent answers in public: the requester gets it, in the same thread.
    app.agent.post(&format!("{path}/add_comment"), json!({"body": "Bitte ausschalten."})).await.expect(201);
    let mails = app.outbox.wait_for(2, Duration::from_secs(10)).await;
    assert_eq!(mails.len(), 2, "one receipt, one answer");
    assert_eq!(mails[1].to, ["juergen@kunde.example"]);
    assert!(mails[1].header("References").unwrap().contains("<one@kunde.example>"));
    assert_eq!(mails[1].header("In-Reply-To").as_deref(), Some("<two@kunde.example>"));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_kept_and_can_be_replayed() {
    let (app, mailbox) = with_mailbox().await;
    send(&app, "ada@kunde.example", &[SUPPORT], b"\x00\xff\xfe garbage").await.unwrap();
    let kept = worked(&app, 1).await;
    assert_eq!(kept["status"], "failed");
    assert!(kept["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    let path = format!("{INBOX}/{}", kept["id"].as_str().unwrap());
    let raw = app.client.get(&format!("{path}/raw")).await;
    assert!(raw.bytes.windows(7).any(|bytes| bytes == b"garbage"));
    let replayed = app.client.post(&format!("{path}/replay"), json!({})).await.expect(202);
    let job = app
        .client
        .until(&format!("/api/v1/jobs/{}", replayed["job"].as_str().unwrap()), |job| {
            job["state"] != "ready" && job["state"] != "running"
        })
        .await;
    assert_ne!(job["state"], "dead", "{job}");
    let again = app.client.until(&path, |entry| entry["status"] == "failed" && entry["replays"] == 1).await;
    assert_eq!(again["reason"], kept["reason"]);
    app.end_user.get(INBOX).await.expect(403);
    app.end_user.post(&format!("{path}/replay"), json!({})).await.expect(403);

    // Who is not here gets 550 and leaves nothing.
    let refused = send(&app, "ada@kunde.example", &["nobody@acme.example"], b"From: a@b.example\r\n\r\nx")
        .await
        .unwrap_err();
    assert!(refused.contains("no such mailbox"), "{refused}");

    // The hook takes raw messages.
    let url = mailbox["hook_url"].as_str().unwrap();
    let token = mailbox["hook_token"].as_str().unwrap();
    assert!(url.ends_with(&format!("/hooks/email/{token}")));
    let hook = async |token: &str, body: &'static str| {
        let request = app.client.request(Method::POST, &format!("/hooks/email/{token}"));
        app.client.send(request.header("content-type", "message/rfc822").body(body)).await
    };
    let mail = "From: Eve <eve@kunde.example>\nSubject: through the hook\n\nhello\n";
    assert_eq!(hook(token, mail).await.expect(202)["duplicate"], false);
    assert_eq!(hook(token, mail).await.expect(202)["duplicate"], true);
    hook(token, "  ").await.expect(400);
    hook("wrong", mail).await.expect(404);
    let page = app.client.until(INCIDENTS, |page| page["items"] != json!([])).await;
    assert_eq!(page["items"][0]["title"], "through the hook");
    let metrics = app.client.get("/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.bytes);
    assert!(metrics.contains("relaydesk_mail_ingest_total{outcome=\"opened\"} 1"), "{metrics}");
    assert!(metrics.contains("relaydesk_mailbox_last_success_timestamp_seconds 1"), "{metrics}");
    // What became a ticket is not worked twice.
    let done = app.client.get(&format!("{INBOX}?status=processed")).await.expect(200);
    let id = done["items"][0]["id"].as_str().unwrap();
    app.client.post(&format!("{INBOX}/{id}/replay"), json!({})).await.expect(409);
    // A switched-off mailbox takes nothing more.
    let change = json!({"is_active": false});
    app.client
        .patch(&format!("/api/v1/mailboxes/{}", mailbox["id"].as_str().unwrap()), change)
        .await
        .expect(200);
    assert!(send(&app, "ada@kunde.example", &[SUPPORT], b"From: a@b.example\r\n\r\nx").await.is_err());
    let taken = app.run(&["mail", "ingest", "--mailbox", "nobody@acme.example", "/dev/null"]).await;
    assert_eq!(taken.status.code(), Some(75));
}
