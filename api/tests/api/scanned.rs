//! What came from outside leaves to nobody whom it could harm: with a real ClamAV daemon, and while that is away.

use crate::support::{Answer, Api, request};
use axum::body::Body;
use axum::http::{Method, header};
use connectors::clamd::Scanner;
use serde_json::{Value, json};
use testkit::{Clamd, has_clamd};

const INCIDENTS: &str = "/api/v1/incidents";
/// The test's scanner knows no other.
const VIRUS: &str = "a virus that does no harm to anybody";

async fn with(clamd: &Clamd) -> Api {
    let mut api = Api::start().await;
    api.state = api.state.with_scanner(Some(Scanner::new(clamd.address.parse().unwrap())));
    api.router = api::app(api.state.clone());
    api.post(INCIDENTS, &api.end_user, json!({"title": "see the file"})).await.expect(201);
    api
}

async fn upload(api: &Api, bytes: &[u8]) -> Value {
    let mut body =
        b"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"notes.txt\"\r\nContent-Type: text/plain\r\n\r\n"
            .to_vec();
    body.extend_from_slice(bytes);
    body.extend_from_slice(b"\r\n--XX--\r\n");
    let mut upload =
        request(Method::POST, &format!("{INCIDENTS}/INC0000001/attachments"), &api.end_user, None);
    upload.headers_mut().insert(header::CONTENT_TYPE, "multipart/form-data; boundary=XX".parse().unwrap());
    *upload.body_mut() = Body::from(body);
    api.send(upload).await.expect(201).json
}

async fn download(api: &Api, file: &Value) -> Answer {
    api.get(file["url"].as_str().unwrap(), &api.agent).await
}

fn kind(answer: &Answer) -> &str {
    answer.json["type"].as_str().unwrap().rsplit('/').next().unwrap()
}

/// A mail that came in, as it was kept; answers where its bytes are.
async fn mail(api: &Api, key: &str, raw: &str) -> String {
    let id: String = sqlx::query_scalar(
        "insert into inbox (id, organization_id, source, channel_id, unique_key, content_type, raw, headers, received_at)
         values (gen_random_uuid(), $1, 'mail', gen_random_uuid(), $2, 'message/rfc822', convert_to($3, 'UTF8'), '{}', now())
         returning id::text",
    )
    .bind(api.organization.id.0)
    .bind(key)
    .bind(raw)
    .fetch_one(&mut api.test_db.owner().await)
    .await
    .unwrap();
    format!("/api/v1/inbox/{id}/raw")
}

