//! Severity → impact and urgency: an editable map for each source.

use crate::ticket::Level;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The key for severities that the map does not list, and for alerts without one.
pub const ANY: &str = "*";

/// What a severity means for the ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grading {
    pub impact: Level,
    pub urgency: Level,
}

impl Grading {
    /// The worse of both, impact and urgency each for itself.
    pub fn worse(self, other: Grading) -> Grading {
        Grading { impact: worse(self.impact, other.impact), urgency: worse(self.urgency, other.urgency) }
    }
}

fn worse(a: Level, b: Level) -> Level {
    // `Level` is declared from high to low.
    if (a as usize) <= (b as usize) { a } else { b }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSeverityMap {
    #[error("a severity must have 1 to 64 characters, lower case: {0:?}")]
    Name(String),
    #[error("at most 100 severities")]
    TooMany,
}

/// Lower-case severity → grading. What it does not list follows [`ANY`], and that defaults to medium/medium.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Grading>", into = "BTreeMap<String, Grading>")]
pub struct SeverityMap(BTreeMap<String, Grading>);

impl SeverityMap {
    pub fn grade(&self, severity: &str) -> Grading {
        let medium = Grading { impact: Level::Medium, urgency: Level::Medium };
        self.0.get(severity).or_else(|| self.0.get(ANY)).copied().unwrap_or(medium)
    }
}

impl TryFrom<BTreeMap<String, Grading>> for SeverityMap {
    type Error = InvalidSeverityMap;
    fn try_from(map: BTreeMap<String, Grading>) -> Result<Self, InvalidSeverityMap> {
        if map.len() > 100 {
            return Err(InvalidSeverityMap::TooMany);
        }
        match map.keys().find(|name| name.is_empty() || name.len() > 64 || **name != name.to_lowercase()) {
            Some(name) => Err(InvalidSeverityMap::Name(name.clone())),
            None => Ok(SeverityMap(map)),
        }
    }
}

impl From<SeverityMap> for BTreeMap<String, Grading> {
    fn from(map: SeverityMap) -> Self {
        map.0
    }
}

impl Default for SeverityMap {
    /// The words that Prometheus rules, syslog (RFC 5424, 6.2.1) and PagerDuty events use.
    fn default() -> Self {
        use Level::{High, Low, Medium};
        let gradings: [(&[&str], Level, Level); 4] = [
            (&["critical", "emergency", "emerg", "alert", "fatal", "disaster", "page", "p1"], High, High),
            (&["error", "err", "major", "high", "p2"], High, Medium),
            (&["warning", "warn", "average", "medium", "minor", "p3"], Medium, Medium),
            (
                &["info", "information", "informational", "notice", "low", "debug", "none", "ok", "p4", "p5"],
                Low,
                Low,
            ),
        ];
        let mut map = BTreeMap::from([(ANY.to_owned(), Grading { impact: Medium, urgency: Medium })]);
        for (names, impact, urgency) in gradings {
            map.extend(names.iter().map(|name| ((*name).to_owned(), Grading { impact, urgency })));
        }
        SeverityMap(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_medium() {
        let map = SeverityMap::default();
        assert_eq!(map.grade("critical"), Grading { impact: Level::High, urgency: Level::High });
        assert_eq!(map.grade("purple"), Grading { impact: Level::Medium, urgency: Level::Medium });
        let empty: SeverityMap = serde_json::from_str("{}").unwrap();
        assert_eq!(empty.grade("critical"), Grading { impact: Level::Medium, urgency: Level::Medium });
    }

    #[test]
    fn the_map_is_editable_and_checked() {
        let map: SeverityMap = serde_json::from_str(
            r#"{"*": {"impact": "low", "urgency": "low"}, "gold": {"impact": "high", "urgency": "low"}}"#,
        )
        .unwrap();
        assert_eq!(map.grade("gold").impact, Level::High);
        assert_eq!(map.grade("silver").impact, Level::Low);
        assert!(
            serde_json::from_str::<SeverityMap>(r#"{"Gold": {"impact": "high", "urgency": "low"}}"#).is_err()
        );
        assert!(
            serde_json::from_str::<SeverityMap>(r#"{"gold": {"impact": "huge", "urgency": "low"}}"#).is_err()
        );
    }

    #[test]
    fn the_worse_of_two_takes_both_maxima() {
        let a = Grading { impact: Level::High, urgency: Level::Low };
        let b = Grading { impact: Level::Low, urgency: Level::Medium };
        assert_eq!(a.worse(b), Grading { impact: Level::High, urgency: Level::Medium });
    }
}
