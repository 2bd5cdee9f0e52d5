//! What becomes of mail: tickets, comments, receipts, or nothing.

use crate::desk::{Desk, FIRST};
use domain::ticket::Source;
use domain::{Actor, InboxId};
use store::inbox::Status as Kept;

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_is_an_incident_and_its_receipt_threads() {
    let desk = Desk::open().await;
    let pdf: Vec<u8> = (0..=255u8).cycle().take(5000).collect();
    let encoded: String = {
        use lettre::message::{Attachment, Mailbox, Message, MultiPart, SinglePart, header::ContentType};
        let message = Message::builder()
            .from("Jürgen Müller <juergen@example.org>".parse::<Mailbox>().unwrap())
            .to("support@desk.example".parse().unwrap())
            .subject("Drucker im Büro brennt")
            .message_id(Some("<ü1@example.org>".replace('ü', "u")))
            .multipart(
                MultiPart::mixed()
                    .multipart(MultiPart::alternative_plain_html(
                        "Grüße".to_owned(),
                        "<p>Grüße</p>".to_owned(),
                    ))
                    .singlepart(SinglePart::plain("note".to_owned()))
                    .singlepart(
                        Attachment::new("Übersicht.pdf".into())
                            .body(pdf.clone(), ContentType::parse("application/pdf").unwrap()),
                    ),
            )
            .unwrap();
        String::from_utf8(message.formatted()).unwrap()
    };
    desk.sends("juergen@example.org", &["support@desk.example"], &encoded).await.unwrap();
    assert_eq!(desk.inbox().await[0].status, Kept::Pending, "kept before it is understood");
    desk.run().await;

    let tickets = desk.tickets().await;
    assert_eq!(tickets.len(), 1);
    assert_eq!((tickets[0].title.as_str(), tickets[0].source), ("Drucker im Büro brennt", Source::Email));
    assert!(tickets[0].description.contains("Grüße"));
    let mut tx = desk.db.db.begin(desk.organization.id).await.unwrap();
    let requester = store::users::get(&mut tx, tickets[0].requester.unwrap()).await.unwrap();
    assert_eq!((requester.email.as_str(), requester.name.as_str()), ("juergen@example.org", "Jürgen Müller"));
    let files = store::attachments::list(&mut tx, tickets[0].id, true).await.unwrap();
    let file = files.iter().find(|file| file.file_name == "Übersicht.pdf").unwrap();
    assert_eq!(desk.shared.blobs.read(desk.organization.id, &file.sha256).await.unwrap(), pdf);
    drop(tx);
    let entry = &desk.inbox().await[0];
    assert_eq!((entry.status, entry.ticket), (Kept::Processed, Some(tickets[0].id)));

    let receipt = desk.sink.mails().pop().unwrap();
    assert_eq!((receipt.from.as_str(), receipt.to.as_slice()), ("", &["juergen@example.org".to_owned()][..]));
    assert_eq!(receipt.header("In-Reply-To").as_deref(), Some("<u1@example.org>"));
    assert_eq!(receipt.header("Auto-Submitted").as_deref(), Some("auto-replied"));
    assert!(!receipt.text().contains("Drucker"), "a stranger's words are not repeated");

    let answer = format!(
        "From: juergen@example.org\nSubject: quite another\nMessage-ID: <u2@example.org>\nIn-Reply-To: {}\n\nStill burning.\n\nOn Monday, Acme support wrote:\n> we have it\n",
        desk.last_message_id().await
    );
    desk.receives(&answer).await;
    let expected = [("public".to_owned(), "Still burning.".to_owned())];
    assert_eq!(desk.comments(tickets[0].id).await, expected);
    assert_eq!(desk.tickets().await.len(), 1);
    assert_eq!(desk.sink.mails().len(), 1, "a comment gets no receipt");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_mail_is_one_and_another_text_is_another() {
    let desk = Desk::open().await;
    desk.receives(FIRST).await;
    desk.receives(&format!("Received: from elsewhere\n{FIRST}\n\n")).await;
    assert_eq!((desk.inbox().await.len(), desk.tickets().await.len()), (1, 1));
    desk.receives(&FIRST.replace("burns", "smokes")).await;
    assert_eq!(desk.tickets().await.len(), 2, "nothing is lost");
    // Without a Message-ID too.
    let bare = "From: bob@example.org\nSubject: no id\n\nx\n";
    desk.receives(bare).await;
    desk.receives(bare).await;
    assert_eq!(desk.tickets().await.len(), 3);
    // To two of our mailboxes: a ticket each; the answer to one of them with the other in Cc: one comment.
    let both = "From: eve@example.org\nTo: support@desk.example, sales@desk.example\nSubject: both\nMessage-ID: <both@example.org>\n\nx\n";
    desk.sends(
        "eve@example.org",
        &["support@desk.example", "sales@desk.example"],
        both.replace('\n', "\r\n"),
    )
    .await
    .unwrap();
    desk.run().await;
    let tickets = desk.tickets().await;
    assert_eq!(tickets.len(), 5);
    let answer = format!(
        "From: eve@example.org\nSubject: Re: both\nIn-Reply-To: {}\n\nmore\n",
        desk.last_message_id().await
    );
    desk.sends(
        "eve@example.org",
        &["support@desk.example", "sales@desk.example"],
        answer.replace('\n', "\r\n"),
    )
    .await
    .unwrap();
    desk.run().await;
    let comments = desk.comments(tickets[3].id).await.len() + desk.comments(tickets[4].id).await.len();
    assert_eq!((comments, desk.tickets().await.len()), (1, 5));
    // Whichever copy was worked second.
    let inbox = desk.inbox().await;
    assert_eq!(inbox.iter().filter(|entry| entry.status == Kept::Ignored).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_are_kept_and_not_answered() {
    let desk = Desk::open().await;
    desk.receives(FIRST).await;
    let ticket = desk.tickets().await.remove(0);
    let receipt = desk.last_message_id().await;
    let out_of_office = format!(
        "From: ada@example.org\nSubject: Away\nMessage-ID: <o@example.org>\nIn-Reply-To: {receipt}\nAuto-Submitted: auto-replied\n\nAway.\n"
    );
    desk.sends("", &["support@desk.example"], out_of_office.replace('\n', "\r\n")).await.unwrap();
    let bounce = std::fs::read_to_string("../connectors/fixtures/mail/bounce_postfix.eml").unwrap();
    let bounce = bounce.replace("<relaydesk.0123@desk.example>", &receipt);
    desk.sends("", &["support@desk.example"], bounce.replace('\n', "\r\n")).await.unwrap();
    desk.sends(
        "a@b.example",
        &["support@desk.example"],
        "From: sales@desk.example\r\nSubject: me\r\n\r\nx\r\n",
    )
    .await
    .unwrap();
    desk.run().await;
    let inbox = desk.inbox().await;
    let seen: Vec<_> = inbox[1..].iter().map(|entry| (entry.status, entry.ticket)).collect();
    let about = Some(ticket.id);
    assert_eq!(seen, [(Kept::Ignored, about), (Kept::Ignored, about), (Kept::Ignored, None)]);
    assert!(inbox[2].reason.as_deref().unwrap().contains("5.1.1, gone@example.org"), "{:?}", inbox[2].reason);
    assert!(desk.comments(ticket.id).await.is_empty());
    // A machine's mail is a ticket, without an answer.
    desk.receives(
        "From: backup@example.org\nSubject: Backup failed\nAuto-Submitted: auto-generated\n\ndisk full\n",
    )
    .await;
    assert_eq!(desk.tickets().await.len(), 2);
    assert_eq!(desk.sink.mails().len(), 1, "the receipt of the first, nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_kept_with_a_reason_and_replayed() {
    let desk = Desk::open().await;
    desk.sends("ada@example.org", &["support@desk.example"], b"\x00\x01\xff not a mail").await.unwrap();
    desk.run().await;
    let entry = desk.inbox().await.remove(0);
    assert_eq!(entry.status, Kept::Failed);
    assert!(entry.reason.is_some());
    let admin = desk.organization.admin.clone();
    let replay = async |actor: Actor, id: InboxId| {
        desk.act(async |tx| actions::inbox::replay(tx, &actor, id).await).await
    };
    replay(admin, entry.id).await;
    let again = desk.inbox().await.remove(0);
    assert_eq!((again.status, again.replays), (Kept::Failed, 1));
    // Unknown recipients are refused in the dialogue, and nothing is kept of it.
    let refused =
        desk.sends("ada@example.org", &["nobody@desk.example"], b"From: a@b\r\n\r\nx").await.unwrap_err();
    assert!(refused.contains("no such mailbox"), "{refused}");
    assert_eq!(desk.inbox().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_have_a_budget() {
    let desk = Desk::open().await;
    for i in 0..12 {
        let raw =
            format!("From: victim@example.org\nSubject: {i}\nMessage-ID: <{i}@evil.example>\n\nbuy {i}\n");
        desk.sends("victim@example.org", &["support@desk.example"], raw.replace('\n', "\r\n")).await.unwrap();
    }
    for i in 0..40 {
        let raw =
            format!("From: v{i}@example.org\nSubject: {i}\nMessage-ID: <v{i}@evil.example>\n\nbuy {i}\n");
        desk.sends("x@example.org", &["support@desk.example"], raw.replace('\n', "\r\n")).await.unwrap();
    }
    desk.run().await;
    assert_eq!(desk.tickets().await.len(), 52);
    let mails = desk.sink.mails();
    assert_eq!(mails.iter().filter(|mail| mail.to == ["victim@example.org"]).count(), 10);
    assert_eq!(mails.len(), 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_mail_stops_nobody() {
    let desk = Desk::open().await;
    let bomb = "From: a@b.example\r\n".to_owned() + &"Content-Type: message/rfc822\r\n\r\n".repeat(1000);
    desk.sends("a@b.example", &["support@desk.example"], bomb).await.unwrap();
    for i in 0..20 {
        desk.sends(
            "c@d.example",
            &["support@desk.example"],
            format!("From: c@d.example\r\nSubject: {i}\r\n\r\n{i}\r\n"),
        )
        .await
        .unwrap();
    }
    desk.run().await;
    let (inbox, tickets) = (desk.inbox().await, desk.tickets().await);
    assert_eq!(inbox[0].status, Kept::Failed);
    assert_eq!(tickets.len(), 20);
    assert_eq!(inbox[0].channel_id, desk.support.0);
}