#[tokio::test]
async fn what_the_scanner_finds_is_kept_and_not_handed_out() {
    if !has_clamd() {
        return;
    }
    let clamd = Clamd::start(VIRUS).await;
    let api = with(&clamd).await;
    let secret = json!({"confidential": true, "assignee": api.organization.agent.user_id()});
    api.patch(&format!("{INCIDENTS}/INC0000001"), &api.agent, secret).await.expect(200);
    let good = upload(&api, b"nothing but words").await;
    let bad = upload(&api, format!("no program: {VIRUS}.").as_bytes()).await;
    assert_eq!((&good["scan"], &bad["scan"]), (&Value::Null, &Value::Null), "nobody has asked for them yet");

    assert_eq!(download(&api, &good).await.expect(200).text, "nothing but words");
    for _ in 0..2 {
        let refused = download(&api, &bad).await.expect(403);
        assert_eq!(kind(&refused), "infected-file");
        assert!(refused.text.contains("Test.Relaydesk") && !refused.text.contains(VIRUS), "{}", refused.text);
    }
    // Who has a copy is not told that it is as good as ever.
    let mut known = request(Method::GET, bad["url"].as_str().unwrap(), &api.end_user, None);
    known
        .headers_mut()
        .insert(header::IF_NONE_MATCH, format!("\"{}\"", bad["sha256"].as_str().unwrap()).parse().unwrap());
    api.send(known).await.expect(403);
    let head = request(Method::HEAD, bad["url"].as_str().unwrap(), &api.agent, None);
    api.send(head).await.expect(403);

    let files = api.get(&format!("{INCIDENTS}/INC0000001/attachments"), &api.end_user).await.expect(200).json;
    let scans: Vec<_> = files["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| (&file["scan"]["result"], &file["scan"]["found"]))
        .collect();
    let name = Value::from("Test.Relaydesk.UNOFFICIAL");
    assert_eq!(scans, [(&json!("clean"), &Value::Null), (&json!("infected"), &name)]);
    let again = upload(&api, format!("no program: {VIRUS}.").as_bytes()).await;
    // The same bytes under another name. That somebody else has them, who sends them is not told.
    assert_eq!(again["scan"], Value::Null);
    download(&api, &again).await.expect(403);

    // It is told once, without a word of what is in it, and nothing is lost.
    let told = api.events("file.infected").await;
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (&told[0]["sha256"], &told[0]["attachment"], &told[0]["found"]),
        (&bad["sha256"], &bad["id"], &name)
    );
    let hidden = "select t.is_confidential and e.is_confidential from events e join tickets t on t.id = e.ticket_id where e.kind = 'file.infected'";
    let log = api.get("/api/v1/compliance-logs?noun=file", &api.admin).await.expect(200).json;
    assert_eq!((log["items"].as_array().unwrap().len(), &log["items"][0]["verb"]), (1, &json!("infected")));
    assert_eq!(log["items"][0]["actor"]["user"], json!(api.organization.agent.user_id().unwrap()));
    let mut owner = api.test_db.owner().await;
    let hidden: Vec<bool> = sqlx::query_scalar(hidden).fetch_all(&mut owner).await.unwrap();
    assert_eq!(hidden, [true], "what concerns a confidential ticket is for who sees that");
    api.state.blobs.open(api.organization.id, bad["sha256"].as_str().unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_raw_mail_is_looked_into() {
    if !has_clamd() {
        return;
    }
    use base64::Engine;
    let clamd = Clamd::start(VIRUS).await;
    let api = with(&clamd).await;
    let packed = base64::engine::general_purpose::STANDARD.encode(format!("zip? no: {VIRUS}"));
    let infected = format!(
        "From: eve@evil.example\r\nTo: support@acme.example\r\nSubject: invoice\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/pdf; name=invoice.pdf\r\n\
         Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=invoice.pdf\r\n\r\n{packed}\r\n--b--\r\n"
    );
    let clean = "From: ada@acme.example\r\nSubject: hello\r\n\r\nIt burns.\r\n";
    let (bad, good) = (mail(&api, "bad", &infected).await, mail(&api, "good", clean).await);
    assert_eq!(kind(&api.get(&bad, &api.admin).await.expect(403)), "infected-file");
    assert_eq!(api.get(&good, &api.admin).await.expect(200).text, clean);
    // Who may not see it learns nothing of it, either.
    assert_eq!(kind(&api.get(&bad, &api.end_user).await.expect(403)), "forbidden");
    assert_eq!(api.events("file.infected").await.len(), 1);
}

#[tokio::test]
async fn while_nobody_can_say_nothing_leaves() {
    if !has_clamd() {
        return;
    }
    let mut clamd = Clamd::start(VIRUS).await;
    let api = with(&clamd).await;
    let (good, bad) = (upload(&api, b"nothing but words").await, upload(&api, VIRUS.as_bytes()).await);
    download(&api, &good).await.expect(200);
    download(&api, &bad).await.expect(403);
    let large = upload(&api, &vec![b'x'; 1_500_000]).await;
    let refused = download(&api, &large).await.expect(503);
    assert_eq!((kind(&refused), refused.header("retry-after")), ("unavailable", "30"));

    clamd.stop().await;
    let new = upload(&api, b"other words").await;
    let raw = mail(&api, "k", "Subject: hello\r\n\r\nhello").await;
    for answer in [download(&api, &new).await, api.get(&raw, &api.admin).await] {
        let answer = answer.expect(503);
        assert_eq!((kind(&answer), answer.header("retry-after")), ("unavailable", "30"));
    }
    // A verdict of today stands; one of yesterday does not.
    download(&api, &good).await.expect(200);
    download(&api, &bad).await.expect(403);
    let yesterday = "update file_scans set scanned_at = scanned_at - interval '24 hours'";
    sqlx::query(yesterday).execute(&mut api.test_db.owner().await).await.unwrap();
    download(&api, &good).await.expect(503);
    download(&api, &bad).await.expect(503);

    // With other signatures it is back, and what it says now counts.
    clamd.start_again("words").await;
    assert_eq!(kind(&download(&api, &good).await.expect(403)), "infected-file");
    assert_eq!(download(&api, &bad).await.expect(200).text, VIRUS);
    assert_eq!(api.events("file.infected").await.len(), 2);
}
