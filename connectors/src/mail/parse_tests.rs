use super::*;
use domain::mail::automatic::{Automatic, ReturnPath, may_answer, recognise};
use domain::{OrganizationId, mail::Report};
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// Fixtures are written with `\n`, as they read best; the wire has CR LF.
fn read(text: &str) -> Mail {
    parse(text.replace('\n', "\r\n").as_bytes()).unwrap()
}

fn fixture(name: &str) -> Mail {
    let path = format!("{}/fixtures/mail/{name}.eml", env!("CARGO_MANIFEST_DIR"));
    read(&std::fs::read_to_string(path).unwrap())
}

#[test]
fn umlauts_in_every_dress() {
    let latin: Vec<u8> = [
        b"From: =?iso-8859-1?Q?J=FCrgen_M=FCller?= <Juergen@Example.ORG>\r\nSubject: =?UTF-8?B?RHJ1Y2tlciBicmVubnQg8J+UpQ==?= =?utf-8?q?_s?=\r\n =?utf-8?q?chon?=\r\nContent-Type: text/plain; charset=windows-1252\r\n\r\nGr\xfc\xdfe \x80 5\r\n".to_vec(),
    ]
    .concat();
    let mail = parse(&latin).unwrap();
    assert_eq!(mail.from.name, "Jürgen Müller");
    assert_eq!(mail.from.address.as_str(), "juergen@example.org");
    assert_eq!(mail.subject, "Drucker brennt 🔥 schon");
    assert_eq!(mail.text, "Grüße € 5");
}

#[test]
fn text_html_and_attachments() {
    let pdf: Vec<u8> = (0..=255u8).cycle().take(3000).collect();
    let csv = b"a;\xfc\r\n1;2\n".to_vec();
    let wrap = |bytes: &[u8]| {
        use base64::Engine;
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        text.as_bytes()
            .chunks(76)
            .map(|l| std::str::from_utf8(l).unwrap().to_owned() + "\n")
            .collect::<String>()
    };
    let mail = read(&format!(
        "From: ada@example.org\nTo: Desk <support@desk.example>, bad, \"x\" <y@z.example>\nCc: grp: bob@example.org, eve@example.org;\nSubject: files\nMessage-ID: <1@example.org>\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: multipart/related; boundary=r\n\n--r\nContent-Type: multipart/alternative; boundary=a\n\n--a\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\n\nGr=C3=BC=C3=9Fe\n--a\nContent-Type: text/html; charset=utf-8\n\n<p onclick=x>Grüße <img src=\"cid:logo\"><script>x</script></p>\n--a--\n--r\nContent-Type: image/png; name=logo.png\nContent-ID: <logo>\nContent-Disposition: inline; filename=logo.png\nContent-Transfer-Encoding: base64\n\n{png}--r--\n--m\nContent-Type: application/pdf\nContent-Disposition: attachment; filename*=utf-8''%C3%9Cbersicht%20%2F..%2Fevil.pdf\nContent-Transfer-Encoding: base64\n\n{pdf64}--m\nContent-Type: text/csv; charset=windows-1252\nContent-Disposition: attachment; filename=list.csv\nContent-Transfer-Encoding: base64\n\n{csv64}--m\nContent-Type: message/rfc822\n\nFrom: eve@example.org\nSubject: inner\n\nbody\n--m--\n",
        png = wrap(b"\x89PNG"),
        pdf64 = wrap(&pdf),
        csv64 = wrap(&csv),
    ));
    assert_eq!(mail.text, "Grüße");
    let html = mail.html.as_deref().unwrap();
    assert!(html.contains("cid:logo") && !html.contains("script") && !html.contains("onclick"), "{html}");
    let to: Vec<&str> = mail.to.iter().map(|p| p.address.as_str()).collect();
    assert_eq!(to, ["support@desk.example", "y@z.example"]);
    assert_eq!(mail.cc.len(), 2);
    let named: Vec<(&str, &str, bool)> =
        mail.attachments.iter().map(|a| (a.file_name.as_str(), a.media_type.as_str(), a.inline)).collect();
    assert_eq!(
        named,
        [
            ("logo.png", "image/png", true),
            ("evil.pdf", "application/pdf", false),
            ("list.csv", "text/csv", false),
            ("inner.eml", "message/rfc822", false),
        ]
    );
    assert_eq!(mail.attachments[0].content_id.as_deref(), Some("logo"));
    assert_eq!(mail.attachments[1].bytes, pdf);
    assert_eq!(mail.attachments[2].bytes, csv);
    assert!(String::from_utf8_lossy(&mail.attachments[3].bytes).starts_with("From: eve@example.org"));
}

