//! Delivery reports (RFC 3464) and their kin: which of our mails they are about.

use domain::mail::{Report, message_id};
use mail_parser::{Message, MimeHeaders, PartType};

/// The report in a `multipart/report` message, as far as it can be read.
pub fn find(message: &Message<'_>) -> Option<Report> {
    let content_type = message.content_type()?;
    let is_report = content_type.ctype().eq_ignore_ascii_case("multipart")
        && content_type.subtype().is_some_and(|s| s.eq_ignore_ascii_case("report"));
    if !is_report {
        return None;
    }
    let kind = content_type.attribute("report-type").unwrap_or("delivery-status").to_lowercase();
    let mut report = Report { kind, ..Report::default() };
    for part in &message.parts {
        let subtype = part.content_type().and_then(|t| t.subtype()).unwrap_or("").to_lowercase();
        match (&part.body, subtype.as_str()) {
            (_, "delivery-status" | "global-delivery-status" | "disposition-notification") => {
                status(&String::from_utf8_lossy(part.contents()), &mut report);
            }
            (PartType::Message(original), _) => {
                report.original_message_id = original.message_id().and_then(message_id::normalise);
            }
            (_, "rfc822-headers" | "global-headers") => {
                if let Some(id) = field(&String::from_utf8_lossy(part.contents()), "message-id") {
                    report.original_message_id = message_id::normalise(&id);
                }
            }
            _ => {}
        }
    }
    Some(report)
}

fn status(text: &str, report: &mut Report) {
    let short = |value: String| value.chars().take(300).collect::<String>();
    report.action = field(text, "action").map(|v| v.to_lowercase()).map(short);
    report.status = field(text, "status").map(short);
    // `rfc822; bob@example.org`
    report.recipient = field(text, "final-recipient")
        .map(|value| value.rsplit_once(';').map_or(value.clone(), |(_, address)| address.trim().to_owned()))
        .map(short);
    if let Some(id) = field(text, "original-message-id") {
        report.original_message_id = message_id::normalise(&id);
    }
}

/// The first field of that name, unfolded.
fn field(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((found, value)) = line.split_once(':') else {
            continue;
        };
        if !found.trim().eq_ignore_ascii_case(name) {
            continue;
        }
        let mut value = value.trim().to_owned();
        for more in lines.by_ref().take_while(|l| l.starts_with([' ', '\t'])) {
            value.push(' ');
            value.push_str(more.trim());
        }
        return Some(value);
    }
    None
}
