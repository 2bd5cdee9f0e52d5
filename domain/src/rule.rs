//! Notification rules: which events there are, and the conditions under which one of them matters.

use crate::channel::InvalidField;
use crate::ticket::{Level, Priority, Source, Status, TicketKind};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The second half of a ticket's events; the first is the ticket's kind: `incident.opened`.
pub const TICKET_VERBS: [&str; 9] = [
    "opened",
    "updated",
    "assigned",
    "commented",
    "escalated",
    "resolved",
    "closed",
    "reopened",
    "status_changed",
];
pub const SLA_EVENTS: [&str; 2] = ["sla.warning", "sla.breached"];

/// Refuses an event that can never happen.
pub fn check_event(event: &str) -> Result<(), String> {
    let of_ticket = event
        .split_once('.')
        .is_some_and(|(kind, verb)| kind.parse::<TicketKind>().is_ok() && TICKET_VERBS.contains(&verb));
    if of_ticket || SLA_EVENTS.contains(&event) {
        return Ok(());
    }
    Err(format!(
        "unknown event {event:?}: expected incident.{{{}}} (or another kind of ticket), {}",
        TICKET_VERBS.join("|"),
        SLA_EVENTS.join(" or ")
    ))
}

/// What is known about an event: field → its values. People and teams are there by id and by name.
pub type Facts = BTreeMap<&'static str, Vec<String>>;

/// Field → accepted values. All fields must match, each with any of its values; no fields match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions(BTreeMap<String, Vec<String>>);

/// The fields that conditions know, with the words each takes; no words: anything.
fn words_of(field: &str) -> Option<Vec<&'static str>> {
    Some(match field {
        "kind" => TicketKind::ALL.iter().map(|word| word.as_str()).collect(),
        "priority" => Priority::ALL.iter().map(|word| word.as_str()).collect(),
        "impact" | "urgency" => Level::ALL.iter().map(|word| word.as_str()).collect(),
        "status" => Status::ALL.iter().map(|word| word.as_str()).collect(),
        "source" => Source::ALL.iter().map(|word| word.as_str()).collect(),
        "metric" => vec!["first_response", "resolution"],
        "visibility" => vec!["public", "internal"],
        "team" | "assignee" | "requester" | "tag" => Vec::new(),
        _ => return None,
    })
}

const FIELDS: &str =
    "kind, priority, impact, urgency, status, source, team, assignee, requester, tag, metric or visibility";

impl Conditions {
    pub fn parse(value: &Value) -> Result<Self, Vec<InvalidField>> {
        let empty = Map::new();
        let object = match value {
            Value::Null => &empty,
            Value::Object(object) => object,
            _ => {
                return Err(vec![InvalidField::new(
                    "",
                    "expected an object: field → value or list of values",
                )]);
            }
        };
        let (mut conditions, mut errors) = (BTreeMap::new(), Vec::new());
        for (field, value) in object {
            let pointer = format!("/{}", field.replace('~', "~0").replace('/', "~1"));
            let Some(words) = words_of(field) else {
                errors
                    .push(InvalidField::new(pointer, format!("is not a field of events: expected {FIELDS}")));
                continue;
            };
            match values(value) {
                Some(values) => {
                    for unknown in values.iter().filter(|v| !words.is_empty() && !words.contains(&v.as_str()))
                    {
                        let detail =
                            format!("{unknown:?} never happens: expected one of {}", words.join(", "));
                        errors.push(InvalidField::new(&*pointer, detail));
                    }
                    conditions.insert(field.clone(), values);
                }
                None => errors.push(InvalidField::new(pointer, "expected a text or a list of 1 to 50 texts")),
            }
        }
        if errors.is_empty() { Ok(Conditions(conditions)) } else { Err(errors) }
    }

