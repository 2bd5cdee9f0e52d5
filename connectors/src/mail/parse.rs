//! Raw bytes to a `domain::mail::Mail`. Whatever the bytes are, the answer is a mail or a reason; the caller keeps the
//! raw message anyhow.
//!
//! Limits, because anybody can send us anything: 256 KB of headers, 500 parts, 30 messages inside each
//! other, 200 recipients that are looked at. Archives are never unpacked.

use super::{html, report};
use domain::EmailAddress;
use domain::mail::{Attachment, Mail, Person, identity, message_id};
use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::{Address, Encoding, Header, Message, MessageParser, MessagePart, MimeHeaders, PartType};

/// The most that `RELAYDESK_MAX_MESSAGE_BYTES` can allow. What is let in is decided at the door by that setting; what was
/// let in is read, also after somebody has lowered it.
pub const MAX_MESSAGE: usize = 256 * 1024 * 1024;
/// Our own trace headers, put before a message that came by SMTP.
const TRACE: usize = 16 * 1024;
pub const MAX_HEADER: usize = 256 * 1024;
pub const MAX_PARTS: usize = 500;
pub const MAX_NESTED_MESSAGES: usize = 30;
const MAX_NESTED_MULTIPARTS: usize = 100;
const MAX_PEOPLE: usize = 200;
/// Of text that is shown; the raw message has all of it.
const MAX_TEXT: usize = 1024 * 1024;

/// Why a message cannot be read. The words end up beside it in the inbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    #[error("the message is empty")]
    Empty,
    #[error("the message is larger than 256 MB")]
    TooLarge,
    #[error("the headers are larger than 256 KB")]
    HeadersTooLarge,
    #[error("the message has more than {MAX_PARTS} parts")]
    TooManyParts,
    #[error("the message is nested too deeply")]
    TooDeep,
    #[error("this is not a mail: no headers were found")]
    NoHeaders,
    #[error("there is no usable sender: neither From nor Sender holds an e-mail address")]
    NoSender,
}

pub fn parse(raw: &[u8]) -> Result<Mail, Unreadable> {
    check_limits(raw)?;
    let message = MessageParser::default().parse(raw).ok_or(Unreadable::NoHeaders)?;
    if message.headers().is_empty() {
        return Err(Unreadable::NoHeaders);
    }
    if message.parts.len() > MAX_PARTS {
        return Err(Unreadable::TooManyParts);
    }
    let headers = headers(raw, message.headers());
    if headers.is_empty() {
        return Err(Unreadable::NoHeaders);
    }
    let from = sender(&message).ok_or(Unreadable::NoSender)?;
    let (mut text, html) = bodies(&message);
    if text.trim().is_empty() && html.is_none() {
        text = undivided(raw, &message).unwrap_or_default();
    }
    let ids = |name: &str| -> Vec<String> {
        headers.iter().filter(|(n, _)| n == name).flat_map(|(_, value)| message_id::all_in(value)).collect()
    };
    Ok(Mail {
        message_id: message.message_id().and_then(message_id::normalise),
        in_reply_to: ids("in-reply-to"),
        references: ids("references"),
        from,
        to: message.all_to().flat_map(people).take(MAX_PEOPLE).collect(),
        cc: message.all_cc().flat_map(people).take(MAX_PEOPLE).collect(),
        subject: one_line(message.subject().unwrap_or_default()),
        text,
        html,
        attachments: attachments(raw, &message),
        report: report::find(&message),
        headers,
    })
}

