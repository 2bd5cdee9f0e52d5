//! An SMTP server that keeps every mail as the bytes it came in (RFC 5321, no TLS, no extensions but SIZE and 8BITMIME).

use super::record::Record;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// One accepted mail.
#[derive(Clone, Debug)]
pub struct Mail {
    pub from: String,
    pub to: Vec<String>,
    /// Headers and body, the dots of the transport removed.
    pub raw: Vec<u8>,
}

impl Mail {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// The value of the first header of that name, unfolded.
    pub fn header(&self, name: &str) -> Option<String> {
        let text = self.text();
        let head =
            text.split("\r\n\r\n").next().unwrap_or_default().replace("\r\n ", " ").replace("\r\n\t", " ");
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    }
}

/// Accepts everything unless told otherwise. Stops when dropped.
#[derive(Debug)]
pub struct SmtpSink {
    address: SocketAddr,
    shared: Shared,
    server: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Shared {
    mails: Record<Mail>,
    /// Replies to the end of DATA that are not 250.
    refusals: Arc<Mutex<VecDeque<String>>>,
}

impl SmtpSink {
    pub async fn start() -> SmtpSink {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Shared { mails: Record::new(), refusals: Arc::default() };
        let accepting = shared.clone();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, accepting.clone()));
            }
        });
        SmtpSink { address, shared, server }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `smtp://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    /// The next mails get these replies instead of a 250, one each, for example `451 4.3.0 try again later`.
    pub fn refuse(&self, replies: impl IntoIterator<Item = impl Into<String>>) {
        self.shared
            .refusals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(replies.into_iter().map(Into::into));
    }

    pub fn mails(&self) -> Vec<Mail> {
        self.shared.mails.all()
    }

    /// All mails, as soon as there are at least `n`; panics after `timeout`.
    pub async fn wait_for(&self, n: usize, timeout: Duration) -> Vec<Mail> {
        self.shared.mails.wait_for("mails", n, timeout).await
    }

    /// All of them, as soon as they are as `good` wants them; panics after a minute, naming `what`.
    pub async fn until(&self, what: &str, good: impl Fn(&[Mail]) -> bool) -> Vec<Mail> {
        self.shared.mails.until(what, good).await
    }
}

impl Drop for SmtpSink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// One connection. An I/O error ends it: the client hung up.
async fn serve(stream: TcpStream, shared: Shared) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read);
    let (mut from, mut to) = (String::new(), Vec::new());
    write.write_all(b"220 sink.example ESMTP\r\n").await?;
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => "250-sink.example\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 52428800",
            "HELO" | "NOOP" => "250 ok",
            "MAIL" => {
                from = address(&line);
                to.clear();
                "250 ok"
            }
            "RCPT" => {
                to.push(address(&line));
                "250 ok"
            }
            "RSET" => {
                to.clear();
                "250 ok"
            }
            "DATA" if to.is_empty() => "503 no recipient",
            "DATA" => {
                write.write_all(b"354 go on\r\n").await?;
                let raw = read_data(&mut lines).await?;
                let refusal = shared.refusals.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                if let Some(reply) = refusal {
                    write.write_all(format!("{reply}\r\n").as_bytes()).await?;
                    continue;
                }
                shared.mails.push(Mail { from: from.clone(), to: std::mem::take(&mut to), raw });
                "250 kept"
            }
            "QUIT" => {
                write.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => "502 not known here",
        };
        write.write_all(format!("{reply}\r\n").as_bytes()).await?;
    }
}

/// Up to the line with a single dot; doubled dots at the start of a line become one (RFC 5321, 4.5.2).
async fn read_data(lines: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut raw = Vec::new();
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if line == b".\r\n" {
            return Ok(raw);
        }
        raw.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

/// What stands between `<` and `>`.
fn address(line: &str) -> String {
    let inside = line.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    inside.map(|(address, _)| address.to_owned()).unwrap_or_default()
}