    /// Refuses fields that `event` never has: a rule with one of them would never match.
    pub fn fits(&self, event: &str) -> Result<(), Vec<InvalidField>> {
        let only = |field: &str| match field {
            "metric" => Some(("SLA events", event.starts_with("sla."))),
            "visibility" => Some(("comments", event.ends_with(".commented"))),
            _ => None,
        };
        let mut errors = Vec::new();
        for field in self.0.keys() {
            if let Some((of, false)) = only(field) {
                errors.push(InvalidField::new(
                    format!("/{field}"),
                    format!("{event} has none: only {of} have"),
                ));
            }
        }
        // `incident.opened` is told of incidents only; an event of the SLA does not say of which kind its ticket is.
        if let (Some(kinds), Some((kind, _))) = (self.0.get("kind"), event.split_once('.'))
            && kind != "sla"
            && !kinds.iter().any(|accepted| accepted == kind)
        {
            errors.push(InvalidField::new(
                "/kind",
                format!("{event} is never told of another kind than {kind}"),
            ));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// What a field has to be, any of these; nothing when it may be anything.
    pub fn of(&self, field: &str) -> &[String] {
        self.0.get(field).map(Vec::as_slice).unwrap_or_default()
    }

    pub fn to_value(&self) -> Value {
        let field = |(name, values): (&String, &Vec<String>)| match values.as_slice() {
            [one] => (name.clone(), Value::from(one.as_str())),
            many => (name.clone(), Value::from(many)),
        };
        Value::Object(self.0.iter().map(field).collect())
    }

    /// The ids among the accepted values of a field that takes ids or names, as `assignee` does.
    pub fn ids(&self, field: &str) -> Vec<Uuid> {
        let values = self.0.get(field).map(Vec::as_slice).unwrap_or_default();
        values.iter().filter_map(|value| value.parse().ok()).collect()
    }

    /// Case does not matter: names of teams and tags are compared as people write them.
    pub fn matches(&self, facts: &Facts) -> bool {
        self.0.iter().all(|(field, accepted)| {
            let is = facts.get(field.as_str()).map(Vec::as_slice).unwrap_or_default();
            is.iter().any(|fact| accepted.iter().any(|value| value.to_lowercase() == fact.to_lowercase()))
        })
    }
}

fn values(value: &Value) -> Option<Vec<String>> {
    let list = match value {
        Value::Array(list) => list.as_slice(),
        one => std::slice::from_ref(one),
    };
    let text = |value: &Value| {
        value.as_str().map(str::trim).filter(|t| !t.is_empty() && t.len() <= 200).map(str::to_owned)
    };
    let values: Vec<String> = list.iter().map(text).collect::<Option<_>>()?;
    (1..=50).contains(&values.len()).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn facts() -> Facts {
        Facts::from([
            ("priority", vec!["critical".into()]),
            ("tag", vec!["vpn".into(), "office-3".into()]),
            ("team", vec!["0193".into(), "Network".into()]),
        ])
    }

    #[test]
    fn all_fields_any_value() {
        for (conditions, matches) in [
            (json!({}), true),
            (json!(null), true),
            (json!({"priority": "critical"}), true),
            (json!({"priority": ["high", "critical"], "tag": "VPN"}), true),
            (json!({"team": "network"}), true),
            (json!({"team": "0193"}), true),
            (json!({"priority": "high"}), false),
            (json!({"priority": "critical", "tag": "wifi"}), false),
            (json!({"assignee": "Ada"}), false),
        ] {
            assert_eq!(Conditions::parse(&conditions).unwrap().matches(&facts()), matches, "{conditions}");
        }
    }

    #[test]
    fn refuses_what_can_never_match() {
        for (conditions, pointer) in [
            (json!([]), ""),
            (json!({"colour": "red"}), "/colour"),
            (json!({"priority": "urgent"}), "/priority"),
            (json!({"priority": []}), "/priority"),
            (json!({"priority": 1}), "/priority"),
            (json!({"a/b": 1}), "/a~1b"),
        ] {
            assert_eq!(Conditions::parse(&conditions).unwrap_err()[0].pointer, pointer, "{conditions}");
        }
    }

    #[test]
    fn refuses_fields_that_the_event_never_has() {
        for (event, conditions, pointers) in [
            ("incident.opened", json!({"metric": "resolution", "priority": "high"}), vec!["/metric"]),
            (
                "incident.opened",
                json!({"visibility": "public", "kind": "change"}),
                vec!["/visibility", "/kind"],
            ),
            ("sla.breached", json!({"visibility": "public"}), vec!["/visibility"]),
            ("sla.breached", json!({"metric": "resolution", "kind": "change"}), vec![]),
            ("incident.commented", json!({"visibility": "public", "kind": ["incident", "change"]}), vec![]),
        ] {
            let refused = Conditions::parse(&conditions).unwrap().fits(event).err().unwrap_or_default();
            assert_eq!(
                refused.iter().map(|error| &*error.pointer).collect::<Vec<_>>(),
                pointers,
                "{event} {conditions}"
            );
        }
    }

    #[test]
    fn events_that_exist() {
        for event in ["incident.opened", "change.status_changed", "sla.breached"] {
            assert_eq!(check_event(event), Ok(()));
        }
        for event in ["", "opened", "incident.exploded", "sla.met", "printer.opened"] {
            assert!(check_event(event).is_err(), "{event}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(tags in proptest::collection::vec("[a-z]{1,9}", 1..5)) {
            let conditions = Conditions::parse(&json!({"tag": tags})).unwrap();
            prop_assert_eq!(Conditions::parse(&conditions.to_value()).unwrap(), conditions);
        }
    }
}
