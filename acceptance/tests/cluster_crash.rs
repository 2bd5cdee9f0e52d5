//! Story: the whole database cluster is killed (`pg_ctl stop -m immediate`) again and again while mail and alerts come in
//! and their jobs run. Relaydesk goes on by itself; whatever got its OK is there afterwards, and had its effects once.

use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testkit::sinks::{Answer, HttpSink};
use testkit::{App, Client, Server, SmtpClient};
use tokio::sync::Notify;

const SUPPORT: &str = "support@acme.example";
const EACH: usize = 100;
const CRASHES: usize = 3;

/// What was accepted so far; woken at each.
#[derive(Default)]
struct Accepted {
    count: AtomicUsize,
    refused: AtomicUsize,
    more: Notify,
}

impl Accepted {
    fn one(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.more.notify_one();
    }

    async fn reaches(&self, enough: usize) {
        while self.count.load(Ordering::SeqCst) < enough {
            self.more.notified().await;
        }
    }

    /// As senders do: come again later.
    async fn refused(&self) {
        self.refused.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One mail after the other, each until it gets its 250.
async fn send_mails(smtp: SocketAddr, next: Arc<AtomicUsize>, accepted: Arc<Accepted>) {
    let mut session = None;
    loop {
        let n = next.fetch_add(1, Ordering::SeqCst);
        if n >= EACH {
            return;
        }
        let from = format!("sender{n}@crash.example");
        let message =
            format!("From: {from}\r\nSubject: mail {n}\r\nMessage-ID: <{n}@crash.example>\r\n\r\nhello");
        loop {
            let mut open = match session.take() {
                Some(open) => open,
                None => SmtpClient::connect(smtp).await.expect("the listener lives"),
            };
            let reply = open.send(&from, SUPPORT, &message).await.expect("the session lives");
            session = Some(open);
            if reply.starts_with("250") {
                accepted.one();
                break;
            }
            assert!(reply.starts_with('4'), "nothing is refused for good: {reply}");
            accepted.refused().await;
        }
    }
}

async fn send_alerts(anyone: Client, hook: String, next: Arc<AtomicUsize>, accepted: Arc<Accepted>) {
    loop {
        let n = next.fetch_add(1, Ordering::SeqCst);
        if n >= EACH {
            return;
        }
        let alert = json!({"dedup_key": format!("alert {n}"), "title": format!("alert {n}"), "starts_at": "2026-01-01T00:00:00Z"});
        loop {
            let answer = anyone.post(&hook, alert.clone()).await;
            if answer.status == 202 {
                accepted.one();
                break;
            }
            assert!(answer.headers.contains_key("retry-after"), "nothing is refused for good: {answer:?}");
            answer.expect(503);
            accepted.refused().await;
        }
    }
}

/// Until nothing waits or runs, and nothing is left to be sent.
async fn worked_off(app: &App) {
    let mut owner = app.db.owner().await;
    let begun = Instant::now();
    loop {
        let left: i64 = sqlx::query_scalar(
            "select (select count(*) from queue.jobs where state <> 'dead')
                  + (select count(*) from inbox where status = 'pending')
                  + (select count(*) from deliveries where status = 'pending')",
        )
        .fetch_one(&mut owner)
        .await
        .unwrap();
        if left == 0 {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{left} left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_survives_crashes_of_the_cluster_and_takes_effect_once() {
    let server = Server::start().await;
    let mut app = App::start_on(server.database().await, &[]).await;
    let slack = HttpSink::start().await;
    slack.otherwise(Answer::status(200).body("ok"));
    let channel =
        json!({"kind": "slack", "name": "ops", "config": {"webhook_url": slack.url("/services/T/B/x")}});
    let channel = app.client.post("/api/v1/notification-channels", channel).await.expect(201);
    let rule = json!({"event": "incident.opened", "channel": channel["id"]});
    app.client.post("/api/v1/notification-rules", rule).await.expect(201);
    app.client.post("/api/v1/mailboxes", json!({"address": SUPPORT, "name": "Acme IT"})).await.expect(201);
    let source = json!({"kind": "generic", "name": "backups"});
    let source = app.client.post("/api/v1/alert-sources", source).await.expect(201);
    let hook = format!("/hooks/generic/{}", source["token"].as_str().unwrap());

    let accepted = Arc::new(Accepted::default());
    let (mails, alerts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..4 {
        senders.spawn(send_mails(app.smtp, mails.clone(), accepted.clone()));
        senders.spawn(send_alerts(app.client.with_token(""), hook.clone(), alerts.clone(), accepted.clone()));
    }
    for crash in 1..=CRASHES {
        accepted.reaches(crash * 2 * EACH / (CRASHES + 1)).await;
        server.crash().await;
    }
    while let Some(sender) = senders.join_next().await {
        sender.unwrap();
    }
    assert!(accepted.refused.load(Ordering::SeqCst) > 0, "the crashes were noticed");
    assert!(app.process.is_running());

    // Everything is worked off by the process that was there all the time.
    worked_off(&app).await;
    for waiting in ["jobs?state=dead", "inbox?status=failed", "notifications?status=given_up"] {
        let found = app.client.all(&format!("/api/v1/{waiting}")).await;
        assert!(found.is_empty(), "{waiting}: {found:?}");
    }
    let mut titles: BTreeMap<String, usize> = BTreeMap::new();
    for incident in app.agent.all("/api/v1/incidents").await {
        *titles.entry(incident["title"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    let expected: BTreeMap<String, usize> =
        (0..EACH).flat_map(|n| [(format!("mail {n}"), 1), (format!("alert {n}"), 1)]).collect();
    assert_eq!(titles, expected, "one incident each");

    // Behind the scenes: every job ended once, and every effect is there once.
    let mut owner = app.db.owner().await;
    let mut none = async |what: &str, sql: &'static str| {
        let found: i64 = sqlx::query_scalar(sql).fetch_one(&mut owner).await.unwrap();
        assert_eq!(found, 0, "{what}");
    };
    none("a job ended twice", "select count(*) - count(distinct id) from queue.history").await;
    none(
        "an inbox row that two jobs worked on",
        "select count(*) from (select args->>'inbox' from queue.history where kind in ('ingest_mail', 'ingest_alert') \
         and outcome = 'done' group by 1 having count(*) > 1) twice",
    )
    .await;
    none(
        "an incident that was not opened by exactly one event",
        "select count(*) from tickets t where 1 <> (select count(*) from events e \
         where e.ticket_id = t.id and e.kind = 'incident.opened')",
    )
    .await;
    none(
        "an event to which was not reacted exactly once",
        "select count(*) from events e where 1 <> (select count(*) from queue.history h \
         where h.kind = 'react' and h.outcome = 'done' and h.args->>'event' = e.id::text)",
    )
    .await;
    none(
        "an incident that was not told to the channel exactly once",
        "select count(*) from tickets t where 1 <> (select count(*) from deliveries d \
         where d.ticket_id = t.id and d.channel = 'slack' and d.status = 'sent')",
    )
    .await;
    // Outside, a message whose answer was lost may come again, but under its key.
    let mut keys: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for request in slack.requests() {
        let key = request.header("idempotency-key").unwrap().to_owned();
        keys.entry(request.json()["text"].as_str().unwrap().to_owned()).or_default().insert(key);
    }
    assert_eq!(keys.len(), 2 * EACH);
    assert!(keys.values().all(|keys| keys.len() == 1), "{keys:?}");
    let mut receipts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for mail in app.outbox.mails() {
        receipts.entry(mail.to[0].clone()).or_default().insert(mail.header("message-id").unwrap());
    }
    assert!(!receipts.is_empty() && receipts.values().all(|ids| ids.len() == 1), "{receipts:?}");
}
