//! Mail that no person wrote: automatic answers, bounces, machines, lists, and our own mails coming back.
//!
//! Sources: RFC 3834 (Auto-Submitted, null return path, what to answer), RFC 3464 and 3798 (reports), RFC 2369 and 2919
//! (List-*), and what Exchange, Gmail, Procmail and others really send.

use crate::{
    EmailAddress, OrganizationId,
    mail::{LOOP_HEADER, Mail},
};

/// Ordered: the first that applies is what the mail is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Automatic {
    /// One of our own mails, from one of our own addresses, or what another desk sent by itself.
    Loop(&'static str),
    /// A report that a mail could not be delivered, or was delayed.
    Bounce,
    /// An answer that a program gave: out of office, read receipt.
    Reply(&'static str),
    /// From a program, but not an answer: a monitoring system, a newsletter, a mailing list. It may be worth a ticket,
    /// it must not be answered.
    Machine(&'static str),
}

/// What the SMTP dialogue said about the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReturnPath<'a> {
    /// `MAIL FROM:<>`
    Null,
    Address(&'a str),
    /// The mail did not come by SMTP and has no Return-Path.
    Unknown,
}

/// What kind of automatic mail it is, `None` when a person seems to have written it.
///
/// `answers_us`: it refers to a mail of ours or carries a ticket's number, so a program that sent it, answered.
pub fn recognise(
    mail: &Mail,
    organization: OrganizationId,
    own_addresses: &[EmailAddress],
    return_path: ReturnPath<'_>,
    answers_us: bool,
) -> Option<Automatic> {
    let loops = mail.header(&LOOP_HEADER.to_lowercase());
    if loops.is_some_and(|value| value.trim().eq_ignore_ascii_case(&organization.to_string())) {
        return Some(Automatic::Loop("it is one of our own mails, come back"));
    }
    // The desk of another organization, here or elsewhere: two that answer each other's machines never stop.
    if loops.is_some() && auto_submitted(mail).is_some() {
        return Some(Automatic::Loop("it is an automatic mail of another desk"));
    }
    if own_addresses.contains(&mail.from.address) {
        return Some(Automatic::Loop("it comes from one of our own mailboxes"));
    }
    bounce(mail, return_path)
        .or_else(|| reply(mail, return_path, answers_us))
        .or_else(|| machine(mail, return_path))
}

fn bounce(mail: &Mail, return_path: ReturnPath<'_>) -> Option<Automatic> {
    if let Some(report) = &mail.report {
        return match report.kind.as_str() {
            "disposition-notification" => Some(Automatic::Reply("it is a read receipt")),
            "feedback-report" => Some(Automatic::Reply("it is a complaint report")),
            _ => Some(Automatic::Bounce),
        };
    }
    let daemon = matches!(mail.from.address.local_part(), "mailer-daemon" | "postmaster");
    let null = return_path == ReturnPath::Null;
    (mail.header("x-failed-recipients").is_some()
        || (daemon && (null || mail.header("auto-submitted").is_some())))
    .then_some(Automatic::Bounce)
}

fn reply(mail: &Mail, return_path: ReturnPath<'_>, answers_us: bool) -> Option<Automatic> {
    let auto_submitted = auto_submitted(mail);
    if matches!(auto_submitted.as_deref(), Some("auto-replied" | "auto-notified")) {
        return Some(Automatic::Reply("it is an automatic reply (Auto-Submitted)"));
    }
    for name in AUTO_REPLY_HEADERS {
        if mail.header(name).is_some_and(says_yes) {
            return Some(Automatic::Reply("it is an automatic reply (X-Autoreply or similar)"));
        }
    }
    if mail.header("precedence").is_some_and(|v| token(v) == "auto_reply")
        || mail.header("x-precedence").is_some_and(|v| token(v) == "auto_reply")
    {
        return Some(Automatic::Reply("it is an automatic reply (Precedence)"));
    }
    let answers = answers_us || !mail.in_reply_to.is_empty();
    if !answers {
        return None;
    }
    // Exchange marks its out-of-office answers as auto-generated; only the reference shows what they are.
    if auto_submitted.is_some() {
        return Some(Automatic::Reply("it is an automatic reply (Auto-Submitted)"));
    }
    if return_path == ReturnPath::Null {
        return Some(Automatic::Reply("it is an automatic reply (null return path)"));
    }
    if mail.header("precedence").is_some_and(|v| matches!(token(v).as_str(), "bulk" | "junk")) {
        return Some(Automatic::Reply("it is an automatic reply (Precedence)"));
    }
    let subject = mail.subject.to_lowercase();
    OUT_OF_OFFICE
        .iter()
        .any(|words| subject.starts_with(words))
        .then_some(Automatic::Reply("its subject is that of an out-of-office reply"))
}

fn machine(mail: &Mail, return_path: ReturnPath<'_>) -> Option<Automatic> {
    if auto_submitted(mail).is_some() {
        return Some(Automatic::Machine("Auto-Submitted"));
    }
    if return_path == ReturnPath::Null {
        return Some(Automatic::Machine("null return path"));
    }
    let bulk = |v: &str| matches!(token(v).as_str(), "bulk" | "list" | "junk");
    if mail.header("precedence").is_some_and(bulk) || mail.header("x-precedence").is_some_and(bulk) {
        return Some(Automatic::Machine("Precedence"));
    }
    if mail.headers.iter().any(|(name, _)| name.starts_with("list-")) {
        return Some(Automatic::Machine("a mailing list"));
    }
    let suppress = mail.header("x-auto-response-suppress").map(str::to_lowercase).unwrap_or_default();
    if suppress.split(',').any(|word| matches!(word.trim(), "all" | "oof" | "autoreply")) {
        return Some(Automatic::Machine("X-Auto-Response-Suppress"));
    }
    if mail.header("x-loop").is_some() || mail.header("feedback-id").is_some() {
        return Some(Automatic::Machine("X-Loop or Feedback-ID"));
    }
    nobody(&mail.from.address).then_some(Automatic::Machine("an address that nobody reads"))
}

/// Whether a receipt may be sent (RFC 3834, section 2): a person wrote it and an answer reaches that person.
pub fn may_answer(mail: &Mail, automatic: Option<&Automatic>) -> bool {
    automatic.is_none() && !nobody(&mail.from.address)
}

/// The value of Auto-Submitted in lower case without its parameters and comments; `None` when absent or `no`.
fn auto_submitted(mail: &Mail) -> Option<String> {
    let value = token(mail.header("auto-submitted").or_else(|| mail.header("x-auto-submitted"))?);
    (!value.is_empty() && value != "no").then_some(value)
}

/// The first word of a value: without parameters, comments and capital letters.
fn token(value: &str) -> String {
    value
        .trim()
        .split(|c: char| c == ';' || c == '(' || c == ',' || c.is_whitespace())
        .next()
        .unwrap_or("")
        .to_lowercase()
}

fn says_yes(value: &str) -> bool {
    !matches!(token(value).as_str(), "no" | "false" | "0" | "none")
}

const AUTO_REPLY_HEADERS: [&str; 8] = [
    "x-autoreply",
    "x-autorespond",
    "x-autoresponse",
    "x-autoreply-from",
    "x-autoresponder",
    "x-mail-autoreply",
    "x-auto-reply",
    "x-vacation",
];

const OUT_OF_OFFICE: [&str; 13] = [
    "automatic reply:",
    "automatische antwort:",
    "auto:",
    "auto reply:",
    "autoreply:",
    "autoreply ",
    "out of office",
    "abwesenheitsnotiz",
    "abwesend:",
    "abwesenheit",
    "réponse automatique",
    "respuesta automática",
    "risposta automatica",
];

/// Addresses behind which nobody reads: they get no mail from us.
pub fn nobody(address: &EmailAddress) -> bool {
    let local = address.local_part().replace(['-', '_', '.'], "");
    matches!(
        local.as_str(),
        "mailerdaemon" | "postmaster" | "abuse" | "root" | "majordomo" | "listserv" | "daemon"
    ) || local.starts_with("noreply")
        || local.starts_with("donotreply")
        || address.local_part().starts_with("owner-")
        || address.local_part().starts_with("bounce")
        || address.local_part().ends_with("-request")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Report, tests::mail};
    use proptest::prelude::*;

    const UNKNOWN: ReturnPath<'static> = ReturnPath::Unknown;

    fn judge(headers: &[(&str, &str)], path: ReturnPath<'_>, answers_us: bool) -> Option<Automatic> {
        let own = ["support@desk.example".parse().unwrap()];
        recognise(&mail(headers), OrganizationId(uuid::Uuid::nil()), &own, path, answers_us)
    }

    fn kind(judged: Option<Automatic>) -> &'static str {
        match judged {
            None => "person",
            Some(Automatic::Loop(_)) => "loop",
            Some(Automatic::Bounce) => "bounce",
            Some(Automatic::Reply(_)) => "reply",
            Some(Automatic::Machine(_)) => "machine",
        }
    }

    #[test]
    fn corpus() {
        let (yes, no) = (true, false);
        let address = ReturnPath::Address("ada@example.org");
        for (expected, headers, path, answers) in [
            ("person", vec![("Subject", "printer")], address, no),
            ("person", vec![("Auto-Submitted", "no")], address, no),
            ("person", vec![("Auto-Submitted", "No (a person)")], address, no),
            ("person", vec![("X-Auto-Response-Suppress", "DR, RN")], address, no),
            ("person", vec![("In-Reply-To", "<a@b>")], address, yes),
            ("person", vec![("Subject", "Out of office printer broken")], address, no),
            // Gmail's vacation responder
            (
                "reply",
                vec![("Auto-Submitted", "auto-replied"), ("Precedence", "bulk"), ("X-Autoreply", "yes")],
                ReturnPath::Null,
                yes,
            ),
            // Exchange's out of office
            (
                "reply",
                vec![
                    ("Auto-Submitted", "auto-generated"),
                    ("X-Auto-Response-Suppress", "All"),
                    ("In-Reply-To", "<a@b>"),
                ],
                ReturnPath::Null,
                yes,
            ),
            ("reply", vec![("Auto-Submitted", "auto-replied; owner=ada")], UNKNOWN, no),
            ("reply", vec![("Auto-Submitted", "AUTO-REPLIED")], UNKNOWN, no),
            ("reply", vec![("X-Autorespond", "out")], UNKNOWN, no),
            ("reply", vec![("Precedence", "auto_reply")], UNKNOWN, no),
            ("reply", vec![("Subject", "Automatische Antwort: Drucker")], address, yes),
            ("reply", vec![("Subject", "Out of Office: printer")], address, yes),
            ("reply", vec![("In-Reply-To", "<a@b>")], ReturnPath::Null, no),
            ("reply", vec![("Precedence", "junk")], address, yes),
            // A cron mail, a newsletter, a list
            ("machine", vec![("Auto-Submitted", "auto-generated")], address, no),
            ("machine", vec![("Precedence", "bulk")], address, no),
            ("machine", vec![("List-Unsubscribe", "<mailto:x@y>")], address, no),
            ("machine", vec![("List-Id", "dev.example")], address, yes),
            ("machine", vec![("X-Auto-Response-Suppress", "OOF, AutoReply")], address, no),
            ("machine", vec![("Subject", "scan")], ReturnPath::Null, no),
            ("machine", vec![("From", "no-reply@shop.example")], address, no),
            ("machine", vec![("From", "postmaster@shop.example")], address, no),
            // Bounces without a report
            ("bounce", vec![("From", "MAILER-DAEMON@mx.example")], ReturnPath::Null, no),
            ("bounce", vec![("X-Failed-Recipients", "bob@example.org")], UNKNOWN, yes),
            // Our own
            ("loop", vec![("X-Relaydesk-Loop", "00000000-0000-0000-0000-000000000000")], address, no),
            ("person", vec![("X-Relaydesk-Loop", "11111111-0000-0000-0000-000000000000")], address, no),
            // Another desk's receipts and notices; what its people write is a person's words.
            (
                "loop",
                vec![
                    ("X-Relaydesk-Loop", "11111111-0000-0000-0000-000000000000"),
                    ("Auto-Submitted", "auto-generated"),
                ],
                address,
                no,
            ),
            (
                "loop",
                vec![("X-Relaydesk-Loop", "x"), ("Auto-Submitted", "auto-replied")],
                ReturnPath::Null,
                yes,
            ),
            ("person", vec![("X-Relaydesk-Loop", "x"), ("Auto-Submitted", "no")], address, no),
            ("loop", vec![("From", "Support@desk.example")], address, yes),
        ] {
            let judged = judge(&headers, path, answers);
            let answerable = may_answer(&mail(&headers), judged.as_ref());
            assert_eq!(kind(judged), expected, "{headers:?} {path:?} answers_us={answers}");
            assert_eq!(answerable, expected == "person", "{headers:?}");
        }
    }

    #[test]
    fn reports() {
        for (report, expected) in [
            ("delivery-status", "bounce"),
            ("disposition-notification", "reply"),
            ("feedback-report", "reply"),
        ] {
            let mut mail = mail(&[]);
            mail.report = Some(Report { kind: report.into(), ..Report::default() });
            let judged = recognise(&mail, OrganizationId(uuid::Uuid::nil()), &[], ReturnPath::Null, false);
            assert_eq!(kind(judged), expected);
        }
    }

    proptest! {
        /// RFC 3834: whatever else a mail says, these are never answered.
        #[test]
        fn never_answers_a_program(value in "auto-(generated|replied|notified|x[a-z]{0,8})", subject in "\\PC{0,40}", other in "[a-z-]{1,20}") {
            let headers = [("Subject", subject.as_str()), (other.as_str(), "x"), ("Auto-Submitted", value.as_str())];
            prop_assume!(other != "auto-submitted" && other != "from");
            let judged = judge(&headers, UNKNOWN, false);
            prop_assert!(!may_answer(&mail(&headers), judged.as_ref()));
            let null = judge(&headers[..2], ReturnPath::Null, false);
            prop_assert!(!may_answer(&mail(&headers[..2]), null.as_ref()));
        }
    }
}
