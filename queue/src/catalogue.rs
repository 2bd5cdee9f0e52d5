//! The kinds of jobs as those who enqueue them know them: their arguments, without the work.

use crate::{Job, NewJob};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

type Read = fn(&Value) -> Result<NewJob, serde_json::Error>;

/// Checks arguments that people have written: [`admin::edit`](crate::admin::edit).
#[derive(Clone, Default)]
pub struct Catalogue {
    kinds: BTreeMap<&'static str, Read>,
}

impl fmt::Debug for Catalogue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.kinds.keys()).finish()
    }
}

/// Arguments that a kind does not take.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    #[error("the kind {0} is not known here, so its arguments cannot be checked")]
    UnknownKind(String),
    #[error("{kind} cannot read these arguments: {error}")]
    Undecodable { kind: String, error: serde_json::Error },
    #[error("{kind} has no field {field:?}")]
    UnknownField { kind: String, field: String },
    /// They are kept encrypted, and cannot be here.
    #[error("{0}")]
    Unsealed(String),
}

impl Catalogue {
    pub fn new() -> Self {
        Catalogue::default()
    }

    #[must_use]
    pub fn kind<J: Job>(mut self) -> Self {
        self.kinds.insert(J::KIND, |args| Ok(NewJob::of(&J::deserialize(args)?)));
        self
    }

    /// Sorted.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.keys().copied()
    }

    /// The arguments as the kind writes them, and what its limits count them by. A field that the kind would not read is refused:
    /// most likely it is a typing error.
    pub fn read(&self, kind: &str, args: &Value) -> Result<NewJob, ArgsError> {
        let read = self.kinds.get(kind).ok_or_else(|| ArgsError::UnknownKind(kind.to_owned()))?;
        let job = read(args).map_err(|error| ArgsError::Undecodable { kind: kind.to_owned(), error })?;
        if let (Value::Object(given), Value::Object(known)) = (args, &job.args)
            && let Some(field) =
                given.iter().find(|(name, value)| !value.is_null() && !known.contains_key(*name))
        {
            return Err(ArgsError::UnknownField { kind: kind.to_owned(), field: field.0.clone() });
        }
        Ok(job)
    }
}
