//! What an update changed, field by field, as history and events keep it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The field's name as the API writes it: `assignee`, `status`.
    pub field: String,
    pub from: Value,
    pub to: Value,
}

/// Collects the differences between two states of a thing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Changes(pub Vec<Change>);

impl Changes {
    /// Notes the field if it is different.
    pub fn note<T: Serialize + PartialEq + ?Sized>(&mut self, field: &str, from: &T, to: &T) {
        if from != to {
            self.add(field, from, to);
        }
    }

    /// Notes a change without comparing, for example an added tag.
    pub fn add<A: Serialize + ?Sized, B: Serialize + ?Sized>(&mut self, field: &str, from: &A, to: &B) {
        // Fields are words, ids, times and texts: none of them fails to become JSON.
        let value = |v: serde_json::Result<Value>| v.unwrap_or(Value::Null);
        self.0.push(Change {
            field: field.to_owned(),
            from: value(serde_json::to_value(from)),
            to: value(serde_json::to_value(to)),
        });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, field: &str) -> bool {
        self.0.iter().any(|change| change.field == field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_differences_are_noted() {
        let mut changes = Changes::default();
        changes.note("title", "printer", "printer");
        changes.note("status", "new", "assigned");
        changes.note("assignee", &None::<u8>, &Some(7));
        assert_eq!(
            serde_json::to_value(&changes).unwrap(),
            json!([
                {"field": "status", "from": "new", "to": "assigned"},
                {"field": "assignee", "from": null, "to": 7}
            ])
        );
        assert!(changes.has("status") && !changes.has("title"));
    }
}
