//! What the fields of an inventory mean: a source's options, and a record becoming an item.

use crate::cmdb::CiStatus;
use crate::reconcile::{Item, RowError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

const MAX_ATTRIBUTES: usize = 300;
/// Bytes of one value as JSON.
const MAX_VALUE: usize = 20_000;
/// Bytes of all values of a row together: less than a person may write into an item (256 KiB).
const MAX_ROW: usize = 200_000;
/// Characters.
const MAX_DESCRIPTION: usize = 100_000;

/// How a source is to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InventoryOptions {
    /// What of ours → which field of theirs. Ours: `name`, `class`, `status`, `description`, `attributes.<name>`,
    /// `identifiers.<key>`. Theirs: a column, a member, or a JSON pointer (`/hardware/serial`). Without any `attributes.…`
    /// every field that is not used otherwise becomes an attribute of its own name.
    pub mapping: BTreeMap<String, String>,
    /// JSON: pointer to the array of items, for example `/data/hosts`. Default: the document itself, or its only array.
    pub items: Option<String>,
    /// CSV: the delimiter. Default: what the header suggests of comma, semicolon, tab and bar.
    pub delimiter: Option<char>,
    /// For example `windows-1252`. Default: a byte order mark decides, else UTF-8.
    pub charset: Option<String>,
    /// The class of items whose inventory names none. Default: `unclassified`.
    pub default_class: Option<String>,
    /// A run in which more of the source's items than this would go missing fails and changes nothing, 0 to 100; fewer than
    /// ten always may. Default: 50.
    pub max_missing_percent: Option<u8>,
}

/// A record that cannot be used. Its item is there all the same, as far as something identifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub error: RowError,
    /// Key and value.
    pub identifiers: Vec<(String, String)>,
}

/// Checks a mapping and the keys; `Err` names the place below the options.
pub fn check_mapping(options: &InventoryOptions) -> Result<(), (String, String)> {
    for (ours, theirs) in &options.mapping {
        let known = ["name", "class", "status", "description"].contains(&ours.as_str())
            || ours.strip_prefix("attributes.").is_some_and(|name| !name.is_empty())
            || ours.strip_prefix("identifiers.").is_some_and(|key| !key.is_empty());
        if !known {
            let detail = format!(
                "{ours:?} is none of ours: expected name, class, status, description, attributes.<name> or identifiers.<key>"
            );
            return Err(("/mapping".into(), detail));
        }
        if theirs.trim().is_empty() {
            return Err((format!("/mapping/{ours}"), "must name a field of the inventory".into()));
        }
    }
    if options.items.as_ref().is_some_and(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
        return Err(("/items".into(), "must be a JSON pointer like /data/hosts".into()));
    }
    if options
        .delimiter
        .is_some_and(|delimiter| !delimiter.is_ascii() || delimiter == '"' || delimiter == '\n')
    {
        return Err(("/delimiter".into(), "must be one ASCII character, not a quote or line break".into()));
    }
    if options.default_class.as_ref().is_some_and(|class| !(1..=100).contains(&class.chars().count())) {
        return Err(("/default_class".into(), "must have 1 to 100 characters".into()));
    }
    if options.max_missing_percent.is_some_and(|percent| percent > 100) {
        return Err(("/max_missing_percent".into(), "must be 0 to 100".into()));
    }
    Ok(())
}

/// By what a record is recognised: for each of the keys what it says, empty if nothing.
pub fn identifiers(
    record: &Map<String, Value>,
    keys: &[String],
    options: &InventoryOptions,
) -> Vec<(String, String)> {
    let name = || field(record, options.mapping.get("name").map_or("name", String::as_str)).and_then(text);
    keys.iter()
        .map(|key| {
            let theirs = options.mapping.get(&format!("identifiers.{key}")).unwrap_or(key);
            let value = field(record, theirs).and_then(text);
            // An item can be known by its name, whatever the inventory calls that.
            let value = if key == "name" { value.or_else(name) } else { value };
            (key.clone(), value.unwrap_or_default())
        })
        .collect()
}

/// One record of an inventory as an item. `keys`: the identification keys, the most trusted first.
pub fn item(
    row: usize,
    record: &Map<String, Value>,
    keys: &[String],
    options: &InventoryOptions,
) -> Result<Item, Refused> {
    let theirs = |ours: &'static str| options.mapping.get(ours).map_or(ours, String::as_str);
    let value = |ours: &'static str| field(record, theirs(ours));
    let name = value("name").and_then(text);
    // Many inventories say `type` where we say `class`.
    let class_field = if options.mapping.contains_key("class") || record.contains_key("class") {
        theirs("class")
    } else {
        "type"
    };
    let identifiers = identifiers(record, keys, options);
    let used = [theirs("name"), class_field, theirs("status"), theirs("description")];
    let description = value("description").map(|value| text(value).unwrap_or_default());
    let attributes = match attributes(record, keys, options, &used) {
        Ok(_) if description.as_ref().is_some_and(|text| text.chars().count() > MAX_DESCRIPTION) => {
            Err(format!("the description is longer than {MAX_DESCRIPTION} characters"))
        }
        other => other,
    };
    let attributes = match attributes {
        Ok(attributes) => attributes,
        Err(error) => return Err(Refused { error: RowError { row, error }, identifiers }),
    };
    Ok(Item {
        row,
        class: field(record, class_field).and_then(text),
        status: value("status").and_then(text).map(|word| CiStatus::from_inventory(&word)),
        description,
        attributes,
        name,
        identifiers,
    })
}

