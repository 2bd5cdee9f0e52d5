//! The plainest mail clients: one text mail, and a session whose every reply the test sees.

use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use std::net::SocketAddr;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// Sends one text mail and answers its Message-ID.
///
/// # Panics
/// When the server does not take it.
pub async fn send_mail(smtp: SocketAddr, from: &str, to: &str, subject: &str, text: &str) -> String {
    let id = format!("<{}@testkit.example>", uuid::Uuid::new_v4().simple());
    let mail = Message::builder()
        .from(from.parse::<Mailbox>().expect("a sender"))
        .to(to.parse::<Mailbox>().expect("a recipient"))
        .subject(subject)
        .message_id(Some(id.clone()))
        .body(text.to_owned())
        .expect("a mail");
    AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(smtp.ip().to_string())
        .port(smtp.port())
        .build()
        .send(mail)
        .await
        .expect("the mail is taken");
    id
}

/// An SMTP session, line by line.
#[derive(Debug)]
pub struct SmtpClient {
    stream: BufReader<TcpStream>,
}

impl SmtpClient {
    /// Connects and says EHLO.
    pub async fn connect(smtp: SocketAddr) -> std::io::Result<SmtpClient> {
        let mut client = SmtpClient { stream: BufReader::new(TcpStream::connect(smtp).await?) };
        for reply in [client.reply().await?, client.say("EHLO client.example").await?] {
            if !reply.starts_with('2') {
                return Err(std::io::Error::other(reply));
            }
        }
        Ok(client)
    }

    /// One command, or a message with its end mark; answers the last line of the reply.
    pub async fn say(&mut self, line: &str) -> std::io::Result<String> {
        self.stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).await?;
        self.reply().await
    }

    /// The reply to the first command that was not taken, or else to the message.
    pub async fn send(&mut self, from: &str, to: &str, message: &str) -> std::io::Result<String> {
        for command in [format!("MAIL FROM:<{from}>"), format!("RCPT TO:<{to}>"), "DATA".to_owned()] {
            let reply = self.say(&command).await?;
            if !reply.starts_with(['2', '3']) {
                self.say("RSET").await?;
                return Ok(reply);
            }
        }
        self.say(&format!("{message}\r\n.")).await
    }

    async fn reply(&mut self) -> std::io::Result<String> {
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line.trim_end().to_owned());
            }
        }
    }
}
