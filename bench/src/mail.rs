//! From SMTP to durable tickets: `count` different mails of `size` bytes over `connections` parallel sessions, each
//! session sending one mail after the other and waiting for its 250. The clock stops when the last mail is a ticket.

use crate::demo::Demo;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

#[derive(clap::Args)]
pub struct Args {
    #[arg(long, default_value_t = 2000)]
    count: usize,
    /// Bytes of each mail
    #[arg(long, default_value_t = 50_000)]
    size: usize,
    #[arg(long, default_value_t = 16)]
    connections: usize,
}

pub async fn run(args: Args) -> Result<Value> {
    let demo = Demo::start().await?;
    let mailbox = demo.facts["mailboxes"][0].as_str().context("no mailbox in demo.json")?.to_owned();
    let before = tickets(&demo).await?;
    let began = Instant::now();
    let sessions: Vec<_> = (0..args.connections)
        .map(|session| {
            let (smtp, mailbox) = (demo.smtp, mailbox.clone());
            let numbers: Vec<usize> = (session..args.count).step_by(args.connections).collect();
            tokio::spawn(async move { send(smtp, &mailbox, &numbers, args.size).await })
        })
        .collect();
    for session in sessions {
        session.await??;
    }
    let accepted = began.elapsed();
    while tickets(&demo).await? - before < args.count as f64 {
        ensure!(
            began.elapsed() < Duration::from_secs(600),
            "not all mails became tickets within ten minutes"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let done = began.elapsed();
    demo.stop().await?;
    Ok(json!({
        "bench": "mail", "mails": args.count, "bytes": args.size, "connections": args.connections,
        "accepted_per_second": args.count as f64 / accepted.as_secs_f64(),
        "tickets_per_second": args.count as f64 / done.as_secs_f64(),
    }))
}

async fn tickets(demo: &Demo) -> Result<f64> {
    demo.metric("relaydesk_mail_ingest_total", "opened").await
}

async fn send(smtp: SocketAddr, mailbox: &str, numbers: &[usize], size: usize) -> Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(smtp).await?);
    expect(&mut stream, "220").await?;
    command(&mut stream, "EHLO bench.example", "250").await?;
    for number in numbers {
        command(&mut stream, &format!("MAIL FROM:<user{number}@bench.example>"), "250").await?;
        command(&mut stream, &format!("RCPT TO:<{mailbox}>"), "250").await?;
        command(&mut stream, "DATA", "354").await?;
        command(&mut stream, &message(mailbox, *number, size), "250").await?;
    }
    command(&mut stream, "QUIT", "221").await
}

fn message(mailbox: &str, number: usize, size: usize) -> String {
    let line = "The quick brown fox jumps over the lazy dog while the printer is on fire again.\r\n";
    format!(
        "From: User {number} <user{number}@bench.example>\r\nTo: <{mailbox}>\r\nSubject: bench mail {number}\r\n\
         Message-ID: <{number}.{}@bench.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{}.",
        std::process::id(),
        line.repeat(size / line.len()),
    )
}

async fn command(stream: &mut BufReader<TcpStream>, line: &str, code: &str) -> Result<()> {
    stream.get_mut().write_all(line.as_bytes()).await?;
    stream.get_mut().write_all(b"\r\n").await?;
    expect(stream, code).await
}

async fn expect(stream: &mut BufReader<TcpStream>, code: &str) -> Result<()> {
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        ensure!(line.starts_with(code), "expected {code}, got {line:?}");
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(());
        }
    }
}
