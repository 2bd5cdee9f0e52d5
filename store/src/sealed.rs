//! What lies sealed in a row in place of a secret. How it is sealed and opened is not known here (`actions::seals`).

use std::fmt;

#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Of the key that it is sealed with.
    pub key_name: String,
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sealed with {}", self.key_name)
    }
}

impl Sealed {
    pub(crate) fn of(key_name: Option<String>, bytes: Option<Vec<u8>>) -> Option<Sealed> {
        key_name.zip(bytes).map(|(key_name, bytes)| Sealed { key_name, bytes })
    }
}
