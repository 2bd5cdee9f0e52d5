//! One connection.

use super::{DataReader, Deliver, Envelope, Room, Server, Verdict};
use domain::EmailAddress;
use smtp_proto::{MAIL_BODY_BINARYMIME, MAIL_SMTPUTF8, Request};
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Longer command lines are refused (RFC 5321 asks for 512, parameters of extensions come on top).
const MAX_LINE: usize = 4096;
/// More hops than this are a loop (RFC 5321, 6.3).
const MAX_HOPS: usize = 50;

struct Session<'a, D> {
    server: &'a Server<D>,
    stream: TcpStream,
    peer: IpAddr,
    /// Bytes that came and were not used yet.
    input: Vec<u8>,
    /// Answers that were not sent yet: with pipelining many go at once.
    output: Vec<u8>,
    helo: Option<(String, &'static str)>,
    mail: Option<Transaction<'a, D>>,
    errors: usize,
}

struct Transaction<'a, D> {
    sender: Option<String>,
    smtputf8: bool,
    recipients: Vec<EmailAddress>,
    /// Chunks of BDAT so far.
    chunks: Vec<u8>,
    room: Room<'a, D>,
    /// Why the message will be refused when it is complete.
    refuse: Option<&'static str>,
}

enum Next {
    Continue,
    Close,
}

const TOO_BIG: &str = "552 5.3.4 the message is too big";
const NO_ROOM: &str = "452 4.3.1 too many messages at once, try again later";

pub(super) async fn run<D: Deliver>(
    server: &Server<D>,
    stream: TcpStream,
    peer: IpAddr,
    has_seat: bool,
) -> io::Result<()> {
    let _ = stream.set_nodelay(true);
    let (input, output) = (Vec::new(), Vec::new());
    let mut session = Session { server, stream, peer, input, output, helo: None, mail: None, errors: 0 };
    session.serve(has_seat).await
}

