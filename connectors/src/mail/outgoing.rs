//! Mails that leave: built with care for threading and loops, handed to one SMTP relay.
//!
//! RFC 3834: what no person wrote says so (`Auto-Submitted`), and an automatic answer has a null envelope sender, so
//! that nothing answers it. RFC 5322, 3.6.4: `In-Reply-To` and `References` keep a conversation together.

use super::folder::Folder;
use chrono::{DateTime, Utc};
use domain::EmailAddress;
use domain::mail::{LOOP_HEADER, message_id};
use lettre::address::Envelope;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, Message, MultiPart, SinglePart};
use lettre::transport::smtp::PoolConfig;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use serde::{Deserialize, Serialize};
use std::error::Error as _;
use std::time::Duration;

/// More references than this are not repeated; the first and the newest stay.
const MAX_REFERENCES: usize = 20;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outgoing {
    pub from: EmailAddress,
    pub from_name: String,
    pub to: EmailAddress,
    pub to_name: Option<String>,
    pub subject: String,
    pub text: String,
    pub html: Option<String>,
    /// The same for every attempt to deliver this mail. With or without angle brackets.
    pub message_id: String,
    pub in_reply_to: Option<String>,
    /// Oldest first.
    pub references: Vec<String>,
    /// `auto-replied`, `auto-generated`; `None` for words that a person wrote.
    pub auto_submitted: Option<String>,
    /// The organization's id: how we recognise our own mail when it comes back.
    pub loop_mark: Option<String>,
    pub date: DateTime<Utc>,
    pub files: Vec<File>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    pub name: String,
    pub media_type: String,
    #[serde(with = "crate::bytes64")]
    pub bytes: Vec<u8>,
}

/// What the relay said when it took the mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    pub code: u16,
    pub response: String,
}

/// Why it did not, and whether to try again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// 4yz: try again later.
    #[error("the relay says not now: {code} {response}")]
    Transient { code: u16, response: String },
    /// 5yz: never again.
    #[error("the relay refuses: {code} {response}")]
    Permanent { code: u16, response: String },
    /// No connection, TLS failure, timeout: try again later.
    #[error("the relay cannot be reached: {0}")]
    Unreachable(String),
    /// The mail itself cannot be written, for example an address with a character that mail does not know.
    #[error("the mail cannot be built: {0}")]
    Unsendable(String),
}

impl Refused {
    pub fn is_permanent(&self) -> bool {
        matches!(self, Refused::Permanent { .. } | Refused::Unsendable(_))
    }

    pub fn code(&self) -> Option<u16> {
        match self {
            Refused::Transient { code, .. } | Refused::Permanent { code, .. } => Some(*code),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "{0}; expected smtp://host:25, smtp://user:password@host:587?tls=required, smtps://user:password@host or file:///folder"
)]
pub struct InvalidRelay(String);

/// Sends through one relay, over few kept connections, or writes files. Cheap to clone.
#[derive(Clone)]
pub struct Mailer {
    way: Way,
}

#[derive(Clone)]
enum Way {
    Relay(AsyncSmtpTransport<Tokio1Executor>),
    Folder(Folder),
}

impl std::fmt::Debug for Mailer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The relay's URL holds a password.
        f.write_str("Mailer")
    }
}

impl Mailer {
    /// `url`: `smtp://`, `smtps://`, with credentials and `?tls=required|opportunistic` where wanted, or `file://`.
    pub fn new(url: &str) -> Result<Self, InvalidRelay> {
        if url.starts_with("file:") {
            let url = url::Url::parse(url).map_err(|error| InvalidRelay(error.to_string()))?;
            let path = url.to_file_path().map_err(|()| InvalidRelay("not an absolute folder".into()))?;
            return Ok(Mailer { way: Way::Folder(Folder(path)) });
        }
        let reason = |error: lettre::transport::smtp::Error| {
            InvalidRelay(error.source().map_or_else(|| error.to_string(), ToString::to_string))
        };
        let pool = PoolConfig::new().max_size(4).idle_timeout(Duration::from_secs(15));
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
            .map_err(reason)?
            .timeout(Some(Duration::from_secs(20)))
            .pool_config(pool)
            .build();
        Ok(Mailer { way: Way::Relay(transport) })
    }