#[test]
fn html_alone_becomes_text() {
    let mail = read(
        "From: a@b.example\nContent-Type: text/html\n\n<h1>Hallo</h1><p>der &Auml;rger<br>geht los</p>\n",
    );
    assert!(mail.text.contains("Hallo") && mail.text.contains("der Ärger\ngeht los"), "{:?}", mail.text);
    assert!(mail.html.is_some());
}

#[test]
fn awkward_but_readable() {
    let mail = read("From: a@b.example\nSubject: nul\n\none\0two\n");
    assert_eq!(mail.text, "onetwo");
    let mail = read("Sender: a@b.example\nFrom: nobody\nSubject: x\n y\n\nz\n");
    assert_eq!((mail.from.address.as_str(), mail.subject.as_str()), ("a@b.example", "x y"));
    let mail = read(
        "From: a@b.example\nMessage-ID: <x@y\nContent-Type: multipart/mixed; boundary=gone\n\nno parts here\n",
    );
    assert!(mail.text.contains("no parts") || mail.attachments.iter().any(|a| !a.bytes.is_empty()));
    let mail = read(
        "From: a@b.example\nContent-Type: text/plain; charset=martian\nContent-Transfer-Encoding: base64\n\n!!!not base64!!!\n",
    );
    assert!(!mail.text.is_empty());
    let attached =
        read("From: a@b.example\nContent-Type: application/pdf; name=\"=?utf-8?B?w5wucGRm?=\"\n\n%PDF\n");
    assert_eq!(attached.attachments.len(), 1);
    assert_eq!(attached.attachments[0].file_name, "Ü.pdf");
    let names =
        read("From: a@b.example\nContent-Type: application/x-y; name=\"..\\\\..\\\\\u{202e}gpj.exe\"\n\nx\n");
    assert_eq!(names.attachments[0].file_name, "gpj.exe");
}

#[test]
fn garbage_has_a_reason() {
    for (raw, why) in [
        (&b""[..], Unreadable::Empty),
        (b" \r\n\r\n", Unreadable::Empty),
        (b"Subject: no sender\r\n\r\nx", Unreadable::NoSender),
        (b"From: <>\r\n\r\nx", Unreadable::NoSender),
    ] {
        assert_eq!(parse(raw).unwrap_err(), why, "{:?}", String::from_utf8_lossy(raw));
    }
    for junk in [
        &b"\x00\x01\x02\xff\xfe garbage"[..],
        b"just words without a colon",
        b"\x89PNG\r\n\x1a\n\x00\x00",
        b"{\"json\": 1}",
    ] {
        assert!(matches!(parse(junk), Err(Unreadable::NoHeaders | Unreadable::NoSender)), "{junk:?}");
    }
    assert_eq!(parse(&vec![b'x'; MAX_MESSAGE + TRACE + 1]).unwrap_err(), Unreadable::TooLarge);
}

