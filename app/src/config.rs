//! Configuration: environment over file over defaults. [`SETTINGS`] is the only list; `--help`,
//! `relaydesk.example.toml` and `docs/configuration.md` are held against it by a test.

mod clear_text;
mod file;
mod http;
mod keep;
mod print;
pub mod remote;
mod settings;
#[cfg(test)]
mod tests;
mod values;

use actions::breached::BreachedPasswords;
use axum::http::HeaderValue;
pub use clear_text::{ClearText, Spoken};
use connectors::http::HostPattern;
use ipnet::IpNet;
pub use print::{example, help};
use queue::{Keep, KeyRing, Transport};
use secrecy::SecretString;
pub use settings::SETTINGS;
use settings::Setting;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use url::Url;
use values::{hosts, is_filter, is_sender, lanes, networks, postgresql, secrets, words};

/// How this process works on a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Jobs at a time.
    pub size: usize,
    pub transport: Transport,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub database_url: Option<SecretString>,
    /// Given: `database_url` leads to a pooler.
    pub database_direct_url: Option<SecretString>,
    pub database_connections: u32,
    pub http_listen: SocketAddr,
    pub metrics_listen: Option<SocketAddr>,
    pub base_url: Url,
    pub proxies: api::Proxies,
    pub http_connections: u32,
    pub rates: api::Rates,
    pub cors_origins: Vec<HeaderValue>,
    pub smtp_listen: Option<SocketAddr>,
    pub smtp_hostname: String,
    pub max_message_bytes: usize,
    pub mail_url: Option<SecretString>,
    pub mail_from: String,
    pub data_dir: PathBuf,
    pub discovery_dir: Option<PathBuf>,
    /// The first signs.
    pub jwt_secret: Vec<SecretString>,
    pub clamd: Option<connectors::clamd::Address>,
    pub breached_passwords: Option<Arc<BreachedPasswords>>,
    pub audit_key: Option<SecretString>,
    pub allow_private_destinations: Vec<IpNet>,
    pub egress_hosts: Vec<HostPattern>,
    pub allow_clear_text: BTreeSet<ClearText>,
    pub lanes: BTreeMap<String, Lane>,
    pub amqp_url: Option<SecretString>,
    pub amqp_prefix: String,
    pub job_keys: KeyRing,
    pub job_history: Keep,
    pub retention: workers::Pruning,
    pub remote_lanes: BTreeSet<String>,
    pub remote_keys: KeyRing,
    pub shutdown_grace: Duration,
    pub log: String,
    pub log_json: bool,
    pub postgres_bin: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{name} is {value:?}: expected {expects}")]
    Wrong { name: &'static str, value: String, expects: &'static str },
    #[error("{name} is not set: expected {expects}")]
    Missing { name: &'static str, expects: &'static str },
    #[error("{path}: {reason}")]
    File { path: String, reason: String },
    #[error(
        "key {job} of RELAYDESK_JOB_KEYS and key {remote} of RELAYDESK_REMOTE_KEYS are the same: with it a remote worker could open encrypted arguments; make a new one for RELAYDESK_REMOTE_KEYS"
    )]
    SameKey { job: String, remote: String },
    #[error("{0}")]
    ClearText(Spoken),
}

