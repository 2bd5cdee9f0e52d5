//! What the demo puts into a fresh installation, and what it does there.

pub mod seed;
pub mod traffic;

use base64::Engine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `demo.json`: what one needs to talk to the demo. Later starts keep what is in it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Facts {
    pub api: String,
    pub smtp: String,
    pub organization: String,
    pub admin: Account,
    pub agent: Account,
    /// An API token of the admin.
    pub token: String,
    /// Inbound hooks by kind.
    pub hooks: BTreeMap<String, String>,
    pub mailboxes: Vec<String>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Account {
    pub email: String,
    pub password: String,
}

/// 256 random bits as text.
pub fn secret() -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}
