//! What remote workers, and those who ask them, must be told.

use super::{Config, ConfigError, missing, words};
use actions::jobs::lane;
use queue::KeyRing;
use std::collections::BTreeSet;

/// Lanes with work that needs no database.
pub const REMOTE: [&str; 3] = [lane::OUTBOUND, lane::MAIL, lane::DISCOVERY];

pub(super) fn lanes(list: &str) -> Option<BTreeSet<String>> {
    words(list).map(|word| REMOTE.contains(&word).then(|| word.to_owned())).collect()
}

impl Config {
    pub fn require_remote(&self) -> Result<&KeyRing, ConfigError> {
        if self.amqp_url.is_none() {
            return Err(missing("AMQP_URL"));
        }
        if self.remote_keys.is_empty() {
            Err(missing("RELAYDESK_REMOTE_KEYS"))
        } else {
            Ok(&self.remote_keys)
        }
    }
}
