//! What all handlers share.

use crate::client::Proxies;
use crate::followers::Followers;
use crate::live::Live;
use crate::rates::{Limiter, Rates};
use crate::refusals::Told;
use crate::{ApiResult, Problem};
use actions::access::Keys;
use actions::hooks::Door;
use actions::passwords::Policy;
use axum::http::HeaderValue;
use connectors::clamd::Scanner;
use connectors::http::Client;
use queue::KeyRing;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;
use store::Db;
use store::blobs::Blobs;
use tokio_util::sync::CancellationToken;

/// One pointer: each layer around a route clones it for each request.
#[derive(Clone, Debug)]
pub struct AppState(Arc<Shared>);

#[derive(Clone, Debug)]
pub struct Shared {
    pub db: Db,
    pub blobs: Blobs,
    pub keys: Arc<Keys>,
    /// Seal the secrets of second factors.
    pub secrets: KeyRing,
    /// What makes a password acceptable.
    pub passwords: Policy,
    pub settings: Arc<Settings>,
    /// Hooks are taken by way of the broker.
    pub door: Option<Door>,
    /// The way to identity providers.
    outgoing: Option<Client>,
    /// Judges what came from outside before it is handed out.
    pub(crate) scanner: Option<Scanner>,
    pub(crate) live: Live,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) followers: Arc<Followers>,
    pub(crate) refusals: Arc<Told>,
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
    /// How long a client may pause in the middle of a body.
    pub body_pause: Duration,
    pub proxies: Proxies,
    pub rates: Rates,
    /// Whose pages may call the API, as [`crate::origin`] reads them.
    pub cors_origins: Vec<HeaderValue>,
    /// How long an identity provider may take for one answer.
    pub provider_timeout: Duration,
    /// `/metrics` has a listener of its own.
    pub metrics_elsewhere: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            base_url: "http://127.0.0.1:8080".into(),
            body_limit: 1024 * 1024,
            upload_limit: 32 * 1024 * 1024,
            request_timeout: Duration::from_secs(60),
            body_pause: Duration::from_secs(20),
            proxies: Proxies::default(),
            rates: Rates::default(),
            cors_origins: Vec::new(),
            provider_timeout: Duration::from_secs(10),
            metrics_elsewhere: false,
        }
    }
}

impl Deref for AppState {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// Of this one; what was cloned before stays as it was.
impl DerefMut for AppState {
    fn deref_mut(&mut self) -> &mut Shared {
        Arc::make_mut(&mut self.0)
    }
}

impl AppState {
    pub fn new(db: Db, blobs: Blobs, keys: Keys, settings: Settings) -> Self {
        let draining = CancellationToken::new();
        let live = Live::new(db.clone(), draining.clone());
        AppState(Arc::new(Shared {
            db,
            blobs,
            keys: Arc::new(keys),
            secrets: KeyRing::default(),
            passwords: Policy::default(),
            settings: Arc::new(settings),
            door: None,
            outgoing: None,
            scanner: None,
            live,
            limiter: Arc::default(),
            followers: Arc::default(),
            refusals: Arc::default(),
            draining,
        }))
    }

    #[must_use]
    pub fn with_secrets(mut self, secrets: KeyRing) -> Self {
        self.secrets = secrets;
        self
    }

    #[must_use]
    pub fn with_passwords(mut self, passwords: Policy) -> Self {
        self.passwords = passwords;
        self
    }

    #[must_use]
    pub fn with_door(mut self, door: Option<Door>) -> Self {
        self.door = door;
        self
    }

    #[must_use]
    pub fn with_outgoing(mut self, client: Client) -> Self {
        self.outgoing = Some(client);
        self
    }

    #[must_use]
    pub fn with_scanner(mut self, scanner: Option<Scanner>) -> Self {
        self.scanner = scanner;
        self
    }

    pub(crate) fn outgoing(&self) -> ApiResult<&Client> {
        self.outgoing.as_ref().ok_or_else(|| Problem::internal(&"there is no client for outgoing requests"))
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
