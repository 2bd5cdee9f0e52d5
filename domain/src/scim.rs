//! SCIM 2.0 (RFC 7643, RFC 7644), as far as it can be understood without a database: what a filter looks for, and what a body or a patch asks for.
//!
//! Read generously: attribute names and operations in any case, with or without the schema in front; booleans as words; a patch with paths, without,
//! or with paths as names. What is not known here is left out, for identity providers send whatever they have.

mod group;
mod path;
mod person;

pub use group::{GroupDraft, MOST_CHANGES};
pub use path::{Path, Term, filter};
pub use person::PersonDraft;

use serde_json::Value;

pub const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
pub const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";

/// Most operations of one patch.
const MOST_OPERATIONS: usize = 1000;

/// The words of RFC 7644, 3.12, for what is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    InvalidFilter,
    InvalidPath,
    InvalidSyntax,
    InvalidValue,
    Mutability,
    NoTarget,
    /// Another one has this name already.
    Uniqueness,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::InvalidFilter => "invalidFilter",
            Kind::InvalidPath => "invalidPath",
            Kind::InvalidSyntax => "invalidSyntax",
            Kind::InvalidValue => "invalidValue",
            Kind::Mutability => "mutability",
            Kind::NoTarget => "noTarget",
            Kind::Uniqueness => "uniqueness",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Wrong {
    pub kind: Kind,
    pub detail: String,
}

impl Wrong {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Wrong { kind, detail: detail.into() }
    }

    fn value(name: &str, expected: &str) -> Self {
        Wrong::new(Kind::InvalidValue, format!("{name} must be {expected}"))
    }
}

pub type Result<T> = std::result::Result<T, Wrong>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Add,
    Replace,
    Remove,
}

/// One operation of a patch. An operation without a path whose value is an object is one for each of its members.
#[derive(Clone, Debug)]
pub struct Operation {
    pub op: Op,
    pub path: Path,
    /// Null and nothing are the same (RFC 7643, 2.5).
    pub value: Option<Value>,
}

/// The member of an object whose name is this one in any case.
fn member<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// The operations of a patch (RFC 7644, 3.5.2).
pub fn patch(body: &Value) -> Result<Vec<Operation>> {
    let syntax = |detail: &str| Wrong::new(Kind::InvalidSyntax, detail);
    let operations = member(body, "Operations").and_then(Value::as_array);
    let operations = operations.ok_or_else(|| syntax("a patch has Operations, which is a list"))?;
    let mut all = Vec::new();
    for operation in operations {
        let word = member(operation, "op").and_then(Value::as_str).unwrap_or_default();
        let op = match word.to_ascii_lowercase().as_str() {
            "add" => Op::Add,
            "replace" => Op::Replace,
            "remove" => Op::Remove,
            _ => return Err(syntax("op is one of add, replace, remove")),
        };
        let value = member(operation, "value").filter(|value| !value.is_null());
        match (member(operation, "path").filter(|path| !path.is_null()), op) {
            (Some(Value::String(path)), _) => {
                all.push(Operation { op, path: Path::parse(path)?, value: value.cloned() });
            }
            (Some(_), _) => return Err(Wrong::new(Kind::InvalidPath, "path is a text")),
            (None, Op::Remove) => return Err(Wrong::new(Kind::NoTarget, "remove needs a path")),
            (None, Op::Add | Op::Replace) => {
                let members = value.and_then(Value::as_object);
                let members =
                    members.ok_or_else(|| syntax("without a path, value is an object with attributes"))?;
                all.extend(assignments(op, members));
            }
        }
        if all.len() > MOST_OPERATIONS {
            return Err(Wrong::new(Kind::InvalidValue, format!("at most {MOST_OPERATIONS} operations")));
        }
    }
    Ok(all)
}

/// The attributes of an object as operations; names that cannot be read are none of ours.
fn assignments(op: Op, members: &serde_json::Map<String, Value>) -> Vec<Operation> {
    let known = members.iter().filter_map(|(name, value)| Some((Path::parse(name).ok()?, value)));
    known
        .map(|(path, value)| Operation { op, path, value: Some(value.clone()).filter(|v| !v.is_null()) })
        .collect()
}

/// A whole resource, as operations that set its attributes.
fn resource(body: &Value) -> Result<Vec<Operation>> {
    let members = body.as_object();
    let members = members.ok_or_else(|| Wrong::new(Kind::InvalidSyntax, "the body is an object"))?;
    Ok(assignments(Op::Replace, members))
}

/// A text that is not empty; an empty one stands for none.
fn text<'a>(name: &str, value: Option<&'a Value>) -> Result<Option<&'a str>> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.trim()).filter(|text| !text.is_empty())),
        Some(_) => Err(Wrong::value(name, "a text")),
    }
}

/// Yes or no, also as a word: Entra ID writes `"False"`.
fn boolean(name: &str, value: &Value) -> Result<bool> {
    match value {
        Value::Bool(value) => Ok(*value),
        Value::String(word) if word.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(word) if word.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err(Wrong::value(name, "true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn json() -> impl Strategy<Value = Value> {
        let word = prop_oneof![
            Just("Operations".to_owned()),
            Just("op".to_owned()),
            Just("path".to_owned()),
            Just("value".to_owned()),
            Just("members".to_owned()),
            Just("name.givenName".to_owned()),
            Just("active".to_owned()),
            Just("replace".to_owned()),
            Just("emails[type eq \"work\"].value".to_owned()),
            any::<String>(),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            word.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 64, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::hash_map(word.clone(), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_body_and_no_filter_is_too_strange(body in json(), text in any::<String>()) {
            let _ = filter(&text);
            let _ = Path::parse(&text);
            let _ = PersonDraft::of_resource(&body);
            let _ = GroupDraft::of_resource(&body);
            if let Ok(operations) = patch(&body) {
                let _ = PersonDraft::of_patch(&operations);
                let _ = GroupDraft::of_patch(&operations);
            }
        }
    }

    #[test]
    fn a_patch_that_cannot_be_read_says_why() {
        for (body, kind) in [
            (json!([]), Kind::InvalidSyntax),
            (json!({"Operations": {}}), Kind::InvalidSyntax),
            (json!({"Operations": [{"op": "move", "path": "active"}]}), Kind::InvalidSyntax),
            (json!({"Operations": [{"op": "remove"}]}), Kind::NoTarget),
            (json!({"Operations": [{"op": "replace", "value": true}]}), Kind::InvalidSyntax),
            (json!({"Operations": [{"op": "replace", "path": "a[", "value": true}]}), Kind::InvalidPath),
            (json!({"Operations": [{"op": "replace", "path": 1, "value": true}]}), Kind::InvalidPath),
        ] {
            assert_eq!(patch(&body).unwrap_err().kind, kind, "{body}");
        }
    }
}