/// What can be told without parsing. Counts lines that look like MIME headers: a text that talks about MIME a lot could
/// be refused wrongly, and is then in the inbox for a person to see.
fn check_limits(raw: &[u8]) -> Result<(), Unreadable> {
    if raw.trim_ascii().is_empty() {
        return Err(Unreadable::Empty);
    }
    if raw.len() > MAX_MESSAGE + TRACE {
        return Err(Unreadable::TooLarge);
    }
    let (header, _) = identity::split(raw);
    if header.len() > MAX_HEADER {
        return Err(Unreadable::HeadersTooLarge);
    }
    let (mut types, mut messages, mut multiparts) = (0usize, 0usize, 0usize);
    for line in raw.split(|b| *b == b'\n') {
        let Some(value) = strip_prefix_ignore_case(line, b"content-type:") else {
            continue;
        };
        let value = value.trim_ascii_start();
        types += 1;
        messages += usize::from(strip_prefix_ignore_case(value, b"message/").is_some());
        multiparts += usize::from(strip_prefix_ignore_case(value, b"multipart/").is_some());
    }
    if messages > MAX_NESTED_MESSAGES || multiparts > MAX_NESTED_MULTIPARTS {
        return Err(Unreadable::TooDeep);
    }
    if types > MAX_PARTS { Err(Unreadable::TooManyParts) } else { Ok(()) }
}

fn strip_prefix_ignore_case<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, tail) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(tail)
}

