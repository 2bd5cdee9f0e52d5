//! Mail as the service desk understands it, and what it decides about it. Reading the wire format is the business of
//! `connectors::mail`; nothing here does I/O.

pub mod automatic;
pub mod identity;
pub mod message_id;
pub mod quote;
pub mod senders;
pub mod thread;

use crate::EmailAddress;
use crate::ticket::text::is_visible;
pub use automatic::{Automatic, may_answer};
pub use senders::SenderPolicy;
pub use thread::{Decision, Facts, Hit, Ignored, decide};

/// The line above which people write when they answer our mails. Stands in every mail template.
pub const REPLY_LINE: &str = "-- Please write your answer above this line --";

/// The header that marks our own mails; its value is the organization's id. Coming back, it ends a loop.
pub const LOOP_HEADER: &str = "X-Relaydesk-Loop";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The display name; empty when none was given.
    pub name: String,
    pub address: EmailAddress,
}

#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    pub file_name: String,
    pub media_type: String,
    /// Without angle brackets; HTML refers to it as `cid:…`.
    pub content_id: Option<String>,
    /// The sender wanted it shown in the text (a signature's logo, a screenshot).
    pub inline: bool,
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attachment({:?}, {}, {} bytes)", self.file_name, self.media_type, self.bytes.len())
    }
}

/// What a delivery report says (RFC 3464), as far as it could be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `delivery-status`, `disposition-notification` …
    pub kind: String,
    /// `failed`, `delayed`, `delivered` …
    pub action: Option<String>,
    /// For example `5.1.1` (RFC 3463).
    pub status: Option<String>,
    pub recipient: Option<String>,
    /// The Message-ID of the mail that it is about.
    pub original_message_id: Option<String>,
}

/// A mail that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// Without angle brackets.
    pub message_id: Option<String>,
    pub in_reply_to: Vec<String>,
    /// Oldest first, as in the header.
    pub references: Vec<String>,
    pub from: Person,
    pub to: Vec<Person>,
    pub cc: Vec<Person>,
    /// One line.
    pub subject: String,
    /// The readable text; made from the HTML when there was no text part.
    pub text: String,
    /// The HTML part, sanitised.
    pub html: Option<String>,
    pub attachments: Vec<Attachment>,
    /// All headers of the message: names in lower case, values unfolded.
    pub headers: Vec<(String, String)>,
    pub report: Option<Report>,
}

impl Mail {
    /// The first header of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The title of a ticket made of this mail: the subject without answer prefixes, or the first words of the text.
    pub fn title(&self) -> String {
        let subject = strip_prefixes(&self.subject);
        let title = if is_visible(subject) {
            subject
        } else {
            self.text.lines().map(str::trim).find(|line| is_visible(line)).unwrap_or("(no subject)")
        };
        title.chars().filter(|c| !c.is_control()).take(300).collect()
    }
}

/// Removes `Re:`, `AW:`, `Fwd:`, `Re[2]:` and their like from the front.
fn strip_prefixes(subject: &str) -> &str {
    let mut rest = subject.trim();
    while let Some((head, tail)) = rest.split_once(':') {
        let word = head.trim_end_matches(|c: char| c == ']' || c == ')' || c.is_ascii_digit());
        let word = word.trim_end_matches(['[', '(']).trim();
        let known = ["re", "aw", "antw", "antwort", "fw", "fwd", "wg", "sv", "vs", "rv", "tr", "rif", "r"];
        if !known.contains(&word.to_lowercase().as_str()) {
            break;
        }
        rest = tail.trim_start();
    }
    rest
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn mail(headers: &[(&str, &str)]) -> Mail {
        let headers: Vec<(String, String)> =
            headers.iter().map(|(n, v)| (n.to_lowercase(), (*v).to_owned())).collect();
        let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        Mail {
            message_id: value("message-id").and_then(|v| message_id::normalise(&v)),
            in_reply_to: value("in-reply-to").map(|v| message_id::all_in(&v)).unwrap_or_default(),
            references: value("references").map(|v| message_id::all_in(&v)).unwrap_or_default(),
            from: Person {
                name: String::new(),
                address: value("from").as_deref().unwrap_or("ada@example.org").parse().unwrap(),
            },
            to: Vec::new(),
            cc: Vec::new(),
            subject: value("subject").unwrap_or_default(),
            text: "printer on fire".into(),
            html: None,
            attachments: Vec::new(),
            report: None,
            headers,
        }
    }

    #[test]
    fn titles() {
        for (subject, title) in [
            ("Re: AW: Fwd: Printer", "Printer"),
            ("Re[2]: Printer: on fire", "Printer: on fire"),
            ("Error: disk full", "Error: disk full"),
            ("RE : Printer", "Printer"),
            ("", "printer on fire"),
            ("Re:", "printer on fire"),
            ("\u{200b}\u{feff}", "printer on fire"),
        ] {
            assert_eq!(mail(&[("Subject", subject)]).title(), title, "{subject:?}");
        }
        let empty = Mail { text: String::new(), ..mail(&[]) };
        assert_eq!(empty.title(), "(no subject)");
    }
}
