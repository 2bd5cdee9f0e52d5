//! The plainest mail client: one text mail.

use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use std::net::SocketAddr;

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
