//! Story: somebody pulls the power cord while mail comes in. Every mail that got its 250 is exactly one ticket or
//! comment afterwards; a sender that repeats what got no 250 makes no second one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use testkit::Demo;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};

const MAILS: usize = 1000;
/// So many of them are replies to one ticket, and so become its comments.
const REPLIES: usize = 100;
const KILL_AFTER: usize = 350;

#[derive(Clone, Debug)]
struct Mail {
    subject: String,
    marker: String,
    is_reply: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn no_accepted_mail_is_lost_or_doubled_by_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path(), &[]).await;
    let mailbox = demo.mailbox().to_owned();
    let ticket = demo
        .client
        .post("/api/v1/incidents", serde_json::json!({
            "title": "the thread that replies belong to", "impact": "low", "urgency": "low", "requester": "sender@power.example",
        }))
        .await
        .expect(201);
    let number = ticket["number"].as_str().unwrap().to_owned();
    let mails: Vec<Mail> = (0..MAILS)
        .map(|i| {
            let is_reply = i % (MAILS / REPLIES) == 0;
            let marker = format!("power-cut-{i:04}");
            let subject = if is_reply { format!("Re: [{number}] {marker}") } else { marker.clone() };
            Mail { subject, marker, is_reply }
        })
        .collect();

    let acknowledged = deliver_until_killed(demo, &mailbox, &mails).await;
    assert!(
        acknowledged.len() >= KILL_AFTER && acknowledged.len() < MAILS,
        "{} acknowledged",
        acknowledged.len()
    );

    let demo = Demo::start(folder.path(), &[]).await;
    demo.client
        .until("/api/v1/inbox?status=pending&page_size=1", |page| page["items"] == serde_json::json!([]))
        .await;
    let found = count(&demo, &mails, &number).await;
    for marker in &acknowledged {
        assert_eq!(found.get(marker), Some(&1), "{marker} got its 250");
    }
    assert!(found.values().all(|times| *times == 1), "{found:?}");

    // A mail server repeats what it got no 250 for, and sometimes what it did: nothing doubles.
    let again: Vec<Mail> = mails
        .iter()
        .enumerate()
        .filter(|(i, mail)| !acknowledged.contains(&mail.marker) || i % 50 == 0)
        .map(|(_, mail)| mail.clone())
        .collect();
    let (sender, mut receiver) = mpsc::unbounded_channel();
    deliver(demo.smtp, &mailbox, Arc::new(again), Arc::default(), sender).await.expect("every mail is taken");
    receiver.close();
    demo.client
        .until("/api/v1/inbox?status=pending&page_size=1", |page| page["items"] == serde_json::json!([]))
        .await;
    let found = count(&demo, &mails, &number).await;
    assert_eq!(found.len(), MAILS);
    assert!(found.values().all(|times| *times == 1), "{found:?}");
    assert_eq!(demo.process.terminate().await, Some(0));
}

/// Sends on eight connections and kills the demo when enough mails got their 250. Answers which did.
async fn deliver_until_killed(demo: Demo, mailbox: &str, mails: &[Mail]) -> BTreeSet<String> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let (mails, next) = (Arc::new(mails.to_vec()), Arc::new(AtomicUsize::new(0)));
    let enough = Arc::new(Notify::new());
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (mails, next, sender, mailbox) =
                (mails.clone(), next.clone(), sender.clone(), mailbox.to_owned());
            let smtp = demo.smtp;
            tokio::spawn(async move { deliver(smtp, &mailbox, mails, next, sender).await })
        })
        .collect();
    drop(sender);
    let collector = {
        let enough = enough.clone();
        tokio::spawn(async move {
            let mut acknowledged = BTreeSet::new();
            while let Some(marker) = receiver.recv().await {
                acknowledged.insert(marker);
                if acknowledged.len() == KILL_AFTER {
                    enough.notify_one();
                }
            }
            acknowledged
        })
    };
    enough.notified().await;
    demo.process.kill().await;
    for sender in senders {
        let _ = sender.await.unwrap(); // its connection broke
    }
    collector.await.unwrap()
}

/// One SMTP session; reports the marker of every mail that got its 250.
async fn deliver(
    smtp: SocketAddr,
    mailbox: &str,
    mails: Arc<Vec<Mail>>,
    next: Arc<AtomicUsize>,
    acknowledged: mpsc::UnboundedSender<String>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(smtp).await?);
    expect(&mut stream, "220").await?;
    command(&mut stream, "EHLO power.example", "250").await?;
    while let Some(mail) = mails.get(next.fetch_add(1, Ordering::SeqCst)) {
        command(&mut stream, "MAIL FROM:<sender@power.example>", "250").await?;
        command(&mut stream, &format!("RCPT TO:<{mailbox}>"), "250").await?;
        command(&mut stream, "DATA", "354").await?;
        let message = format!(
            "From: Sender <sender@power.example>\r\nTo: <{mailbox}>\r\nSubject: {}\r\nMessage-ID: <{}@power.example>\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\r\nmarker {}\r\n.",
            mail.subject, mail.marker, mail.marker
        );
        command(&mut stream, &message, "250").await?;
        let _ = acknowledged.send(mail.marker.clone());
    }
    Ok(())
}

async fn command(stream: &mut BufReader<TcpStream>, line: &str, code: &str) -> std::io::Result<()> {
    stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).await?;
    expect(stream, code).await
}

async fn expect(stream: &mut BufReader<TcpStream>, code: &str) -> std::io::Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if !line.starts_with(code) {
            return Err(std::io::Error::other(format!("expected {code}, got {line:?}")));
        }
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}

/// How often each mail is there, as a ticket or as a comment of the thread.
async fn count(demo: &Demo, mails: &[Mail], thread: &str) -> BTreeMap<String, usize> {
    let tickets = demo.client.all("/api/v1/incidents").await;
    let comments = demo.client.all(&format!("/api/v1/incidents/{thread}/comments")).await;
    let mut found = BTreeMap::new();
    for mail in mails {
        let needle = format!("marker {}", mail.marker);
        let times = if mail.is_reply {
            comments
                .iter()
                .filter(|comment| comment["body"].as_str().is_some_and(|body| body.contains(&needle)))
                .count()
        } else {
            tickets.iter().filter(|ticket| ticket["title"].as_str() == Some(&mail.subject)).count()
        };
        if times > 0 {
            found.insert(mail.marker.clone(), times);
        }
    }
    found
}
