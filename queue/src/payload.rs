//! Arguments as they lie in a row, and what a worker makes of them: opened, brought up to its version, decoded.

use crate::keys::{KeyRing, OpenError, SealError};
use crate::{Job, NewJob};
use serde_json::Value;
use uuid::Uuid;

/// Arguments as they were written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payload<'a> {
    pub id: Uuid,
    pub kind: &'a str,
    /// JSON. Sealed: a string.
    pub args: &'a str,
    pub version: i16,
    /// The key that sealed them.
    pub key: Option<&'a str>,
}

/// Why arguments cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    /// Another worker may: a newer one, one that has the key.
    #[error("{0}")]
    Here(String),
    #[error("arguments cannot be decoded: {0}")]
    Ever(String),
}

impl Payload<'_> {
    /// What a worker runs. `opened` is told what is secret before anything is made of it: decoding may panic, and quote what it has read.
    pub fn read<J: Job>(&self, keys: &KeyRing, opened: impl FnOnce(Secrets)) -> Result<J, Unreadable> {
        if self.version > J::VERSION {
            return Err(Unreadable::Here(format!(
                "its arguments are of version {}, and this worker knows {}; a newer one takes it",
                self.version,
                J::VERSION
            )));
        }
        let unsealed;
        let clear = match self.key {
            None => self.args,
            Some(key) => {
                let sealed: String =
                    serde_json::from_str(self.args).map_err(|_| Unreadable::Ever("no sealed text".into()))?;
                unsealed = keys.open(key, self.kind, self.id, &sealed).map_err(|error| match error {
                    OpenError::NoSuchKey(_) => Unreadable::Here(error.to_string()),
                    OpenError::Refused(_) => Unreadable::Ever(error.to_string()),
                })?;
                &unsealed
            }
        };
        let secret = J::ENCRYPTED || self.key.is_some();
        // What serde says may quote what it has read.
        let broken = |error: String| {
            Unreadable::Ever(if secret { "they are not what this kind expects".to_owned() } else { error })
        };
        opened(if secret { Secrets::of(clear) } else { Secrets::default() });
        if self.version == J::VERSION {
            return serde_json::from_str(clear).map_err(|error| broken(error.to_string()));
        }
        let mut value: Value = serde_json::from_str(clear).map_err(|error| broken(error.to_string()))?;
        for from in self.version..J::VERSION {
            value =
                J::upcast(from, value).map_err(|error| broken(format!("from version {from}: {error:#}")))?;
        }
        serde_json::from_value(value).map_err(|error| broken(error.to_string()))
    }
}

impl NewJob {
    /// The arguments as they are written for the job with this id, and the key that sealed them.
    pub(crate) fn written(&self, id: Uuid) -> Result<(String, Option<String>), SealError> {
        let clear = self.args.to_string();
        if !self.encrypted {
            return Ok((clear, None));
        }
        let keys = self.keys.clone().unwrap_or_else(KeyRing::installed);
        let (key, sealed) = keys.seal(self.kind, id, &clear)?;
        Ok((Value::String(sealed).to_string(), Some(key)))
    }
}

/// The words and numbers of encrypted arguments: they are taken out of whatever is kept about the job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Secrets(Vec<String>);

impl Secrets {
    /// Shorter ones say nothing, and would tear errors to pieces.
    const SHORTEST: usize = 4;
    const INSTEAD: &'static str = "(encrypted)";

    fn of(clear: &str) -> Secrets {
        let mut secrets = Vec::new();
        if let Ok(value) = serde_json::from_str(clear) {
            gather(&value, &mut secrets);
        }
        secrets.retain(|secret| secret.chars().count() >= Secrets::SHORTEST);
        // One may be part of another.
        secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Secrets(secrets)
    }

    pub fn taken_out_of(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| {
            if text.contains(secret.as_str()) {
                text.replace(secret.as_str(), Secrets::INSTEAD)
            } else {
                text
            }
        })
    }

    pub fn taken_out_of_json(&self, value: &Value) -> Value {
        if self.0.is_empty() {
            return value.clone();
        }
        match value {
            Value::String(text) => Value::String(self.taken_out_of(text.clone())),
            Value::Array(items) => items.iter().map(|item| self.taken_out_of_json(item)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, field)| (self.taken_out_of(name.clone()), self.taken_out_of_json(field)))
                .collect(),
            Value::Number(number) if self.0.contains(&number.to_string()) => {
                Value::String(Secrets::INSTEAD.to_owned())
            }
            other => other.clone(),
        }
    }
}

fn gather(value: &Value, secrets: &mut Vec<String>) {
    match value {
        Value::String(text) => secrets.push(text.clone()),
        Value::Number(number) => secrets.push(number.to_string()),
        Value::Array(items) => items.iter().for_each(|item| gather(item, secrets)),
        Value::Object(fields) => fields.values().for_each(|field| gather(field, secrets)),
        Value::Null | Value::Bool(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    /// Version 1 had `to`, version 2 `address`, version 3 a list.
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Write {
        addresses: Vec<String>,
    }
    impl Job for Write {
        const KIND: &'static str = "write";
        const LANE: &'static str = "mail";
        const VERSION: i16 = 3;
        fn upcast(from: i16, args: Value) -> Result<Value, anyhow::Error> {
            Ok(match from {
                1 => json!({ "address": args.get("to").ok_or_else(|| anyhow::anyhow!("no `to`"))? }),
                _ => json!({ "addresses": [args["address"]] }),
            })
        }
    }

    fn read(args: &Value, version: i16) -> Result<Write, Unreadable> {
        let args = args.to_string();
        let payload = Payload { id: Uuid::nil(), kind: "write", args: &args, version, key: None };
        payload.read::<Write>(&KeyRing::default(), |_| {})
    }

    #[test]
    fn every_older_version_is_understood() {
        let now = Write { addresses: vec!["a@example.org".into()] };
        assert_eq!(read(&json!({"to": "a@example.org"}), 1).unwrap(), now);
        assert_eq!(read(&json!({"address": "a@example.org"}), 2).unwrap(), now);
        assert_eq!(read(&json!({"addresses": ["a@example.org"]}), 3).unwrap(), now);
        assert!(matches!(read(&json!({}), 4), Err(Unreadable::Here(why)) if why.contains("version 4")));
        assert!(matches!(read(&json!({}), 1), Err(Unreadable::Ever(why)) if why.contains("no `to`")));
    }

    #[test]
    fn secrets_are_taken_out() {
        let secrets =
            Secrets::of(r#"{"token": "s3cr3t", "pin": 123456, "deep": [{"x": "s3cr3t-too"}], "no": "abc"}"#);
        let text = secrets.taken_out_of("401 for s3cr3t-too and s3cr3t, pin 123456, abc".into());
        assert_eq!(text, "401 for (encrypted) and (encrypted), pin (encrypted), abc");
        let value = secrets.taken_out_of_json(&json!({"echo": ["Bearer s3cr3t"], "pin": 123456, "n": 1}));
        assert_eq!(value, json!({"echo": ["Bearer (encrypted)"], "pin": "(encrypted)", "n": 1}));
    }
}
