//! Configuration: environment over file over defaults. `SETTINGS` is the only list; `--help`,
//! `relaydesk.example.toml` and `docs/configuration.md` are held against it by a test.

mod keep;
pub mod remote;
#[cfg(test)]
mod tests;
mod values;

use ipnet::IpNet;
use queue::{Keep, KeyRing, Transport};
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;
use values::{is_filter, is_sender, lanes, networks, postgresql, words};

/// One setting. Its key in the file is the environment name in lower case without `RELAYDESK_`.
#[derive(Debug)]
pub struct Setting {
    pub env: &'static str,
    pub default: Option<&'static str>,
    /// What a right value looks like; part of the error for a wrong one.
    pub expects: &'static str,
    pub help: &'static str,
    pub secret: bool,
}

impl Setting {
    pub fn key(&self) -> String {
        self.env.trim_start_matches("RELAYDESK_").to_lowercase()
    }
}

const fn setting(
    env: &'static str,
    default: Option<&'static str>,
    expects: &'static str,
    help: &'static str,
) -> Setting {
    Setting { env, default, expects, help, secret: false }
}

const fn secret(env: &'static str, expects: &'static str, help: &'static str) -> Setting {
    Setting { env, default: None, expects, help, secret: true }
}

pub const SETTINGS: &[Setting] = &[
    secret(
        "DATABASE_URL",
        "postgresql://user:password@host/database",
        "The database, as the application role: one that owns nothing and cannot bypass row level security. \
         `relaydesk migrate` alone connects as the owner.",
    ),
    secret(
        "RELAYDESK_DATABASE_DIRECT_URL",
        "postgresql://user:password@host/database, or empty",
        "When DATABASE_URL leads to a pooler that hands out sessions by the transaction (PgBouncer): the same database on the server \
         itself, for what needs a session of its own. Empty: DATABASE_URL leads to the server.",
    ),
    setting(
        "RELAYDESK_DATABASE_CONNECTIONS",
        Some("20"),
        "a number from 2 to 500",
        "Connections of this process to the database, besides those of the job engine.",
    ),
    setting(
        "RELAYDESK_HTTP_LISTEN",
        Some("127.0.0.1:8080"),
        "address:port",
        "Where the API and the console listen.",
    ),
    setting(
        "RELAYDESK_BASE_URL",
        Some("http://127.0.0.1:8080"),
        "an http or https URL",
        "How people reach this installation; links in messages begin with it.",
    ),
    setting(
        "RELAYDESK_SMTP_LISTEN",
        Some(""),
        "address:port, or empty",
        "Where the SMTP listener for the mailboxes' addresses listens; empty: no listener.",
    ),
    setting(
        "RELAYDESK_SMTP_HOSTNAME",
        Some("localhost"),
        "a host name",
        "The name in the SMTP greeting and in Message-IDs.",
    ),
    setting(
        "RELAYDESK_MAX_MESSAGE_BYTES",
        Some("31457280"),
        "a number of bytes from 65536 to 268435456",
        "The largest mail that is taken.",
    ),
    secret(
        "RELAYDESK_MAIL_URL",
        "smtp://[user:password@]host[:port], smtps://…, file:///folder, or empty",
        "The relay for outgoing mail. `file:` writes each mail as an .eml file; empty: mails wait in the ledger.",
    ),
    setting(
        "RELAYDESK_MAIL_FROM",
        Some("Relaydesk <relaydesk@localhost>"),
        "an e-mail address, optionally with a name",
        "The sender of mail that belongs to no mailbox.",
    ),
    setting(
        "RELAYDESK_DATA_DIR",
        Some(".relaydesk"),
        "a folder",
        "Attachments and report files; shared by all processes of an installation.",
    ),
    setting(
        "RELAYDESK_DISCOVERY_DIR",
        Some(""),
        "a folder that is there, or empty",
        "Below it lies a folder for each organization, named like its slug: the only one from which its discovery sources may read files; empty: none.",
    ),
    secret(
        "RELAYDESK_JWT_SECRET",
        "at least 32 characters",
        "Signs access tokens; the same for all processes. `openssl rand -hex 32` makes one.",
    ),
    setting(
        "RELAYDESK_ALLOW_PRIVATE_DESTINATIONS",
        Some(""),
        "a list of networks such as 10.1.0.0/16,127.0.0.0/8",
        "Private, loopback and link-local networks that outgoing connections may reach; others are refused.",
    ),
    setting(
        "RELAYDESK_LANES",
        Some("ingest=16,react=8,timers=8,outbound=16,mail=8,reports=2,discovery=2,maintenance=2"),
        "a list such as ingest=16,outbound=4@rabbitmq",
        "How many jobs of each lane this process runs at a time. A lane that is not listed is not worked here. \
         `@rabbitmq`: its jobs come through the broker of AMQP_URL; with `ingest` there, so do hooks.",
    ),
    secret(
        "AMQP_URL",
        "amqp://user:password@host[:port]/vhost, amqps://…, or empty",
        "RabbitMQ (3.10 or newer), for the lanes that RELAYDESK_LANES puts there; empty: none is needed.",
    ),
    setting(
        "RELAYDESK_AMQP_PREFIX",
        Some("relaydesk"),
        "up to 40 letters, digits, hyphens and dots",
        "All names in the broker begin with it; installations that share a vhost need different ones.",
    ),
    secret(
        "RELAYDESK_JOB_KEYS",
        "a list of name:key, each key the base64 of 32 bytes, or empty",
        "Keys for jobs whose arguments are kept encrypted, the same for all processes: the first one seals, all of them open.",
    ),
    setting(
        "RELAYDESK_JOB_HISTORY",
        Some("short=2d,normal=14d,long=90d,dead=60d"),
        "a list such as normal=30d,long=400d, in days from 1d",
        "How long what jobs leave is kept, by the retention of their kind (`relaydesk kinds list`), and how long dead letters wait.",
    ),
    setting(
        "RELAYDESK_RETENTION",
        Some("mail=never,payloads=90d,deliveries=400d,reports=400d"),
        "a list such as mail=never,payloads=30d, in days from 30d",
        "How long raw mail and monitoring payloads that were worked off, messages that were sent, and reports are kept; never: they stay. \
         What failed or waits always stays.",
    ),
    setting(
        "RELAYDESK_REMOTE_LANES",
        Some(""),
        "a list of outbound, mail and discovery, or empty",
        "Lanes whose work outside (messages, mails, inventories) is done by `relaydesk worker --remote`; needs AMQP_URL and RELAYDESK_REMOTE_KEYS.",
    ),
    secret(
        "RELAYDESK_REMOTE_KEYS",
        "a list of name:key, each key the base64 of 32 bytes, or empty",
        "Keys for what goes to remote workers and back, the same on both sides: the first one seals, all of them open. `openssl rand -base64 32` makes one.",
    ),
    setting(
        "RELAYDESK_SHUTDOWN_GRACE",
        Some("25"),
        "a number of seconds from 0 to 600",
        "How long running jobs may finish after SIGTERM.",
    ),
    setting(
        "RELAYDESK_LOG",
        Some("info"),
        "a filter such as info or info,queue=debug",
        "Which log lines are written.",
    ),
    setting(
        "RELAYDESK_LOG_FORMAT",
        Some("text"),
        "text or json",
        "How log lines are written (to standard error).",
    ),
    setting(
        "RELAYDESK_POSTGRES_BIN",
        Some(""),
        "a folder, or empty",
        "`demo` only: the folder with initdb and postgres; empty: look for it.",
    ),
];

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
    pub base_url: Url,
    pub smtp_listen: Option<SocketAddr>,
    pub smtp_hostname: String,
    pub max_message_bytes: usize,
    pub mail_url: Option<SecretString>,
    pub mail_from: String,
    pub data_dir: PathBuf,
    pub discovery_dir: Option<PathBuf>,
    pub jwt_secret: Option<SecretString>,
    pub allow_private_destinations: Vec<IpNet>,
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
        for (name, value) in file.map(read_file).transpose()?.unwrap_or_default() {
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
            base_url: self.parse("RELAYDESK_BASE_URL", |v| {
                v.parse().ok().filter(|url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host())
            })?,
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
            jwt_secret: self.optional("RELAYDESK_JWT_SECRET", |v| (v.len() >= 32).then(|| v.into()))?,
            allow_private_destinations: self.parse("RELAYDESK_ALLOW_PRIVATE_DESTINATIONS", networks)?,
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

    pub fn require_jwt_secret(&self) -> Result<&SecretString, ConfigError> {
        self.jwt_secret.as_ref().ok_or_else(|| missing("RELAYDESK_JWT_SECRET"))
    }
}