/// Values by environment name, before they are understood.
pub struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// `file` is read if given, else `relaydesk.toml` if it is there.
    pub fn collect(file: Option<&Path>, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            values.insert(setting.env, setting.default.unwrap_or_default().to_owned());
        }
        let default_file = Path::new("relaydesk.toml");
        let file = file.or_else(|| default_file.exists().then_some(default_file));
        for (name, value) in file.map(file::read).transpose()?.unwrap_or_default() {
            values.insert(name, value);
        }
        for setting in SETTINGS {
            if let Some(value) = env(setting.env) {
                values.insert(setting.env, value);
            }
        }
        Ok(Values(values))
    }

    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.insert(name, value.into());
    }

    /// Gives a value to a setting that has none yet.
    pub fn set_default(&mut self, name: &'static str, value: impl Into<String>) {
        let slot = self.0.entry(name).or_default();
        if slot.is_empty() {
            *slot = value.into();
        }
    }

    pub fn is_default(&self, name: &str) -> bool {
        find(name).default.unwrap_or_default() == self.get(name)
    }

    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).map(String::as_str).unwrap_or_default()
    }

    fn parse<T>(&self, name: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, ConfigError> {
        let setting = find(name);
        let value = self.get(name);
        read(value).ok_or_else(|| ConfigError::Wrong {
            name,
            value: if setting.secret { "(hidden)".to_owned() } else { value.to_owned() },
            expects: setting.expects,
        })
    }

    fn optional<T>(
        &self,
        name: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        if self.get(name).is_empty() { Ok(None) } else { self.parse(name, read).map(Some) }
    }

    fn number(&self, name: &'static str, min: u64, max: u64) -> Result<u64, ConfigError> {
        self.parse(name, |v| v.parse().ok().filter(|n| (min..=max).contains(n)))
    }

    pub fn understand(&self) -> Result<Config, ConfigError> {
        let text = |v: &str| Some(v.to_owned());
        let config = Config {
            database_url: self.optional("DATABASE_URL", postgresql)?,
            database_direct_url: self.optional("RELAYDESK_DATABASE_DIRECT_URL", postgresql)?,
            database_connections: self.number("RELAYDESK_DATABASE_CONNECTIONS", 2, 500)? as u32,
            http_listen: self.parse("RELAYDESK_HTTP_LISTEN", |v| v.parse().ok())?,
            metrics_listen: self.optional("RELAYDESK_METRICS_LISTEN", |v| v.parse().ok())?,
            base_url: self.parse("RELAYDESK_BASE_URL", |v| {
                v.parse().ok().filter(|url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host())
            })?,
            proxies: api::Proxies {
                networks: self.parse("RELAYDESK_TRUSTED_PROXIES", networks)?,
                header: self.parse("RELAYDESK_PROXY_HEADER", http::forwarding)?,
            },
            http_connections: self.number("RELAYDESK_HTTP_CONNECTIONS", 16, 100_000)? as u32,
            rates: self.parse("RELAYDESK_RATE_LIMITS", http::rates)?,
            cors_origins: self.parse("RELAYDESK_CORS_ORIGINS", |v| words(v).map(api::origin).collect())?,
            smtp_listen: self.optional("RELAYDESK_SMTP_LISTEN", |v| v.parse().ok())?,
            smtp_hostname: self.parse("RELAYDESK_SMTP_HOSTNAME", |v| {
                (!v.is_empty() && v.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)))
                    .then(|| v.to_owned())
            })?,
            max_message_bytes: self.number(
                "RELAYDESK_MAX_MESSAGE_BYTES",
                65_536,
                connectors::mail::parse::MAX_MESSAGE as u64,
            )? as usize,
            mail_url: self.optional("RELAYDESK_MAIL_URL", |v| {
                let url: Url = v.parse().ok()?;
                let leads_somewhere = match url.scheme() {
                    "smtp" | "smtps" => url.host_str().is_some_and(|host| !host.is_empty()),
                    "file" => url.to_file_path().is_ok_and(|path| path.parent().is_some()),
                    _ => false,
                };
                leads_somewhere.then(|| v.into())
            })?,
            mail_from: self.parse("RELAYDESK_MAIL_FROM", |v| is_sender(v).then(|| v.to_owned()))?,
            data_dir: self.parse("RELAYDESK_DATA_DIR", |v| (!v.is_empty()).then(|| PathBuf::from(v)))?,
            discovery_dir: self
                .optional("RELAYDESK_DISCOVERY_DIR", |v| Some(PathBuf::from(v)).filter(|dir| dir.is_dir()))?,
            jwt_secret: self.parse("RELAYDESK_JWT_SECRET", secrets)?,
            clamd: self.optional("RELAYDESK_CLAMD", |v| v.parse().ok())?,
            breached_passwords: self.optional("RELAYDESK_BREACHED_PASSWORDS", |v| {
                BreachedPasswords::open(Path::new(v)).ok().map(Arc::new)
            })?,
            audit_key: self.optional("RELAYDESK_AUDIT_KEY", |v| (v.len() >= 32).then(|| v.into()))?,
            allow_private_destinations: self.parse("RELAYDESK_ALLOW_PRIVATE_DESTINATIONS", networks)?,
            egress_hosts: self.parse("RELAYDESK_EGRESS_HOSTS", hosts)?,
            allow_clear_text: self.parse("RELAYDESK_ALLOW_CLEAR_TEXT", clear_text::kinds)?,
            lanes: self.parse("RELAYDESK_LANES", lanes)?,
            amqp_url: self.optional("AMQP_URL", |v| {
                let url: Url = v.parse().ok()?;
                (matches!(url.scheme(), "amqp" | "amqps") && url.has_host()).then(|| v.into())
            })?,
            amqp_prefix: self.parse("RELAYDESK_AMQP_PREFIX", |v| {
                let fits = (1..=40).contains(&v.len())
                    && v.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
                fits.then(|| v.to_owned())
            })?,
            job_keys: self.parse("RELAYDESK_JOB_KEYS", |v| v.parse().ok())?,
            job_history: self.parse("RELAYDESK_JOB_HISTORY", keep::history)?,
            retention: self.parse("RELAYDESK_RETENTION", keep::retention)?,
            remote_lanes: self.parse("RELAYDESK_REMOTE_LANES", remote::lanes)?,
            remote_keys: self.parse("RELAYDESK_REMOTE_KEYS", |v| v.parse().ok())?,
            shutdown_grace: Duration::from_secs(self.number("RELAYDESK_SHUTDOWN_GRACE", 0, 600)?),
            log: self.parse("RELAYDESK_LOG", |v| {
                let filter = v.parse::<tracing_subscriber::EnvFilter>().ok();
                filter.filter(|_| is_filter(v)).map(|_| v.to_owned())
            })?,
            log_json: self.parse("RELAYDESK_LOG_FORMAT", |v| match v {
                "text" => Some(false),
                "json" => Some(true),
                _ => None,
            })?,
            postgres_bin: self.optional("RELAYDESK_POSTGRES_BIN", text)?.map(PathBuf::from),
        };
        if config.amqp_url.is_none()
            && config.lanes.values().any(|lane| lane.transport == Transport::Rabbitmq)
        {
            return Err(missing("AMQP_URL"));
        }
        if !config.remote_lanes.is_empty() {
            config.require_remote()?;
        }
        if let Some((job, remote)) = config.job_keys.shared_with(&config.remote_keys) {
            return Err(ConfigError::SameKey { job: job.to_owned(), remote: remote.to_owned() });
        }
        Ok(config)
    }
}

impl Config {
    pub fn require_database(&self) -> Result<&SecretString, ConfigError> {
        self.database_url.as_ref().ok_or_else(|| missing("DATABASE_URL"))
    }

    pub fn require_jwt_secret(&self) -> Result<&[SecretString], ConfigError> {
        let secrets = self.jwt_secret.as_slice();
        if secrets.is_empty() { Err(missing("RELAYDESK_JWT_SECRET")) } else { Ok(secrets) }
    }
}

fn find(name: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.env == name).expect("a setting of the list")
}

fn missing(name: &'static str) -> ConfigError {
    ConfigError::Missing { name, expects: find(name).expects }
}
