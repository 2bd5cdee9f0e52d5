//! Some life in the demo: now and then a mail from a customer, or an alert that resolves a little later. It comes in like
//! any other, by SMTP and by the Alertmanager hook.

use super::Facts;
use connectors::http::{Client, Destinations, Request};
use serde_json::json;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tracing::debug;

const EVERY: Duration = Duration::from_secs(90);
/// After so many the demo has been left alone, and need not fill its disk.
const AT_MOST: usize = 200;

const MAILS: [(&str, &str, &str); 4] = [
    ("Barbara Liskov", "barbara@customer.example", "The monthly report is empty"),
    ("Ken Thompson", "ken@customer.example", "Cannot log in since this morning"),
    ("Radia Perlman", "radia@customer.example", "The network in room 4 is slow"),
    ("Donald Knuth", "donald@customer.example", "Ligatures look wrong in the new template"),
];
const ALERTS: [(&str, &str, &str); 3] = [
    ("DiskAlmostFull", "web-1.demo.example", "warning"),
    ("TargetDown", "ap-3.demo.example", "critical"),
    ("HighLoad", "db-1.demo.example", "warning"),
];

pub async fn run(facts: Facts) {
    let loopback = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().expect("a network"));
    let Ok(http) = Client::new(Destinations::allowing(loopback)) else { return };
    for round in 0..AT_MOST {
        tokio::time::sleep(EVERY).await;
        let sent = match round % 3 {
            0 => mail(&facts, MAILS[(round / 3) % MAILS.len()]).await,
            1 => alert(&facts, &http, ALERTS[(round / 3) % ALERTS.len()], "firing").await,
            _ => alert(&facts, &http, ALERTS[(round / 3) % ALERTS.len()], "resolved").await,
        };
        if let Err(error) = sent {
            debug!(%error, "demo traffic");
        }
    }
}

async fn mail(facts: &Facts, (name, address, subject): (&str, &str, &str)) -> anyhow::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(&facts.smtp).await?);
    let mailbox = &facts.mailboxes[0];
    let id = uuid::Uuid::new_v4().simple();
    let message = format!(
        "From: {name} <{address}>\r\nTo: <{mailbox}>\r\nSubject: {subject}\r\nMessage-ID: <{id}@customer.example>\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\nHello,\r\n\r\n{subject}. Can you help?\r\n\r\n{name}\r\n.\r\n"
    );
    read(&mut stream).await?;
    for line in [
        "EHLO demo\r\n",
        &format!("MAIL FROM:<{address}>\r\n"),
        &format!("RCPT TO:<{mailbox}>\r\n"),
        "DATA\r\n",
        &message,
        "QUIT\r\n",
    ] {
        stream.get_mut().write_all(line.as_bytes()).await?;
        read(&mut stream).await?;
    }
    Ok(())
}

/// One reply of the server, all its lines.
async fn read(stream: &mut BufReader<TcpStream>) -> anyhow::Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        anyhow::ensure!(line.starts_with(['2', '3']), "the mail server said {line:?}");
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}

async fn alert(
    facts: &Facts,
    http: &Client,
    (name, instance, severity): (&str, &str, &str),
    status: &str,
) -> anyhow::Result<()> {
    let Some(hook) = facts.hooks.get("alertmanager") else { return Ok(()) };
    let labels = json!({"alertname": name, "instance": instance, "severity": severity});
    let annotations = json!({"summary": format!("{name} on {instance}")});
    #[expect(
        clippy::disallowed_methods,
        reason = "this plays a foreign system, which has a clock of its own"
    )]
    let now = chrono::Utc::now();
    let starts = (now - EVERY).to_rfc3339();
    let ends = if status == "resolved" { now.to_rfc3339() } else { "0001-01-01T00:00:00Z".to_owned() };
    let payload = json!({
        "version": "4", "groupKey": format!("{{}}:{{alertname={name:?}, instance={instance:?}}}"), "truncatedAlerts": 0, "status": status,
        "receiver": "relaydesk", "groupLabels": labels, "commonLabels": labels, "commonAnnotations": annotations,
        "externalURL": "http://alertmanager.demo.example",
        "alerts": [{"status": status, "labels": labels, "annotations": annotations, "startsAt": starts, "endsAt": ends,
                    "generatorURL": "http://prometheus.demo.example", "fingerprint": format!("{:016x}", name.len() * 31 + instance.len())}],
    });
    http.send(Request::post_json(hook.clone(), &payload)).await?;
    Ok(())
}
