//! Reading JSON that a stranger wrote: bounded depth, and faults with their pointers, several at once.

use super::{Fault, InvalidPayload};
use chrono::{DateTime, SubsecRound, Utc};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Nesting beyond this is refused before anything is built from it.
pub const MAX_DEPTH: usize = 64;
/// More faults than these help nobody.
const MAX_FAULTS: usize = 20;

/// Parses a whole body.
pub fn document(body: &[u8]) -> Result<Value, InvalidPayload> {
    let whole = |detail: String| InvalidPayload { faults: vec![Fault { pointer: String::new(), detail }] };
    if body.trim_ascii().is_empty() {
        return Err(whole("the body is empty: expected JSON".into()));
    }
    if depth(body) > MAX_DEPTH {
        return Err(whole(format!("nested deeper than {MAX_DEPTH} levels")));
    }
    // A byte order mark is not JSON (RFC 8259, 8.1), but some senders write one.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    serde_json::from_slice(body).map_err(|error| whole(format!("not valid JSON: {error}")))
}

/// The deepest nesting of arrays and objects, without building anything.
fn depth(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in body {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Collects what is wrong while the rest is still read.
#[derive(Default)]
pub struct Reader {
    faults: Vec<Fault>,
}

impl Reader {
    pub fn fault(&mut self, pointer: impl Into<String>, detail: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            let (pointer, detail) = (storable(&pointer.into()), storable(&detail.into()));
            self.faults.push(Fault { pointer, detail });
        }
    }

    pub fn finish<T>(self, value: T) -> Result<T, InvalidPayload> {
        if self.faults.is_empty() { Ok(value) } else { Err(InvalidPayload { faults: self.faults }) }
    }

    /// A text, trimmed; `None` when it is missing, null or empty.
    pub fn text(&mut self, object: &Map<String, Value>, at: &str, name: &str) -> Option<String> {
        match object.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(clean(text)).filter(|text| !text.is_empty()),
            Some(other) => {
                self.fault(format!("{at}/{name}"), format!("expected a text, got {}", kind_of(other)));
                None
            }
        }
    }

    /// An RFC 3339 time in microseconds, which is what the database keeps. Go's zero time, `0001-01-01T00:00:00Z`,
    /// counts as missing.
    pub fn time(&mut self, object: &Map<String, Value>, at: &str, name: &str) -> Option<DateTime<Utc>> {
        let text = self.text(object, at, name)?;
        match DateTime::parse_from_rfc3339(&text) {
            Ok(time) if time.timestamp() <= -62_135_596_800 => None,
            Ok(time) => Some(time.with_timezone(&Utc).trunc_subsecs(6)),
            Err(_) => {
                let detail = format!("expected a time like 2026-01-31T12:00:00Z, got {text:?}");
                self.fault(format!("{at}/{name}"), detail);
                None
            }
        }
    }

    /// Names and values; numbers and booleans are taken as their text.
    pub fn labels(&mut self, object: &Map<String, Value>, at: &str, name: &str) -> BTreeMap<String, String> {
        let labels = match object.get(name) {
            None | Some(Value::Null) => return BTreeMap::new(),
            Some(Value::Object(labels)) => labels,
            Some(other) => {
                self.fault(format!("{at}/{name}"), format!("expected an object, got {}", kind_of(other)));
                return BTreeMap::new();
            }
        };
        let mut out = BTreeMap::new();
        for (key, value) in labels {
            let text = match value {
                Value::String(text) => clean(text),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                Value::Null => continue,
                other => {
                    let detail = format!("expected a text, got {}", kind_of(other));
                    self.fault(format!("{at}/{name}/{}", escaped(key)), detail);
                    continue;
                }
            };
            out.insert(clean(key), text);
        }
        out
    }
}

fn clean(text: &str) -> String {
    storable(text.trim())
}

/// Without NUL, which Postgres cannot keep in a text.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// One line of at most `limit` characters.
pub fn one_line(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(limit).collect()
}

/// A reference token of RFC 6901.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn depth_counts_nesting_outside_of_texts() {
        assert_eq!(depth(br#"{"a": [1, {"b": "[[[[\"[["}]}"#), 3);
        let deep = "[".repeat(100_000);
        assert!(document(deep.as_bytes()).unwrap_err().to_string().contains("64 levels"));
        let fits = format!("{}{}", "[".repeat(64), "]".repeat(64));
        assert!(document(fits.as_bytes()).is_ok());
    }

    #[test]
    fn the_whole_can_be_wrong() {
        assert!(document(b" \n").unwrap_err().to_string().contains("empty"));
        assert!(document(b"{\"a\": ").unwrap_err().to_string().contains("not valid JSON"));
        assert!(document(b"\xef\xbb\xbf{}").is_ok());
        assert!(document(b"\"\xff\"").is_err());
    }

    #[test]
    fn faults_can_be_kept() {
        let document = document(br#"{"labels": {"x\u0000": []}}"#).unwrap();
        let mut reader = Reader::default();
        reader.labels(document.as_object().unwrap(), "", "labels");
        reader.fault("/y", "a\0b");
        let told = reader.finish(()).unwrap_err();
        assert_eq!(told.faults[0].pointer, "/labels/x\u{fffd}");
        assert_eq!(told.faults[1].detail, "a\u{fffd}b");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = document(&body);
        }
    }
}
