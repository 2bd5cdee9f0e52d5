//! The types of events: `noun.verb`. One closed list, so that nobody waits for an event that can never happen.

use crate::UnknownWord;
use crate::rule::{SLA_EVENTS, TICKET_VERBS};
use crate::ticket::TicketKind;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Nouns with their verbs, those of tickets and of the SLA apart. A test holds it against what is recorded.
const NOUNS: &[(&str, &[&str])] = &[
    ("alert_source", &["created", "updated", "deleted", "token_rotated"]),
    ("api_token", &["created", "revoked"]),
    (
        "auth",
        &[
            "confirmation_failed",
            "login",
            "login_failed",
            "logout",
            "mfa_disabled",
            "mfa_enrolled",
            "mfa_failed",
            "mfa_recovery_code_used",
            "mfa_recovery_codes_renewed",
            "password_reset_asked",
            "password_reset_used",
            "refresh_reused",
            "session_revoked",
        ],
    ),
    ("calendar", &["created", "updated", "deleted"]),
    ("channel", &["created", "updated", "deleted"]),
    ("ci_category", &["created", "updated", "deleted"]),
    ("ci_relationship", &["created", "deleted"]),
    ("configuration_item", &["created", "updated", "deleted"]),
    ("data", &["pruned"]),
    ("department", &["created", "updated", "deleted", "restored"]),
    ("discovery", &["finished"]),
    ("discovery_source", &["created", "updated", "deleted"]),
    ("escalation_chain", &["created", "updated", "deleted"]),
    ("file", &["infected"]),
    ("identity_provider", &["created", "updated", "deleted"]),
    ("job", &["cancelled", "discarded", "retried"]),
    ("jobs", &["managing", "cancelled", "discarded", "retried"]),
    ("lane", &["changed", "paused", "resumed"]),
    ("limit", &["changed"]),
    ("mailbox", &["created", "updated", "deleted", "token_rotated"]),
    ("organization", &["updated"]),
    ("priority_matrix", &["updated"]),
    ("report", &["recipients_left_out"]),
    ("report_schedule", &["created", "updated", "deleted"]),
    ("role", &["created", "updated", "deleted", "granted", "revoked"]),
    ("rule", &["created", "updated", "deleted"]),
    ("service_account", &["created", "handed_over"]),
    ("sla_policy", &["created", "updated", "deleted"]),
    (
        "team",
        &["created", "updated", "deleted", "restored", "member_added", "member_updated", "member_removed"],
    ),
    ("tenant", &["changed", "created", "deleted", "renamed", "resumed", "suspended"]),
    (
        "user",
        &[
            "created",
            "updated",
            "deleted",
            "restored",
            "locked",
            "unlocked",
            "password_set",
            "out_of_office",
            "identity_linked",
            "identity_unlinked",
        ],
    ),
    ("users", &["imported"]),
    ("webhook", &["created", "updated", "deleted", "disabled", "replayed", "secret_rotated"]),
];

/// All of them, sorted.
pub fn all() -> Vec<String> {
    let of_tickets = TicketKind::ALL
        .iter()
        .flat_map(|kind| TICKET_VERBS.iter().map(move |verb| format!("{}.{verb}", kind.as_str())));
    let others =
        NOUNS.iter().flat_map(|(noun, verbs)| verbs.iter().map(move |verb| format!("{noun}.{verb}")));
    let mut all: Vec<String> =
        of_tickets.chain(SLA_EVENTS.iter().map(|kind| (*kind).to_owned())).chain(others).collect();
    all.sort();
    all
}

/// What somebody wants to hear of: one type (`incident.resolved`), all of a noun (`incident.*`), or everything (`*`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EventPattern {
    Everything,
    Noun(String),
    One(String),
}

impl EventPattern {
    pub fn matches(&self, kind: &str) -> bool {
        match self {
            EventPattern::Everything => true,
            EventPattern::Noun(noun) => kind.split_once('.').is_some_and(|(of, _)| of == noun),
            EventPattern::One(one) => one == kind,
        }
    }
}

impl FromStr for EventPattern {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let unknown = || UnknownWord {
            what: "event type",
            given: text.chars().take(100).collect(),
            expected: "those of GET webhook-event-types, NOUN.* or *".into(),
        };
        if text == "*" {
            return Ok(EventPattern::Everything);
        }
        let known = all();
        match text.strip_suffix(".*") {
            Some(noun) => {
                let pattern = EventPattern::Noun(noun.to_owned());
                known.iter().any(|kind| pattern.matches(kind)).then_some(pattern).ok_or_else(unknown)
            }
            None if known.iter().any(|kind| kind == text) => Ok(EventPattern::One(text.to_owned())),
            None => Err(unknown()),
        }
    }
}

impl fmt::Display for EventPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventPattern::Everything => f.write_str("*"),
            EventPattern::Noun(noun) => write!(f, "{noun}.*"),
            EventPattern::One(one) => f.write_str(one),
        }
    }
}

impl TryFrom<String> for EventPattern {
    type Error = UnknownWord;
    fn try_from(text: String) -> Result<Self, UnknownWord> {
        text.parse()
    }
}

impl From<EventPattern> for String {
    fn from(pattern: EventPattern) -> String {
        pattern.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_they_name() {
        let matching = |pattern: &str, kind| pattern.parse::<EventPattern>().unwrap().matches(kind);
        assert!(matching("incident.resolved", "incident.resolved"));
        assert!(!matching("incident.resolved", "incident.closed"));
        assert!(matching("incident.*", "incident.closed") && !matching("incident.*", "incidents.closed"));
        assert!(matching("*", "anything.new"));
    }

    #[test]
    fn what_can_never_happen_is_refused() {
        for wrong in ["", "incident", "incident.", "incident.resolve", "*.*", "inc*", "nothing.*", ".*", "**"]
        {
            assert!(wrong.parse::<EventPattern>().is_err(), "{wrong}");
        }
        for kind in all() {
            assert_eq!(kind.parse::<EventPattern>().unwrap().to_string(), kind);
        }
    }
}
