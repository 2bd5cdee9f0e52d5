//! The harness itself.

use std::time::Duration;
use testkit::sinks::{Answer, HttpSink, SmtpSink};

#[tokio::test]
async fn every_test_has_a_database_of_its_own_and_no_rights_beyond_it() {
    let (one, two) = tokio::join!(testkit::database(), testkit::database());
    assert_ne!(one.name, two.name);
    let acme = testkit::organization(&one, "acme").await;
    let other = testkit::organization(&one, "other").await;

    let mut tx = one.db.begin(acme.id).await.unwrap();
    let seen: Vec<String> =
        sqlx::query_scalar("select slug from organizations").fetch_all(&mut *tx).await.unwrap();
    assert_eq!(seen, ["acme"]);
    let user: String = sqlx::query_scalar("select current_user::text").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(user, "relaydesk_app");
    drop(tx);
    let mut tx = one.db.begin(other.id).await.unwrap();
    let people: i64 = sqlx::query_scalar("select count(*) from users").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(people, 3);

    let elsewhere: i64 = sqlx::query_scalar("select count(*) from organizations")
        .fetch_one(&mut two.owner().await)
        .await
        .unwrap();
    assert_eq!(elsewhere, 0);
}

#[tokio::test]
async fn the_http_sink_answers_as_scripted_and_records() {
    let sink = HttpSink::start().await;
    sink.script([Answer::status(429).header("retry-after", 1), Answer::status(500)]);
    let client = testkit::http_client();
    let mut answers = Vec::new();
    for i in 0..3 {
        let sent = client
            .post(sink.url("/services/x?y=1"))
            .json(&serde_json::json!({ "i": i }))
            .send()
            .await
            .unwrap();
        answers.push(sent.status().as_u16());
    }
    assert_eq!(answers, [429, 500, 200]);
    let requests = sink.wait_for(3, Duration::from_secs(1)).await;
    assert_eq!(requests[2].json()["i"], 2);
    assert_eq!(requests[0].uri.path(), "/services/x");
}

#[tokio::test]
async fn the_smtp_sink_keeps_the_bytes() {
    use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
    let sink = SmtpSink::start().await;
    sink.refuse(["451 4.3.0 later"]);
    let mail = Message::builder()
        .from("a@example.org".parse().unwrap())
        .to("b@example.org".parse().unwrap())
        .subject("grüße")
        .body("one\r\n.dot at the start\r\n".to_owned())
        .unwrap();
    let transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1")
        .port(sink.address().port())
        .build();
    assert!(transport.send(mail.clone()).await.unwrap_err().is_transient());
    transport.send(mail).await.unwrap();
    let mails = sink.wait_for(1, Duration::from_secs(1)).await;
    assert_eq!(
        (mails[0].from.as_str(), mails[0].to.as_slice()),
        ("a@example.org", &["b@example.org".to_owned()][..])
    );
    assert!(mails[0].text().contains("\r\n.dot at the start\r\n"), "{}", mails[0].text());
    assert_eq!(mails[0].header("subject").as_deref(), Some("=?utf-8?b?Z3LDvMOfZQ==?="));
}
