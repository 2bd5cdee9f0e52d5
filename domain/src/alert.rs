//! Alerts: what monitoring systems tell us, and what we make of it. Every connector turns its wire format into a
//! [`Notification`]; the rules below know no wire format.
//!
//! * **signal**: one message about one alert ("it fires", "it is over"), as it came in.
//! * **episode**: the time from an alert's first firing to its end; one row in `alerts`.
//! * **group**: the alerts that share one incident. Alertmanager groups by its own `group_by`; a generic alert is a
//!   group of its own unless it names one.

mod episode;
mod group;
mod severity;
mod words;

pub use episode::{Decision, End, Episode, OVERTAKEN_BY_AT_MOST, Why, decide};
pub use group::{GroupChange, GroupState, IncidentMove, judge_group};
pub use severity::{Grading, InvalidSeverityMap, SeverityMap};
pub use words::{description, group_comment, group_title, note_of_resolution};

use crate::words::words;
use chrono::{DateTime, Utc};
use std::collections::BTreeMap;

words! {
    AlertStatus("alert status") {
        Firing => "firing",
        Resolved => "resolved",
    }
}

words! {
    /// The systems whose alerts we understand; also the `kind` in a hook's URL.
    AlertSourceKind("kind of alert source") {
        Alertmanager => "alertmanager",
        Generic => "generic",
    }
}

words! {
    /// What shares an incident: the sender's group, or nothing but repetitions of the same alert.
    Grouping("grouping") {
        Group => "group",
        Alert => "alert",
    }
}

/// One message about one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Identifies the alert within its source; at most 255 characters.
    pub fingerprint: String,
    pub status: AlertStatus,
    /// Lower case, as the sender names it; empty if it does not.
    pub severity: String,
    pub title: String,
    pub description: String,
    pub labels: BTreeMap<String, String>,
    pub source_url: Option<String>,
    /// By the sender's clock; the time of arrival when the sender does not say.
    pub starts_at: DateTime<Utc>,
    /// Only of a resolved alert; the time of arrival when the sender does not say.
    pub ends_at: Option<DateTime<Utc>>,
}

/// One payload: signals that arrived together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// The sender's group; `None` if it does not group.
    pub group_key: Option<String>,
    /// What the whole group is about, if the sender says so.
    pub title: Option<String>,
    /// Where to look at it.
    pub url: Option<String>,
    /// How many alerts the sender left out.
    pub truncated: u64,
    /// What the sender says of the whole group, if it does.
    pub group_status: Option<AlertStatus>,
    pub signals: Vec<Signal>,
}

impl Notification {
    /// More fires in the group than the payload names, or may do so: alerts were left out, or the group is said to fire while
    /// none of the named ones does. Their end cannot be told from what is here.
    pub fn has_unnamed(&self) -> bool {
        let names_a_firing = || self.signals.iter().any(|signal| signal.status == AlertStatus::Firing);
        self.truncated > 0 || (self.group_status == Some(AlertStatus::Firing) && !names_a_firing())
    }

    /// The signals by the incident they belong to, each with its key.
    pub fn groups(&self, grouping: Grouping) -> BTreeMap<String, Vec<&Signal>> {
        let mut groups: BTreeMap<String, Vec<&Signal>> = BTreeMap::new();
        for signal in &self.signals {
            let key = match (grouping, &self.group_key) {
                (Grouping::Group, Some(key)) => group::storable_key("group", key),
                _ => group::storable_key("alert", &signal.fingerprint),
            };
            groups.entry(key).or_default().push(signal);
        }
        groups
    }
}
