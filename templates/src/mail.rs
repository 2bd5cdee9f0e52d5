//! Mails to requesters and watchers of a ticket, and to people about their account.

use crate::Context;
use crate::context::parts;
use serde::Serialize;

/// "We have your message." Says nothing that its receiver has not told us, so that it is of no use for sending
/// other people's words to strangers.
#[derive(Clone, Debug, Serialize)]
pub struct Receipt {
    pub number: String,
    /// The display name of the mailbox.
    pub desk: String,
    /// The subject of the message, and only if its sender was known before it came.
    pub subject: Option<String>,
}

impl Context for Receipt {
    const NAME: &'static str = "mail/receipt";
    const PARTS: &'static [(&'static str, &'static str)] = parts!("mail/receipt": "subject", "text", "html");
    fn samples() -> Vec<Self> {
        let receipt = Receipt { number: "INC0000123".into(), desk: "Example IT".into(), subject: None };
        vec![Receipt { subject: Some("Drucker \"3. OG\" <brennt>".into()), ..receipt.clone() }, receipt]
    }
}

/// An agent's public comment.
#[derive(Clone, Debug, Serialize)]
pub struct PublicReply {
    pub number: String,
    pub title: String,
    /// The name of the agent.
    pub author: String,
    /// Plain text; line breaks are kept.
    pub body: String,
}

impl Context for PublicReply {
    const NAME: &'static str = "mail/public_reply";
    const PARTS: &'static [(&'static str, &'static str)] =
        parts!("mail/public_reply": "subject", "text", "html");
    fn samples() -> Vec<Self> {
        vec![PublicReply {
            number: "INC0000123".into(),
            title: "Printer <b>on</b> fire".into(),
            author: "Ada & Grace".into(),
            body: "Please switch it off.\n\nThen tell us if x < y.".into(),
        }]
    }
}

/// The ticket was resolved.
#[derive(Clone, Debug, Serialize)]
pub struct Resolved {
    pub number: String,
    pub title: String,
    pub resolution: Option<String>,
}

impl Context for Resolved {
    const NAME: &'static str = "mail/resolved";
    const PARTS: &'static [(&'static str, &'static str)] = parts!("mail/resolved": "subject", "text", "html");
    fn samples() -> Vec<Self> {
        let resolved =
            Resolved { number: "INC0000123".into(), title: "Printer on fire".into(), resolution: None };
        vec![
            Resolved { resolution: Some("Replaced the fuse & the printer.".into()), ..resolved.clone() },
            resolved,
        ]
    }
}

/// A link with which a forgotten password is set anew.
#[derive(Clone, Debug, Serialize)]
pub struct PasswordReset {
    pub name: String,
    pub organization: String,
    pub link: String,
    /// How long the link is good for.
    pub minutes: i64,
}

impl Context for PasswordReset {
    const NAME: &'static str = "mail/password_reset";
    const PARTS: &'static [(&'static str, &'static str)] =
        parts!("mail/password_reset": "subject", "text", "html");
    fn samples() -> Vec<Self> {
        vec![PasswordReset {
            name: "Ada <b>Lovelace</b>".into(),
            organization: "Example & Sons".into(),
            link: "https://desk.example/#reset=rdp_a1B2-c3_".into(),
            minutes: 30,
        }]
    }
}

/// A webhook was switched off, told to its owner.
#[derive(Clone, Debug, Serialize)]
pub struct WebhookOff {
    pub name: String,
    pub organization: String,
    /// Of its address; the rest may be a secret.
    pub host: String,
    /// Its id.
    pub webhook: String,
    /// The receiver said so; otherwise nothing was delivered for long.
    pub is_gone: bool,
    pub failing_since: String,
    pub failures: i32,
}

impl Context for WebhookOff {
    const NAME: &'static str = "mail/webhook_off";
    const PARTS: &'static [(&'static str, &'static str)] =
        parts!("mail/webhook_off": "subject", "text", "html");
    fn samples() -> Vec<Self> {
        let failing = WebhookOff {
            name: "Ada <b>Lovelace</b>".into(),
            organization: "Example & Sons".into(),
            host: "hooks.example.com".into(),
            webhook: "0195f3a4-0000-7000-8000-000000000000".into(),
            is_gone: false,
            failing_since: "2026-03-01 08:00:00 UTC".into(),
            failures: 42,
        };
        vec![WebhookOff { is_gone: true, ..failing.clone() }, failing]
    }
}