    pub async fn send(&self, mail: &Outgoing) -> Result<Accepted, Refused> {
        let message = build(mail)?;
        match &self.way {
            Way::Relay(transport) => match transport.send(message).await {
                Ok(response) => {
                    let lines: Vec<&str> = response.message().collect();
                    Ok(Accepted { code: response.code().into(), response: lines.join(" ") })
                }
                Err(error) => Err(classify(&error)),
            },
            Way::Folder(folder) => match folder.keep(&mail.message_id, &message.formatted()).await {
                Ok(path) => Ok(Accepted { code: 250, response: format!("written to {}", path.display()) }),
                Err(error) => Err(Refused::Unreachable(error.to_string())),
            },
        }
    }
}

fn classify(error: &lettre::transport::smtp::Error) -> Refused {
    let text = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    match error.status().map(u16::from) {
        Some(code) if error.is_permanent() => Refused::Permanent { code, response: text },
        Some(code) => Refused::Transient { code, response: text },
        // For example an address with letters beyond ASCII and a relay without SMTPUTF8.
        None if error.is_client() => Refused::Unsendable(text),
        None => Refused::Unreachable(error.to_string()),
    }
}

/// The message as it goes over the wire. Header values are encoded or refused, never copied: no text can add a header.
pub fn build(mail: &Outgoing) -> Result<Message, Refused> {
    let to = address(&mail.to)?;
    let from = address(&mail.from)?;
    let id = message_id::normalise(&mail.message_id)
        .filter(|id| id.is_ascii() && !id.contains(' '))
        .ok_or_else(|| Refused::Unsendable("the Message-ID is not one".into()))?;
    let mut builder = Message::builder()
        .from(Mailbox::new(name(&mail.from_name), from.clone()))
        .to(Mailbox::new(mail.to_name.as_deref().and_then(name), to.clone()))
        .subject(one_line(&mail.subject))
        .date(mail.date.into())
        .message_id(Some(format!("<{id}>")));
    if let Some(answered) = mail.in_reply_to.as_deref().and_then(known_id) {
        builder = builder.in_reply_to(answered);
    }
    let references = references(mail);
    if !references.is_empty() {
        builder = builder.references(references.join(" "));
    }
    if let Some(kind) = &mail.auto_submitted {
        builder = builder
            .raw_header(header("Auto-Submitted", kind))
            .raw_header(header("X-Auto-Response-Suppress", "All"));
    }
    if let Some(mark) = &mail.loop_mark {
        builder = builder.raw_header(header(LOOP_HEADER, mark));
    }
    let null_sender = mail.auto_submitted.as_deref() == Some("auto-replied");
    let envelope = Envelope::new((!null_sender).then_some(from), vec![to]).map_err(unsendable)?;
    builder.envelope(envelope).multipart(body(mail)?).map_err(unsendable)
}

fn body(mail: &Outgoing) -> Result<MultiPart, Refused> {
    let words = match &mail.html {
        Some(html) => MultiPart::alternative_plain_html(mail.text.clone(), html.clone()),
        None => MultiPart::mixed().singlepart(SinglePart::plain(mail.text.clone())),
    };
    if mail.files.is_empty() {
        return Ok(words);
    }
    let mut mixed = MultiPart::mixed().multipart(words);
    for file in &mail.files {
        let media_type = ContentType::parse(&file.media_type).map_err(unsendable)?;
        mixed = mixed.singlepart(Attachment::new(one_line(&file.name)).body(file.bytes.clone(), media_type));
    }
    Ok(mixed)
}

fn references(mail: &Outgoing) -> Vec<String> {
    let mut all: Vec<String> = mail.references.iter().filter_map(|id| known_id(id)).collect();
    if let Some(answered) = mail.in_reply_to.as_deref().and_then(known_id)
        && !all.contains(&answered)
    {
        all.push(answered);
    }
    if all.len() > MAX_REFERENCES {
        all.drain(1..all.len() - (MAX_REFERENCES - 1));
    }
    all
}

/// An id of somebody else, fit for a header; others are left out.
fn known_id(id: &str) -> Option<String> {
    let id = message_id::normalise(id)?;
    (id.is_ascii() && id.len() <= 250 && !id.contains(char::is_whitespace)).then(|| format!("<{id}>"))
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), one_line(value))
}

fn name(text: &str) -> Option<String> {
    let name: String = one_line(text).chars().take(100).collect();
    (!name.is_empty()).then_some(name)
}

fn address(address: &EmailAddress) -> Result<Address, Refused> {
    Address::new(address.local_part(), address.host()).map_err(unsendable)
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ")
}

fn unsendable(error: impl std::fmt::Display) -> Refused {
    Refused::Unsendable(error.to_string())
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
