use super::*;
use crate::mail::parse;
use proptest::prelude::*;

fn mail() -> Outgoing {
    Outgoing {
        from: "support@desk.example".parse().unwrap(),
        from_name: "Müller, IT".into(),
        to: "ada@example.org".parse().unwrap(),
        to_name: Some("Ada \"the\" <Countess>".into()),
        subject: "Re: Drucker im 3. Stock – brennt [INC0000123]".into(),
        text: "Grüße\n.\nEnde".into(),
        html: Some("<p>Grüße</p>".into()),
        message_id: "relaydesk.1@desk.example".into(),
        in_reply_to: Some("<b@example.org>".into()),
        references: vec!["<a@example.org>".into(), "<b@example.org>".into(), "not an id\r\nBcc: x".into()],
        auto_submitted: Some("auto-replied".into()),
        loop_mark: Some("0190".into()),
        date: DateTime::UNIX_EPOCH,
        files: vec![File {
            name: "report ü.csv".into(),
            media_type: "text/csv".into(),
            bytes: b"a;b\r\n1;\xfc\n".to_vec(),
        }],
    }
}

#[test]
fn our_own_parser_reads_it_back() {
    let message = build(&mail()).unwrap();
    assert_eq!(message.envelope().from(), None);
    let read = parse(&message.formatted()).unwrap();
    assert_eq!(read.message_id.as_deref(), Some("relaydesk.1@desk.example"));
    assert_eq!(read.in_reply_to, ["b@example.org"]);
    assert_eq!(read.references, ["a@example.org", "b@example.org"]);
    assert_eq!(read.subject, mail().subject);
    assert_eq!(read.from.name, "Müller, IT");
    assert_eq!(read.text.trim(), "Grüße\n.\nEnde");
    assert_eq!(read.header("auto-submitted"), Some("auto-replied"));
    assert_eq!(read.header("x-auto-response-suppress"), Some("All"));
    assert_eq!(read.header("x-relaydesk-loop"), Some("0190"));
    assert_eq!(read.header("date"), Some("Thu, 01 Jan 1970 00:00:00 +0000"));
    assert_eq!(read.attachments.len(), 1);
    assert_eq!(read.attachments[0].file_name, "report ü.csv");
    assert_eq!(read.attachments[0].bytes, mail().files[0].bytes);
}

#[test]
fn a_persons_words_have_a_sender_and_no_marks() {
    let message = build(&Outgoing { auto_submitted: None, html: None, files: vec![], ..mail() }).unwrap();
    assert_eq!(message.envelope().from().map(ToString::to_string).as_deref(), Some("support@desk.example"));
    let read = parse(&message.formatted()).unwrap();
    assert_eq!(read.header("auto-submitted"), None);
    assert_eq!(read.html, None);
}

#[test]
fn many_references_keep_the_first_and_the_newest() {
    let references: Vec<String> = (0..100).map(|i| format!("<{i}@x>")).collect();
    let read =
        parse(&build(&Outgoing { references, in_reply_to: None, ..mail() }).unwrap().formatted()).unwrap();
    assert_eq!(read.references.len(), MAX_REFERENCES);
    assert_eq!((read.references[0].as_str(), read.references[19].as_str()), ("0@x", "99@x"));
}

#[tokio::test]
async fn a_folder_takes_mail() {
    let folder = tempfile::tempdir().unwrap();
    let mailer = Mailer::new(&format!("file://{}", folder.path().join("out").display())).unwrap();
    mailer.send(&mail()).await.unwrap();
    mailer.send(&mail()).await.unwrap();
    let files: Vec<_> =
        std::fs::read_dir(folder.path().join("out")).unwrap().map(|f| f.unwrap().path()).collect();
    assert_eq!(files.len(), 1);
    assert!(parse(&std::fs::read(&files[0]).unwrap()).is_ok());
    assert!(Mailer::new("file://out").is_err());
    assert!(Mailer::new("http://x").unwrap_err().to_string().contains("expected smtp://"));
}

proptest! {
    /// No text that we put into a mail can add a header to it.
    #[test]
    fn headers_cannot_be_injected(text in "([a-zäé<>@:;,\"\\\\=? ]|\r|\n|\r\n|\n |\u{0}|\u{2028}|Bcc: x@y\\.z){0,40}") {
        let hostile = Outgoing {
            from_name: text.clone(),
            to_name: Some(text.clone()),
            subject: text.clone(),
            in_reply_to: Some(text.clone()),
            references: vec![text.clone()],
            auto_submitted: Some(text.clone()),
            loop_mark: Some(text.clone()),
            files: vec![File { name: text.clone(), ..mail().files[0].clone() }],
            ..mail()
        };
        let formatted = build(&hostile).unwrap().formatted();
        let (header, _) = domain::mail::identity::split(&formatted);
        let names: Vec<&str> = std::str::from_utf8(header).unwrap().split("\r\n")
            .filter(|line| !line.is_empty() && !line.starts_with([' ', '\t']))
            .map(|line| line.split_once(':').expect("a header").0)
            .collect();
        let allowed = ["From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted",
            "X-Auto-Response-Suppress", "X-Relaydesk-Loop", "MIME-Version", "Content-Type", "Content-Transfer-Encoding"];
        for name in &names {
            prop_assert!(allowed.contains(name), "{name}");
        }
        let distinct: std::collections::BTreeSet<_> = names.iter().collect();
        prop_assert_eq!(distinct.len(), names.len());
        // The message id is ours or there is no mail.
        let bad = Outgoing { message_id: format!("a\r\n{text}"), ..mail() };
        if let Ok(message) = build(&bad) {
            prop_assert_eq!(message.formatted().windows(11).filter(|w| w == b"Message-ID:").count(), 1);
        }
    }
}
