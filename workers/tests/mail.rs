//! From the SMTP dialogue to tickets, comments and answers, on a real database and with real sockets.

use actions::mailboxes::{self, NewMailbox};
use actions::tickets::{self, NewComment};
use connectors::http::{Client, Destinations};
use connectors::mail::Mailer;
use connectors::mail::smtp_server::{Limits, serve};
use domain::ticket::{Source, Status};
use domain::{Actor, InboxId, MailboxId, TicketId};
use lettre::address::Envelope;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use queue::Drain;
use std::sync::Arc;
use store::inbox::{Entry, Filter, Status as Kept};
use store::tickets::Ticket;
use testkit::sinks::SmtpSink;
use testkit::{Organization, TestDb};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use workers::smtp::Reception;
use workers::{Settings, Shared};

/// A desk with two mailboxes, its listener, and a sink for what it sends.
struct Desk {
    db: TestDb,
    organization: Organization,
    support: MailboxId,
    smtp: AsyncSmtpTransport<Tokio1Executor>,
    sink: SmtpSink,
    shared: Shared,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Desk {
    async fn open() -> Desk {
        let db = testkit::database().await;
        let organization = testkit::organization(&db, "acme").await;
        let mut tx = db.db.begin(organization.id).await.unwrap();
        let mut ids = Vec::new();
        for name in ["support", "sales"] {
            let address = format!("{name}@desk.example").parse().unwrap();
            let new = NewMailbox { address, name: format!("Acme {name}"), team: None };
            ids.push(mailboxes::create(&mut tx, &organization.admin, new).await.unwrap().0.id);
        }
        tx.commit().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = CancellationToken::new();
        let reception = Reception::new(db.db.clone(), "mx.desk.example");
        tokio::spawn(serve(listener, reception, Limits::default(), stop.clone()));
        let sink = SmtpSink::start().await;
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            base_url: "http://desk.example".into(),
            mail_domain: "desk.example".into(),
            mail_from: "relaydesk@desk.example".into(),
            discovery_dir: None,
        };
        let shared = Shared {
            db: db.db.clone(),
            blobs: store::blobs::Blobs::new(folder.path()),
            templates: Arc::default(),
            http: Client::new(Destinations::allowing([])).unwrap(),
            mailer: Some(Mailer::new(&sink.url()).unwrap()),
            settings: Arc::new(settings),
        };
        let smtp = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1").port(port).build();
        Desk { support: ids[0], db, organization, smtp, sink, shared, stop, _folder: folder }
    }

    /// Sends over SMTP what `raw` says, without running anything.
    async fn sends(&self, mail_from: &str, to: &[&str], raw: impl AsRef<[u8]>) -> Result<(), String> {
        let from = (!mail_from.is_empty()).then(|| mail_from.parse().unwrap());
        let envelope = Envelope::new(from, to.iter().map(|to| to.parse().unwrap()).collect()).unwrap();
        self.smtp.send_raw(&envelope, raw.as_ref()).await.map(drop).map_err(|error| format!("{error:?}"))
    }

    /// The same to support@, and the work that follows.
    async fn receives(&self, raw: &str) {
        let from = raw.lines().find_map(|line| line.strip_prefix("From: ")).unwrap();
        self.sends(from, &["support@desk.example"], raw.replace('\n', "\r\n")).await.unwrap();
        self.run().await;
    }

    async fn run(&self) {
        Drain::new(workers::registry(), self.shared.clone()).run(self.db.db.pool()).await.unwrap();
    }

    async fn inbox(&self) -> Vec<Entry> {
        let mut tx = self.db.db.begin(self.organization.id).await.unwrap();
        let mut entries = store::inbox::list(&mut tx, &Filter::default(), 100).await.unwrap();
        entries.reverse();
        entries
    }

    async fn tickets(&self) -> Vec<Ticket> {
        let ids: Vec<uuid::Uuid> = sqlx::query_scalar("select id from tickets order by number")
            .fetch_all(&mut self.db.owner().await)
            .await
            .unwrap();
        let mut tx = self.db.db.begin(self.organization.id).await.unwrap();
        let mut tickets = Vec::new();
        for id in ids {
            tickets.push(store::tickets::get(&mut tx, TicketId(id)).await.unwrap());
        }
        tickets
    }

    /// Visibility and body of a ticket's comments.
    async fn comments(&self, ticket: TicketId) -> Vec<(String, String)> {
        sqlx::query_as("select visibility, body from ticket_comments where ticket_id = $1 order by created_at, id")
            .bind(ticket.0)
            .fetch_all(&mut self.db.owner().await)
            .await
            .unwrap()
    }

    async fn last_message_id(&self) -> String {
        self.sink.mails().last().unwrap().header("Message-ID").unwrap()
    }