impl<D: Deliver> Session<'_, D> {
    async fn serve(&mut self, has_seat: bool) -> io::Result<()> {
        let hostname = self.server.limits.hostname.clone();
        if !has_seat {
            self.say(&format!("421 4.7.0 {hostname} has too many connections, try again later"));
            return self.flush().await;
        }
        self.say(&format!("220 {hostname} ESMTP Relaydesk"));
        loop {
            let line = match self.line().await? {
                Line::Command(line) => line,
                Line::TooLong => {
                    self.fail("500 5.5.2 the line is too long");
                    self.check_errors().await?;
                    continue;
                }
                Line::Stop => {
                    self.say(&format!("421 4.3.2 {hostname} is shutting down, try again later"));
                    return self.flush().await;
                }
                Line::Silence => {
                    self.say(&format!("421 4.4.2 {hostname} has waited long enough"));
                    return self.flush().await;
                }
                Line::End => return Ok(()),
            };
            if let Next::Close = self.command(&line).await? {
                return self.flush().await;
            }
            self.check_errors().await?;
        }
    }

    async fn check_errors(&mut self) -> io::Result<()> {
        if self.errors > self.server.limits.errors {
            self.say("421 4.7.0 too many errors");
            self.flush().await?;
            return Err(io::Error::other("too many errors"));
        }
        Ok(())
    }

    async fn command(&mut self, line: &[u8]) -> io::Result<Next> {
        let request = match Request::parse(&mut line.iter()) {
            Ok(request) => request.into_owned(),
            Err(error) => {
                self.fail(match error {
                    smtp_proto::Error::UnknownCommand => "500 5.5.1 there is no such command",
                    smtp_proto::Error::InvalidSenderAddress => "501 5.1.7 this is no sender's address",
                    smtp_proto::Error::InvalidRecipientAddress => "501 5.1.3 this is no recipient's address",
                    smtp_proto::Error::UnsupportedParameter { .. } => "555 5.5.4 there is no such parameter",
                    _ => "501 5.5.4 syntax error in the parameters",
                });
                return Ok(Next::Continue);
            }
        };
        match request {
            Request::Ehlo { host } => self.ehlo(&host),
            Request::Helo { host } => {
                self.mail = None;
                self.helo = Some((helo_name(&host), "SMTP"));
                let hostname = self.server.limits.hostname.clone();
                self.say(&format!("250 {hostname}"));
            }
            Request::Mail { from } => self.mail_from(&from.address, from.flags, from.size),
            Request::Rcpt { to } => self.rcpt_to(&to.address).await?,
            Request::Data => return self.data().await,
            Request::Bdat { chunk_size, is_last } => return self.bdat(chunk_size, is_last).await,
            Request::Rset => {
                self.mail = None;
                self.say("250 2.0.0 forgotten");
            }
            Request::Noop { .. } => self.say("250 2.0.0 nothing done"),
            Request::Quit => {
                self.say("221 2.0.0 good bye");
                return Ok(Next::Close);
            }
            Request::Vrfy { .. } => self.say("252 2.5.0 send the mail and see"),
            Request::Help { .. } => self.say("214 2.0.0 RFC 5321"),
            other => {
                let name = other.name();
                self.fail(&format!("502 5.5.1 {name} is not offered"));
            }
        }
        Ok(Next::Continue)
    }

    fn ehlo(&mut self, host: &str) {
        self.mail = None;
        self.helo = Some((helo_name(host), "ESMTP"));
        let (hostname, size) = (self.server.limits.hostname.clone(), self.server.limits.message);
        self.say(&format!("250-{hostname}"));
        for extension in ["PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES"] {
            self.say(&format!("250-{extension}"));
        }
        self.say(&format!("250 SIZE {size}"));
    }

    fn mail_from(&mut self, sender: &str, flags: u64, size: usize) {
        if self.helo.is_none() {
            return self.fail("503 5.5.1 say EHLO first");
        }
        if self.mail.is_some() {
            return self.fail("503 5.5.1 there is a sender already");
        }
        if flags & MAIL_BODY_BINARYMIME != 0 {
            return self.fail("501 5.5.4 BODY=BINARYMIME is not offered");
        }
        if size > self.server.limits.message {
            return self.fail(TOO_BIG);
        }
        if sender.chars().any(|c| c.is_control() || c == '<' || c == '>') {
            return self.fail("501 5.1.7 this is no sender's address");
        }
        self.mail = Some(Transaction {
            sender: (!sender.is_empty()).then(|| sender.to_owned()),
            smtputf8: flags & MAIL_SMTPUTF8 != 0,
            recipients: Vec::new(),
            chunks: Vec::new(),
            room: Room::new(self.server),
            refuse: None,
        });
        self.say("250 2.1.0 sender taken");
    }

    async fn rcpt_to(&mut self, recipient: &str) -> io::Result<()> {
        let Some(mail) = &self.mail else {
            self.fail("503 5.5.1 say MAIL first");
            return Ok(());
        };
        if mail.recipients.len() >= self.server.limits.recipients {
            self.say("452 4.5.3 too many recipients");
            return Ok(());
        }
        let Ok(address) = EmailAddress::parse(recipient) else {
            self.fail("550 5.1.1 there is no such mailbox here");
            return Ok(());
        };
        match self.server.deliver.accepts(&address).await {
            Verdict::Yes => {
                if let Some(mail) = &mut self.mail
                    && !mail.recipients.contains(&address)
                {
                    mail.recipients.push(address);
                }
                self.say("250 2.1.5 recipient taken");
            }
            Verdict::NotNow(why) => self.say(&format!("451 4.3.0 {}", printable(&why))),
            Verdict::Never(why) => self.fail(&format!("550 5.1.1 {}", printable(&why))),
        }
        Ok(())
    }

    async fn data(&mut self) -> io::Result<Next> {
        match &self.mail {
            None => {
                self.fail("503 5.5.1 say MAIL first");
                return Ok(Next::Continue);
            }
            Some(mail) if mail.recipients.is_empty() => {
                self.fail("554 5.5.1 no valid recipients");
                return Ok(Next::Continue);
            }
            Some(mail) if !mail.chunks.is_empty() => {
                self.fail("503 5.5.1 the message began with BDAT");
                return Ok(Next::Continue);
            }
            Some(_) => {}
        }
        self.say("354 end with CR LF . CR LF");
        let deadline = Instant::now() + self.server.limits.message_time;
        let mut reader = DataReader::default();
        let (mut message, mut room, mut total) = (Vec::new(), Room::new(self.server), 0usize);
        let mut refuse = None;
        loop {
            let used = reader.take(&self.input, &mut message);
            total += used.unwrap_or(self.input.len());
            self.input.drain(..used.unwrap_or(self.input.len()));
            grow(&mut message, &mut room, &mut refuse);
            if used.is_some() {
                break;
            }
            let flooded = total > self.server.limits.message.saturating_mul(2);
            if flooded || !self.fill(deadline).await? {
                self.say(if flooded { TOO_BIG } else { "421 4.4.2 the message took too long" });
                return Ok(Next::Close);
            }
        }
        let answer = match refuse {
            Some(refusal) => refusal.to_owned(),
            None => self.deliver(message).await,
        };
        drop(room);
        self.mail = None;
        self.say(&answer);
        Ok(Next::Continue)
    }

    async fn bdat(&mut self, size: usize, last: bool) -> io::Result<Next> {
        let deadline = Instant::now() + self.server.limits.message_time;
        // The chunk follows whatever we answer, so it must be read.
        if size > self.server.limits.message.saturating_mul(2) {
            self.say(TOO_BIG);
            return Ok(Next::Close);
        }
        let Some(mut mail) = self.mail.take() else {
            if !self.skip(size, deadline).await? {
                return Ok(Next::Close);
            }
            self.fail("503 5.5.1 say MAIL first");
            return Ok(Next::Continue);
        };
        let mut left = size;
        loop {
            let length = left.min(self.input.len());
            mail.chunks.extend(self.input.drain(..length));
            left -= length;
            grow(&mut mail.chunks, &mut mail.room, &mut mail.refuse);
            if left == 0 {
                break;
            }
            if !self.fill(deadline).await? {
                return Ok(Next::Close);
            }
        }
        let refusal =
            if mail.recipients.is_empty() { Some("554 5.5.1 no valid recipients") } else { mail.refuse };
        if let Some(refusal) = refusal {
            self.fail(refusal);
            if !last {
                mail.chunks = Vec::new();
                mail.room.clear();
                mail.refuse = Some(refusal);
                self.mail = Some(mail);
            }
            return Ok(Next::Continue);
        }
        if !last {
            self.mail = Some(mail);
            self.say(&format!("250 2.0.0 {size} bytes taken"));
            return Ok(Next::Continue);
        }
        let message = std::mem::take(&mut mail.chunks);
        self.mail = Some(mail);
        let answer = self.deliver(message).await;
        self.mail = None;
        self.say(&answer);
        Ok(Next::Continue)
    }

    async fn deliver(&mut self, message: Vec<u8>) -> String {
        if hops(&message) > MAX_HOPS {
            return "554 5.4.6 this mail goes in circles: too many Received headers".to_owned();
        }
        let (Some(mail), Some((helo, protocol))) = (&self.mail, &self.helo) else {
            return "503 5.5.1 say EHLO first".to_owned();
        };
        let envelope = Envelope {
            helo: helo.clone(),
            peer: self.peer,
            sender: mail.sender.clone(),
            recipients: mail.recipients.clone(),
            protocol,
            smtputf8: mail.smtputf8,
        };
        match self.server.deliver.deliver(&envelope, message).await {
            Verdict::Yes => "250 2.0.0 kept".to_owned(),
            Verdict::NotNow(why) => format!("451 4.3.0 {}", printable(&why)),
            Verdict::Never(why) => format!("554 5.6.0 {}", printable(&why)),
        }
    }

    async fn line(&mut self) -> io::Result<Line> {
        let mut too_long = false;
        let deadline = Instant::now() + self.server.limits.idle;
        loop {
            if let Some(end) = self.input.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.input.drain(..=end).collect();
                return Ok(if too_long || line.len() > MAX_LINE {
                    Line::TooLong
                } else {
                    Line::Command(line)
                });
            }
            if self.input.len() > MAX_LINE {
                too_long = true;
                self.input.clear();
            }
            self.flush().await?;
            let stop = self.server.stop.clone();
            let filled = tokio::select! {
                () = stop.cancelled() => return Ok(Line::Stop),
                filled = self.fill(deadline) => filled,
            };
            match filled {
                Ok(true) => {}
                Ok(false) => return Ok(Line::Silence),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Line::End),
                Err(error) => return Err(error),
            }
        }
    }

    async fn skip(&mut self, size: usize, deadline: Instant) -> io::Result<bool> {
        let mut left = size;
        loop {
            let length = left.min(self.input.len());
            self.input.drain(..length);
            left -= length;
            if left == 0 {
                return Ok(true);
            }
            if !self.fill(deadline).await? {
                return Ok(false);
            }
        }
    }

    /// Reads what there is; false when nothing came in time.
    async fn fill(&mut self, deadline: Instant) -> io::Result<bool> {
        self.flush().await?;
        self.input.reserve(64 * 1024);
        let patience = self.server.limits.idle.min(deadline.saturating_duration_since(Instant::now()));
        match timeout(patience, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) => Err(error),
            Err(_) => Ok(false),
        }
    }

    fn say(&mut self, line: &str) {
        self.output.extend_from_slice(line.as_bytes());
        self.output.extend_from_slice(b"\r\n");
    }

    /// An answer to a mistake of the client; too many end the session.
    fn fail(&mut self, line: &str) {
        self.errors += 1;
        self.say(line);
    }

    async fn flush(&mut self) -> io::Result<()> {
        if !self.output.is_empty() {
            match timeout(Duration::from_secs(60), self.stream.write_all(&self.output)).await {
                Ok(written) => written?,
                Err(_) => return Err(io::ErrorKind::TimedOut.into()),
            }
            self.output.clear();
        }
        Ok(())
    }
}

/// Takes memory for what has come; a message that may not grow is read to its end and thrown away.
fn grow<D>(message: &mut Vec<u8>, room: &mut Room<'_, D>, refuse: &mut Option<&'static str>) {
    if refuse.is_none() {
        if message.len() > room.server.limits.message {
            *refuse = Some(TOO_BIG);
        } else if !room.grow_to(message.len()) {
            *refuse = Some(NO_ROOM);
        }
    }
    if refuse.is_some() {
        *message = Vec::new();
        room.clear();
    }
}

enum Line {
    Command(Vec<u8>),
    TooLong,
    Stop,
    Silence,
    End,
}

/// What a client calls itself, fit for a header.
fn helo_name(host: &str) -> String {
    let name: String =
        host.chars().filter(|c| c.is_ascii_alphanumeric() || ".-_:[]".contains(*c)).take(255).collect();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() { c } else { ' ' }).take(200).collect()
}

fn hops(message: &[u8]) -> usize {
    let (header, _) = domain::mail::identity::split(message);
    header
        .split(|b| *b == b'\n')
        .filter(|line| line.get(..9).is_some_and(|name| name.eq_ignore_ascii_case(b"received:")))
        .count()
}
