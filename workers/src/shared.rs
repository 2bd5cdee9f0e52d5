//! What all jobs share.

use chrono::TimeDelta;
use connectors::http;
use connectors::mail::Mailer;
use queue::KeyRing;
use queue::remote::Remote;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use store::Db;
use store::blobs::Blobs;
use store::pruning::Prunable;
use templates::Templates;

/// Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    pub db: Db,
    pub blobs: Blobs,
    pub templates: Arc<Templates>,
    pub http: http::Client,
    /// Open the secrets of webhooks.
    pub secrets: KeyRing,
    /// None: no relay is configured, and mail waits in the ledger.
    pub mailer: Option<Mailer>,
    /// Does what is outside for the lanes that it has.
    pub remote: Option<Remote>,
    pub settings: Arc<Settings>,
}

/// What of the configuration concerns jobs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How people reach this installation, without a slash at the end; links in messages begin with it.
    pub base_url: String,
    /// Our name in Message-IDs.
    pub mail_domain: String,
    /// The sender of mail that belongs to no mailbox.
    pub mail_from: String,
    /// Discovery sources read files only from the folder below it that has the slug of their organization.
    pub discovery_dir: Option<PathBuf>,
    pub pruning: Pruning,
}

/// How long what is over is kept; `None`: for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruning {
    pub mail: Option<Duration>,
    pub payloads: Option<Duration>,
    pub deliveries: Option<Duration>,
    pub reports: Option<Duration>,
    pub webhooks: Option<Duration>,
    /// For organizations that say nothing else.
    pub audit: Option<Duration>,
    /// From which age on a file that no attachment names is taken away.
    pub unnamed: Duration,
}

impl Default for Pruning {
    fn default() -> Self {
        let unnamed = crate::jobs::prune::UNNAMED;
        Pruning {
            mail: None,
            payloads: None,
            deliveries: None,
            reports: None,
            webhooks: None,
            audit: None,
            unnamed,
        }
    }
}

impl Pruning {
    pub fn keeps(&self, what: Prunable) -> Option<TimeDelta> {
        let time = match what {
            Prunable::Mail => self.mail,
            Prunable::Payloads => self.payloads,
            Prunable::Deliveries => self.deliveries,
            Prunable::Reports => self.reports,
            Prunable::Webhooks => self.webhooks,
        };
        time.and_then(|time| TimeDelta::from_std(time).ok())
    }
}