/// All headers as they stand: lower-case names, unfolded values.
fn headers(raw: &[u8], headers: &[Header<'_>]) -> Vec<(String, String)> {
    headers
        .iter()
        .filter(|h| h.name.as_str().bytes().all(|b| b.is_ascii_graphic()))
        .filter_map(|header| {
            let value = raw.get(header.offset_start as usize..header.offset_end as usize)?;
            Some((header.name.as_str().to_lowercase(), one_line(&String::from_utf8_lossy(value))))
        })
        .collect()
}

/// From, or where that is missing or no address, Sender.
fn sender(message: &Message<'_>) -> Option<Person> {
    [message.from(), message.sender()].into_iter().flatten().flat_map(people).next()
}

fn people<'a>(address: &'a Address<'a>) -> impl Iterator<Item = Person> + 'a {
    address.iter().filter_map(|found| {
        let address = EmailAddress::parse(found.address()?).ok()?;
        let name: String = one_line(found.name().unwrap_or_default()).chars().take(200).collect();
        Some(Person { name: name.trim_matches(['"', '\'', ' ']).to_owned(), address })
    })
}

fn bodies(message: &Message<'_>) -> (String, Option<String>) {
    let mut text = String::new();
    for part in message.text_bodies() {
        let piece = match &part.body {
            PartType::Text(piece) => clean(piece),
            PartType::Html(piece) => html::to_text(&clean(piece)),
            _ => continue,
        };
        if !text.is_empty() && !piece.trim().is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(piece.trim_end());
        if text.len() > MAX_TEXT {
            let end = (0..=MAX_TEXT).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            text.truncate(end);
            break;
        }
    }
    let html: Vec<String> = message
        .html_bodies()
        .filter_map(|part| match &part.body {
            PartType::Html(piece) => html::sanitise(&clean(piece)),
            _ => None,
        })
        .collect();
    (text, (!html.is_empty()).then(|| html.join("\n<hr>\n")))
}

/// The text of a mail that says it has parts, and not what divides them: shown as it came.
fn undivided(raw: &[u8], message: &Message<'_>) -> Option<String> {
    let root = message.parts.first()?;
    let content_type = root.content_type().filter(|found| found.ctype().eq_ignore_ascii_case("multipart"))?;
    let body = raw.get(root.offset_body as usize..)?;
    let boundary = content_type.attribute("boundary").filter(|boundary| !boundary.is_empty());
    if boundary.is_some_and(|boundary| contains(body, format!("--{boundary}").as_bytes())) {
        return None;
    }
    let shown = &body[..body.len().min(MAX_TEXT)];
    Some(clean(&String::from_utf8_lossy(shown)).trim_end().to_owned())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Without what PostgreSQL cannot store (NUL) and what only confuses terminals and eyes.
fn clean(text: &str) -> String {
    text.replace("\r\n", "\n").chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ")
}

fn attachments(raw: &[u8], message: &Message<'_>) -> Vec<Attachment> {
    message
        .attachments()
        .enumerate()
        .map(|(i, part)| {
            let media_type = media_type(part);
            let inline = matches!(part.body, PartType::InlineBinary(_))
                || part.content_disposition().is_some_and(|d| d.is_inline());
            Attachment {
                file_name: file_name(part, &media_type, i + 1),
                content_id: part.content_id().and_then(message_id::normalise),
                inline,
                bytes: contents(raw, part),
                media_type,
            }
        })
        .collect()
}

/// The bytes as they were attached. The parser has turned text into UTF-8, so that is decoded again from the raw message.
fn contents(raw: &[u8], part: &MessagePart<'_>) -> Vec<u8> {
    let wire = raw.get(part.offset_body as usize..part.offset_end as usize).unwrap_or_default();
    match &part.body {
        PartType::Text(_) | PartType::Html(_) => match part.encoding {
            Encoding::None => Some(wire.to_vec()),
            Encoding::Base64 => base64_decode(wire),
            Encoding::QuotedPrintable => quoted_printable_decode(wire),
        }
        .unwrap_or_else(|| part.contents().to_vec()),
        PartType::Message(inner) if part.encoding == Encoding::None && !wire.is_empty() => {
            let _ = inner;
            wire.to_vec()
        }
        PartType::Message(inner) => inner.raw_message.to_vec(),
        _ => part.contents().to_vec(),
    }
}

fn media_type(part: &MessagePart<'_>) -> String {
    let Some(content_type) = part.content_type() else {
        return if part.is_message() { "message/rfc822" } else { "application/octet-stream" }.to_owned();
    };
    let full = format!("{}/{}", content_type.ctype(), content_type.subtype().unwrap_or("octet-stream"))
        .to_lowercase();
    let token = |c: char| c.is_ascii_alphanumeric() || "/.+-_".contains(c);
    if full.len() <= 127 && full.chars().all(token) { full } else { "application/octet-stream".to_owned() }
}

/// A name that is safe to store and to offer for download: the last part of a path, no control characters.
fn file_name(part: &MessagePart<'_>, media_type: &str, nth: usize) -> String {
    let subject = match &part.body {
        PartType::Message(inner) => inner.subject().map(|subject| format!("{subject}.eml")),
        _ => None,
    };
    let given = part.attachment_name().map(str::to_owned).or(subject).unwrap_or_default();
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|c| !c.is_control() && !BIDI.contains(c)).collect();
    let name = name.trim().trim_start_matches('.').trim();
    if !name.is_empty() {
        // The end of a name says what it is: the middle goes when it is too long.
        let (stem, end) = name.rsplit_once('.').filter(|(_, end)| end.len() <= 10).unwrap_or((name, ""));
        let stem: String = stem.chars().take(180).collect();
        return if end.is_empty() { stem } else { format!("{stem}.{end}") };
    }
    let end = match media_type {
        "text/plain" => "txt",
        "text/html" => "html",
        "text/calendar" => "ics",
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/gif" => "gif",
        "application/pdf" => "pdf",
        "message/rfc822" => "eml",
        _ => "bin",
    };
    format!("attachment-{nth}.{end}")
}

/// Characters that turn the direction of text, and with it `gpj.exe` into `exe.jpg`.
const BIDI: [char; 9] = [
    '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}', '\u{2068}',
    '\u{2069}',
];

/// The return path that the delivering host wrote down, for mail that did not come to our own listener.
pub fn return_path(message: &Mail) -> domain::mail::automatic::ReturnPath<'_> {
    use domain::mail::automatic::ReturnPath;
    match message.header("return-path").map(|v| v.trim().trim_start_matches('<').trim_end_matches('>').trim())
    {
        None => ReturnPath::Unknown,
        Some("") => ReturnPath::Null,
        Some(address) => ReturnPath::Address(address),
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
