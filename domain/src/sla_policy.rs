//! Which promise holds for a ticket: policies in order, the first whose conditions fit wins, the default comes last.

use crate::ticket::{Level, Priority, Source, TicketKind};
use crate::{TeamId, UserId};
use serde::{Deserialize, Serialize};

/// The longest target: ten years of working time, in seconds.
pub const LONGEST_TARGET: i32 = 315_576_000;

/// All fields that are given have to fit; a field fits if it holds the ticket's value. An empty field fits always.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conditions {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kind: Vec<TicketKind>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priority: Vec<Priority>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub impact: Vec<Level>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urgency: Vec<Level>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source: Vec<Source>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub team: Vec<TeamId>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requester: Vec<UserId>,
}

/// What conditions look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub kind: TicketKind,
    pub priority: Priority,
    pub impact: Level,
    pub urgency: Level,
    pub source: Source,
    pub team: Option<TeamId>,
    pub requester: Option<UserId>,
}

impl Conditions {
    pub fn is_empty(&self) -> bool {
        *self == Conditions::default()
    }

    pub fn fit(&self, facts: &Facts) -> bool {
        fn one_of<T: PartialEq>(wanted: &[T], value: Option<T>) -> bool {
            wanted.is_empty() || value.is_some_and(|value| wanted.contains(&value))
        }
        one_of(&self.kind, Some(facts.kind))
            && one_of(&self.priority, Some(facts.priority))
            && one_of(&self.impact, Some(facts.impact))
            && one_of(&self.urgency, Some(facts.urgency))
            && one_of(&self.source, Some(facts.source))
            && one_of(&self.team, facts.team)
            && one_of(&self.requester, facts.requester)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts {
        kind: TicketKind::Incident,
        priority: Priority::High,
        impact: Level::High,
        urgency: Level::Medium,
        source: Source::Email,
        team: None,
        requester: None,
    };

    #[test]
    fn every_given_field_has_to_fit() {
        assert!(Conditions::default().fit(&FACTS));
        let read = |text: &str| serde_json::from_str::<Conditions>(text).unwrap();
        assert!(read(r#"{"priority":["critical","high"],"kind":["incident"]}"#).fit(&FACTS));
        assert!(!read(r#"{"priority":["critical","high"],"source":["alert"]}"#).fit(&FACTS));
        let team = TeamId::new();
        let of_team = Conditions { team: vec![team], ..Conditions::default() };
        assert!(!of_team.fit(&FACTS), "no team is not that team");
        assert!(of_team.fit(&Facts { team: Some(team), ..FACTS }));
    }

    #[test]
    fn unknown_fields_and_words_are_refused() {
        assert!(serde_json::from_str::<Conditions>(r#"{"colour":["red"]}"#).is_err());
        assert!(serde_json::from_str::<Conditions>(r#"{"priority":["urgent"]}"#).is_err());
        assert_eq!(serde_json::to_string(&Conditions::default()).unwrap(), "{}");
    }
}
