//! A desk to send mail to.

use actions::mailboxes::{self, NewMailbox};
use connectors::http::{Client, Destinations};
use connectors::mail::Mailer;
use connectors::mail::smtp_server::{Limits, serve};
use domain::{MailboxId, TicketId};
use lettre::address::Envelope;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use queue::Drain;
use std::sync::Arc;
use store::inbox::Entry;
use store::tickets::Ticket;
use testkit::sinks::SmtpSink;
use testkit::{Organization, TestDb};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use workers::smtp::Reception;
use workers::{Settings, Shared};

/// A desk with two mailboxes, its listener, and a sink for what it sends.
pub struct Desk {
    pub db: TestDb,
    pub organization: Organization,
    pub support: MailboxId,
    smtp: AsyncSmtpTransport<Tokio1Executor>,
    pub sink: SmtpSink,
    pub shared: Shared,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Desk {
    pub async fn open() -> Desk {
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
            pruning: workers::Pruning::default(),
        };
        let shared = Shared {
            db: db.db.clone(),
            blobs: store::blobs::Blobs::new(folder.path()),
            templates: Arc::default(),
            http: Client::new(Destinations::allowing([])).unwrap(),
            mailer: Some(Mailer::new(&sink.url()).unwrap()),
            remote: None,
            secrets: queue::KeyRing::default(),
            settings: Arc::new(settings),
        };
        let smtp = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous("127.0.0.1").port(port).build();
        Desk { support: ids[0], db, organization, smtp, sink, shared, stop, _folder: folder }
    }

    /// Sends over SMTP what `raw` says, without running anything.
    pub async fn sends(&self, mail_from: &str, to: &[&str], raw: impl AsRef<[u8]>) -> Result<(), String> {
        let from = (!mail_from.is_empty()).then(|| mail_from.parse().unwrap());
        let envelope = Envelope::new(from, to.iter().map(|to| to.parse().unwrap()).collect()).unwrap();
        self.smtp.send_raw(&envelope, raw.as_ref()).await.map(drop).map_err(|error| format!("{error:?}"))
    }

    /// The same to support@, and the work that follows.
    pub async fn receives(&self, raw: &str) {
        let from = raw.lines().find_map(|line| line.strip_prefix("From: ")).unwrap();
        self.sends(from, &["support@desk.example"], raw.replace('\n', "\r\n")).await.unwrap();
        self.run().await;
    }

    pub async fn run(&self) {
        let drain = Drain::new(workers::registry(), self.shared.clone());
        drain.clock(self.db.db.clock().shift_handle()).run(self.db.db.pool()).await.unwrap();
    }

    pub async fn inbox(&self) -> Vec<Entry> {
        let mut tx = self.db.db.begin(self.organization.id).await.unwrap();
        let all = store::inbox::LIST.all(100);
        let entries =
            store::inbox::list(&mut tx, &domain::permission::Reach::Everything, &all).await.unwrap();
        entries.into_iter().rev().map(|entry| entry.item).collect()
    }

    pub async fn tickets(&self) -> Vec<Ticket> {
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
    pub async fn comments(&self, ticket: TicketId) -> Vec<(String, String)> {
        sqlx::query_as(
            "select visibility, body from ticket_comments where ticket_id = $1 order by created_at, id",
        )
        .bind(ticket.0)
        .fetch_all(&mut self.db.owner().await)
        .await
        .unwrap()
    }

    pub async fn last_message_id(&self) -> String {
        self.sink.mails().last().unwrap().header("Message-ID").unwrap()
    }

    pub async fn act<T>(&self, verb: impl AsyncFnOnce(&mut store::Tx) -> actions::Result<T>) -> T {
        let mut tx = self.db.db.begin(self.organization.id).await.unwrap();
        let done = verb(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        self.run().await;
        done
    }
}

pub const FIRST: &str = "From: ada@example.org\nTo: support@desk.example\nSubject: Printer on fire\nMessage-ID: <first@example.org>\n\nIt burns.\n";
