//! What all handlers share.

use crate::live::Live;
use actions::access::Keys;
use actions::hooks::Door;
use std::sync::Arc;
use std::time::Duration;
use store::Db;
use store::blobs::Blobs;
use tokio_util::sync::CancellationToken;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub struct AppState {
    pub db: Db,
    pub blobs: Blobs,
    pub keys: Arc<Keys>,
    pub settings: Arc<Settings>,
    /// Hooks are taken by way of the broker.
    pub door: Option<Door>,
    pub(crate) live: Live,
    draining: CancellationToken,
}

#[derive(Clone, Debug)]
pub struct Settings {
    /// How the outside reaches us, without a slash at the end: `https://desk.example.org`.
    pub base_url: String,
    /// Largest body of an ordinary request, bytes.
    pub body_limit: usize,
    /// Largest body of an upload or an inbound hook, bytes.
    pub upload_limit: usize,
    /// How long a handler may take before the caller gets 503.
    pub request_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            base_url: "http://127.0.0.1:8080".into(),
            body_limit: 1024 * 1024,
            upload_limit: 32 * 1024 * 1024,
            request_timeout: Duration::from_secs(60),
        }
    }
}

impl AppState {
    pub fn new(db: Db, blobs: Blobs, keys: Keys, settings: Settings) -> Self {
        let draining = CancellationToken::new();
        let live = Live::new(db.clone(), draining.clone());
        AppState { db, blobs, keys: Arc::new(keys), settings: Arc::new(settings), door: None, live, draining }
    }

    #[must_use]
    pub fn with_door(mut self, door: Option<Door>) -> Self {
        self.door = door;
        self
    }

    /// From now on `/readyz` says no, so that load balancers send nothing new, and live streams end; requests are still
    /// served.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    pub(crate) fn draining(&self) -> &CancellationToken {
        &self.draining
    }
}