/// Those that the mapping names; without any, all that has no other use.
fn attributes(
    record: &Map<String, Value>,
    keys: &[String],
    options: &InventoryOptions,
    used: &[&str],
) -> Result<Map<String, Value>, String> {
    let mapped: Vec<_> = options
        .mapping
        .iter()
        .filter_map(|(ours, theirs)| Some((ours.strip_prefix("attributes.")?, theirs)))
        .collect();
    let attributes: Map<String, Value> = if mapped.is_empty() {
        let rest = record.iter().filter(|(name, _)| !used.contains(&name.as_str()) && !keys.contains(*name));
        rest.map(|(name, value)| (storable(name), tidy(value))).collect()
    } else {
        mapped
            .into_iter()
            .filter_map(|(name, theirs)| Some((storable(name), tidy(field(record, theirs)?))))
            .collect()
    };
    if attributes.len() > MAX_ATTRIBUTES {
        return Err(format!("more than {MAX_ATTRIBUTES} attributes"));
    }
    let mut sum = 0;
    for (name, value) in &attributes {
        let size = value.to_string().len();
        if size > MAX_VALUE {
            return Err(format!("attribute {name} is longer than {MAX_VALUE} bytes"));
        }
        sum += name.len() + size;
    }
    if sum > MAX_ROW {
        return Err(format!("its attributes are together longer than {MAX_ROW} bytes"));
    }
    Ok(attributes)
}

/// Without NUL, which Postgres cannot keep.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A member by its name, or anything by a JSON pointer.
fn field<'a>(record: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = record.get(name) {
        return Some(value);
    }
    let mut steps = name.strip_prefix('/')?.split('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
    let first = record.get(&steps.next()?)?;
    steps.try_fold(first, |value, step| match value {
        Value::Object(members) => members.get(&step),
        Value::Array(elements) => elements.get(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Texts and numbers as a text; nothing else.
fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => storable(text.trim()),
        Value::Number(number) => number.to_string(),
        Value::Bool(_) | Value::Null | Value::Array(_) | Value::Object(_) => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// An empty text is no value.
fn tidy(value: &Value) -> Value {
    match value {
        Value::String(text) if text.trim().is_empty() => Value::Null,
        Value::String(text) => storable(text.trim()).into(),
        Value::Array(elements) => elements.iter().map(tidy).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (storable(name), tidy(value))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn without_a_mapping_names_speak_for_themselves() {
        let record = record(
            json!({"name": "db1", "type": "server", "serial": "S1", "ram": 64, "note": "", "os": {"name": "debian"}}),
        );
        let item = item(1, &record, &["serial".into()], &InventoryOptions::default()).unwrap();
        assert_eq!((item.name.as_deref(), item.class.as_deref()), (Some("db1"), Some("server")));
        assert_eq!(item.identifiers, [("serial".to_owned(), "S1".to_owned())]);
        assert_eq!(
            Value::Object(item.attributes),
            json!({"ram": 64, "note": null, "os": {"name": "debian"}})
        );
    }

    #[test]
    fn a_mapping_reaches_into_the_depth() {
        let options: InventoryOptions = serde_json::from_value(json!({
            "mapping": {"name": "/host/fqdn", "attributes.cpu": "/hw/cpus/0", "identifiers.serial": "/hw/sn", "status": "state"}
        }))
        .unwrap();
        check_mapping(&options).unwrap();
        let record = record(
            json!({"host": {"fqdn": "db1.example"}, "hw": {"cpus": ["x86"], "sn": 7}, "state": "Retired", "more": 1}),
        );
        let item = item(3, &record, &["serial".into(), "name".into()], &options).unwrap();
        assert_eq!(item.status, Some(CiStatus::Retired));
        assert_eq!(item.identifiers, [("serial".into(), "7".into()), ("name".into(), "db1.example".into())]);
        assert_eq!(Value::Object(item.attributes), json!({"cpu": "x86"}));
    }

    #[test]
    fn a_refused_record_still_says_which_item_it_is() {
        let values = |count: usize, length: usize| {
            let mut all = record(json!({"name": "db1", "serial": "S1"}));
            all.extend((0..count).map(|n| (format!("a{n}"), "x".repeat(length).into())));
            all
        };
        let read = |record: &Map<String, Value>| {
            item(2, record, &["serial".into(), "name".into()], &InventoryOptions::default())
        };
        assert!(read(&values(299, 500)).is_ok());
        let long = record(json!({"serial": "S1", "name": "db1", "description": "x".repeat(100_001)}));
        for (record, why) in [
            (values(301, 1), "more than 300 attributes"),
            (values(1, 20_001), "attribute a0 is longer"),
            (values(299, 19_000), "together longer than 200000 bytes"),
            (long, "description is longer"),
        ] {
            let refused = read(&record).unwrap_err();
            assert!(refused.error.error.contains(why), "{}", refused.error.error);
            assert_eq!(refused.identifiers, [("serial".into(), "S1".into()), ("name".into(), "db1".into())]);
        }
    }

    #[test]
    fn wrong_options_are_named() {
        let options = |value| serde_json::from_value::<InventoryOptions>(value).unwrap();
        assert_eq!(check_mapping(&options(json!({"mapping": {"colour": "c"}}))).unwrap_err().0, "/mapping");
        assert_eq!(check_mapping(&options(json!({"items": "hosts"}))).unwrap_err().0, "/items");
        assert_eq!(check_mapping(&options(json!({"delimiter": "ü"}))).unwrap_err().0, "/delimiter");
    }
}