fn find(name: &str) -> &'static Setting {
    SETTINGS.iter().find(|setting| setting.env == name).expect("a setting of the list")
}

fn missing(name: &'static str) -> ConfigError {
    ConfigError::Missing { name, expects: find(name).expects }
}

fn read_file(path: &Path) -> Result<Vec<(&'static str, String)>, ConfigError> {
    let wrong = |reason: String| ConfigError::File { path: path.display().to_string(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    table
        .into_iter()
        .map(|(key, value)| {
            let setting = SETTINGS.iter().find(|setting| setting.key() == key).ok_or_else(|| {
                wrong(format!("{key:?} is no setting; `relaydesk config check --help` lists them"))
            })?;
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                other => return Err(wrong(format!("{key} is {other}: expected {}", setting.expects))),
            };
            Ok((setting.env, value))
        })
        .collect()
}

/// The settings as `--help` shows them.
pub fn help() -> String {
    let mut text =
        String::from("Settings (environment; in relaydesk.toml in lower case without RELAYDESK_):\n");
    for setting in SETTINGS {
        let default =
            setting.default.filter(|d| !d.is_empty()).map(|d| format!(" [default: {d}]")).unwrap_or_default();
        text += &format!("  {}\n      {} ({}){}\n", setting.env, setting.help, setting.expects, default);
    }
    text
}

/// `relaydesk.example.toml`, as `script/update` writes it.
pub fn example() -> String {
    let mut text = String::from(
        "# Relaydesk configuration. Copy to relaydesk.toml; the environment (RELAYDESK_…) wins over this file.\n\
         # Written by script/update from app/src/config.rs.\n",
    );
    for setting in SETTINGS {
        text += &format!("\n# {}\n# {}; environment: {}\n", setting.help, setting.expects, setting.env);
        text += &format!("# {} = {:?}\n", setting.key(), setting.default.unwrap_or_default());
    }
    text
}
