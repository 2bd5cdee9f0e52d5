//! What all jobs share.

use connectors::http;
use connectors::mail::Mailer;
use std::path::PathBuf;
use std::sync::Arc;
use store::Db;
use store::blobs::Blobs;
use templates::Templates;

/// Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    pub db: Db,
    pub blobs: Blobs,
    pub templates: Arc<Templates>,
    pub http: http::Client,
    /// None: no relay is configured, and mail waits in the ledger.
    pub mailer: Option<Mailer>,
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
}