#[test]
fn bombs_are_refused_quickly() {
    let started = Instant::now();
    let deep: String = (0..10_000)
        .map(|i| format!("Content-Type: multipart/mixed; boundary=b{i}\r\n\r\n--b{i}\r\n"))
        .collect();
    let russian = "Content-Type: message/rfc822\r\n\r\n".repeat(10_000);
    let many = format!(
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n{}",
        "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n".repeat(100_000)
    );
    let bare =
        format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", "--b\r\n\r\nx\r\n".repeat(100_000));
    let header = format!("X: {}\r\n\r\nx", "y".repeat(MAX_HEADER));
    let lines = "X-A: b\r\n".repeat(100_000) + "\r\nx";
    for (bomb, why) in [
        (deep, Unreadable::TooDeep),
        (russian, Unreadable::TooDeep),
        (many, Unreadable::TooManyParts),
        (bare, Unreadable::TooManyParts),
        (header, Unreadable::HeadersTooLarge),
        (lines, Unreadable::HeadersTooLarge),
    ] {
        assert_eq!(parse(format!("From: a@b.example\r\n{bomb}").as_bytes()).unwrap_err(), why);
    }
    let recipients = "x@y.example, ".repeat(15_000);
    let mail =
        parse(format!("From: a@b.example\r\nTo: {recipients}z@y.example\r\n\r\nx").as_bytes()).unwrap();
    assert_eq!(mail.to.len(), MAX_PEOPLE);
    let large =
        parse(format!("From: a@b.example\r\n\r\n{}", "lots of text\r\n".repeat(1_000_000)).as_bytes())
            .unwrap();
    assert!(large.text.len() <= MAX_TEXT);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

fn judged(mail: &Mail) -> Option<Automatic> {
    recognise(mail, OrganizationId(uuid::Uuid::nil()), &[], return_path(mail), false)
}

#[test]
fn out_of_office_replies() {
    for name in ["out_of_office_exchange", "out_of_office_gmail", "out_of_office_sieve"] {
        let mail = fixture(name);
        let automatic = judged(&mail);
        assert!(matches!(automatic, Some(Automatic::Reply(_))), "{name}: {automatic:?}");
        assert!(!may_answer(&mail, automatic.as_ref()));
    }
}

#[test]
fn delivery_reports() {
    let mail = fixture("bounce_postfix");
    assert_eq!(return_path(&mail), ReturnPath::Null);
    assert_eq!(judged(&mail), Some(Automatic::Bounce));
    assert_eq!(
        mail.report,
        Some(Report {
            kind: "delivery-status".into(),
            action: Some("failed".into()),
            status: Some("5.1.1".into()),
            recipient: Some("gone@example.org".into()),
            original_message_id: Some("relaydesk.0123@desk.example".into()),
        })
    );
}

proptest! {
    #[test]
    fn never_panics(raw in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = parse(&raw);
    }

    #[test]
    fn never_panics_on_what_looks_like_mail(
        lines in prop::collection::vec(prop::sample::select(vec![
            "From: a@b.example", "Content-Type: multipart/mixed; boundary=b", "Content-Type: message/rfc822", "--b", "--b--", "",
            "Content-Transfer-Encoding: base64", "Content-Transfer-Encoding: quoted-printable", "=?utf-8?B?w5w=?=", "=C3=", "AAAA",
            "Content-Type: text/html; charset=utf-16", "<b>x", "Content-Disposition: attachment; filename*0=a; filename*1=b", " folded",
            "Subject: =?", "References: <a@b> <c", "To: a@b.example, , <", "Content-Type: text/plain; charset=iso-2022-jp", "\u{fffd}\u{0}",
        ]), 0..30),
    ) {
        let raw = lines.join("\r\n");
        if let Ok(mail) = parse(raw.as_bytes()) {
            prop_assert!(!mail.text.contains('\0') && !mail.subject.contains(['\r', '\n', '\0']));
            for file in &mail.attachments {
                prop_assert!(!file.file_name.is_empty() && !file.file_name.contains(['/', '\\', '\0']));
            }
        }
    }
}

#[test]
fn a_multipart_mail_without_a_boundary_shows_its_text() {
    for content_type in
        ["multipart/mixed", "multipart/mixed; boundary=\"\"", "multipart/alternative; boundary=never"]
    {
        let raw = format!(
            "From: a@b.example\r\nSubject: s\r\nContent-Type: {content_type}\r\n\r\nThe printer burns.\r\nHurry!\r\n"
        );
        let mail = parse(raw.as_bytes()).unwrap();
        assert_eq!(mail.text, "The printer burns.\nHurry!", "{content_type}");
    }
    let divided =
        "From: a@b.example\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n\r\n--x--\r\n";
    assert_eq!(parse(divided.as_bytes()).unwrap().text, "", "an empty part is no text");
}