    async fn act<T>(&self, verb: impl AsyncFnOnce(&mut store::Tx) -> actions::Result<T>) -> T {
        let mut tx = self.db.db.begin(self.organization.id).await.unwrap();
        let done = verb(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        self.run().await;
        done
    }
}

const FIRST: &str = "From: ada@example.org\nTo: support@desk.example\nSubject: Printer on fire\nMessage-ID: <first@example.org>\n\nIt burns.\n";

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
                    .multipart(MultiPart::alternative_plain_html("Grüße".to_owned(), "<p>Grüße</p>".to_owned()))
                    .singlepart(SinglePart::plain("note".to_owned()))
                    .singlepart(Attachment::new("Übersicht.pdf".into()).body(pdf.clone(), ContentType::parse("application/pdf").unwrap())),
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
    desk.sends("eve@example.org", &["support@desk.example", "sales@desk.example"], both.replace('\n', "\r\n")).await.unwrap();
    desk.run().await;
    let tickets = desk.tickets().await;
    assert_eq!(tickets.len(), 5);
    let answer = format!("From: eve@example.org\nSubject: Re: both\nIn-Reply-To: {}\n\nmore\n", desk.last_message_id().await);
    desk.sends("eve@example.org", &["support@desk.example", "sales@desk.example"], answer.replace('\n', "\r\n")).await.unwrap();
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
    let out_of_office = format!("From: ada@example.org\nSubject: Away\nMessage-ID: <o@example.org>\nIn-Reply-To: {receipt}\nAuto-Submitted: auto-replied\n\nAway.\n");
    desk.sends("", &["support@desk.example"], out_of_office.replace('\n', "\r\n")).await.unwrap();
    let bounce = std::fs::read_to_string("../connectors/fixtures/mail/bounce_postfix.eml").unwrap();
    let bounce = bounce.replace("<relaydesk.0123@desk.example>", &receipt);
    desk.sends("", &["support@desk.example"], bounce.replace('\n', "\r\n")).await.unwrap();
    desk.sends("a@b.example", &["support@desk.example"], "From: sales@desk.example\r\nSubject: me\r\n\r\nx\r\n").await.unwrap();
    desk.run().await;
    let inbox = desk.inbox().await;
    let seen: Vec<_> = inbox[1..].iter().map(|entry| (entry.status, entry.ticket)).collect();
    let about = Some(ticket.id);
    assert_eq!(seen, [(Kept::Ignored, about), (Kept::Ignored, about), (Kept::Ignored, None)]);
    assert!(inbox[2].reason.as_deref().unwrap().contains("5.1.1, gone@example.org"), "{:?}", inbox[2].reason);
    assert!(desk.comments(ticket.id).await.is_empty());
    // A machine's mail is a ticket, without an answer.
    desk.receives("From: backup@example.org\nSubject: Backup failed\nAuto-Submitted: auto-generated\n\ndisk full\n").await;
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
    let replay = async |actor: Actor, id: InboxId| desk.act(async |tx| actions::inbox::replay(tx, &actor, id).await).await;
    replay(admin, entry.id).await;
    let again = desk.inbox().await.remove(0);
    assert_eq!((again.status, again.replays), (Kept::Failed, 1));
    // Unknown recipients are refused in the dialogue, and nothing is kept of it.
    let refused = desk.sends("ada@example.org", &["nobody@desk.example"], b"From: a@b\r\n\r\nx").await.unwrap_err();
    assert!(refused.contains("no such mailbox"), "{refused}");
    assert_eq!(desk.inbox().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_forgers_get_nowhere() {
    let desk = Desk::open().await;
    desk.receives(FIRST).await;
    let ticket = desk.tickets().await.remove(0);
    let receipt = desk.last_message_id().await;
    let number = &ticket.number;
    // The number alone, from a stranger: a ticket of their own.
    desk.receives(&format!("From: mallory@evil.example\nSubject: Re: [{number}]\n\nlet me in\n")).await;
    assert_eq!(desk.tickets().await.len(), 2);
    // A forged id of ours is nothing.
    desk.receives("From: mallory@evil.example\nSubject: x\nIn-Reply-To: <relaydesk.00000000000000000000000000000000@desk.example>\n\nx\n").await;
    assert_eq!(desk.tickets().await.len(), 3);
    // The real one, forwarded to somebody: a note that only staff see.
    desk.receives(&format!("From: colleague@example.org\nSubject: x\nReferences: {receipt}\n\nI know more\n")).await;
    // Somebody who says to be the agent and knows the number.
    desk.receives(&format!("From: agent@acme.example\nSubject: [{number}]\n\nsend your password\n")).await;
    // The requester, by the number alone.
    desk.receives(&format!("From: ada@example.org\nCc: eve@evil.example, end-user@acme.example\nSubject: {number} again\n\nhello?\n")).await;
    let comments = desk.comments(ticket.id).await;
    let visibility: Vec<&str> = comments.iter().map(|(visibility, _)| visibility.as_str()).collect();
    assert_eq!(visibility, ["internal", "internal", "public"], "{comments:?}");
    assert!(comments[0].1.starts_with("colleague@example.org wrote, who is not part of this ticket:"));
    let mut tx = desk.db.db.begin(desk.organization.id).await.unwrap();
    assert!(store::ticket_watchers::list(&mut tx, ticket.id).await.unwrap().is_empty());
    let eve = "eve@evil.example".parse().unwrap();
    assert!(store::users::find_by_email(&mut tx, &eve).await.unwrap().is_none());
    let told: Vec<String> = desk.sink.mails().iter().flat_map(|mail| mail.to.clone()).collect();
    assert_eq!(told, ["ada@example.org", "mallory@evil.example", "mallory@evil.example"], "receipts only");
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_answer_and_closed_tickets_stay_closed() {
    let desk = Desk::open().await;
    let known = "From: end-user@acme.example\nTo: support@desk.example\nCc: agent@acme.example, new@example.org\nSubject: Printer\nMessage-ID: <k@acme.example>\n\nIt burns.\n";
    desk.receives(known).await;
    let ticket = desk.tickets().await.remove(0);
    assert_eq!(ticket.requester, desk.organization.end_user.user_id());
    assert_eq!(desk.sink.mails()[0].header("Subject").unwrap(), format!("Re: Printer [{}]", ticket.number));

    let (agent, id) = (desk.organization.agent.clone(), ticket.id);
    let reply = NewComment::public("Switch it off.", Source::Console);
    desk.act(async |tx| tickets::comment(tx, &agent, id, reply).await).await;
    let internal = NewComment::internal("Not again.", Source::Console);
    desk.act(async |tx| tickets::comment(tx, &agent, id, internal).await).await;
    let mails = desk.sink.mails();
    assert_eq!(mails.len(), 2, "the receipt and the public answer");
    assert_eq!(mails[1].to, ["end-user@acme.example"]);
    assert_eq!(mails[1].header("In-Reply-To").as_deref(), Some("<k@acme.example>"));
    assert!(mails[1].header("References").unwrap().starts_with("<k@acme.example> <relaydesk."));
    assert_eq!(mails[1].from, "support@desk.example");
    assert_eq!(mails[1].header("Auto-Submitted"), None);
    assert!(mails[1].text().contains("Switch it off."));

    // An agent's own answer by mail, to a mail that we sent them as a watcher: public and from them.
    let other = desk.organization.admin.clone();
    let more = NewComment::public("Ask the agent.", Source::Console);
    desk.act(async |tx| tickets::comment(tx, &other, id, more).await).await;
    let to_agent = desk.sink.mails().into_iter().find(|mail| mail.to == ["agent@acme.example"]).unwrap();
    let by_mail = format!("From: agent@acme.example\nSubject: Re\nIn-Reply-To: {}\n\nDone by mail.\n", to_agent.header("Message-ID").unwrap());
    desk.receives(&by_mail).await;
    let comments = desk.comments(id).await;
    assert_eq!(comments.last().unwrap(), &("public".to_owned(), "Done by mail.".to_owned()));
    let last = desk.sink.mails().pop().unwrap();
    assert_eq!(last.to, ["end-user@acme.example"]);

    // Resolved: told, and an answer opens it again. Closed: an answer is a new ticket, linked.
    desk.act(async |tx| tickets::resolve(tx, &agent, id, "Replaced.").await).await;
    let told = desk.sink.mails().pop().unwrap();
    assert!(told.text().contains("Replaced."));
    let answer = |id: &str, n: u8| format!("From: end-user@acme.example\nSubject: Re: Printer [{}]\nMessage-ID: <r{n}@acme.example>\nIn-Reply-To: {id}\n\nno!\n", ticket.number);
    desk.receives(&answer(&told.header("Message-ID").unwrap(), 1)).await;
    assert!(desk.tickets().await[0].status.is_open());
    desk.act(async |tx| tickets::resolve(tx, &agent, id, "Really.").await).await;
    desk.act(async |tx| tickets::close(tx, &agent, id, None).await).await;
    desk.receives(&answer(&told.header("Message-ID").unwrap(), 2)).await;
    let tickets = desk.tickets().await;
    assert_eq!((tickets.len(), tickets[0].status), (2, Status::Closed));
    assert_eq!(tickets[1].title, "Printer");
    let mut tx = desk.db.db.begin(desk.organization.id).await.unwrap();
    assert_eq!(store::ticket_links::list(&mut tx, tickets[1].id).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_have_a_budget() {
    let desk = Desk::open().await;
    for i in 0..12 {
        let raw = format!("From: victim@example.org\nSubject: {i}\nMessage-ID: <{i}@evil.example>\n\nbuy {i}\n");
        desk.sends("victim@example.org", &["support@desk.example"], raw.replace('\n', "\r\n")).await.unwrap();
    }
    for i in 0..40 {
        let raw = format!("From: v{i}@example.org\nSubject: {i}\nMessage-ID: <v{i}@evil.example>\n\nbuy {i}\n");
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
        desk.sends("c@d.example", &["support@desk.example"], format!("From: c@d.example\r\nSubject: {i}\r\n\r\n{i}\r\n")).await.unwrap();
    }
    desk.run().await;
    let (inbox, tickets) = (desk.inbox().await, desk.tickets().await);
    assert_eq!(inbox[0].status, Kept::Failed);
    assert_eq!(tickets.len(), 20);
    assert_eq!(inbox[0].channel_id, desk.support.0);
}
