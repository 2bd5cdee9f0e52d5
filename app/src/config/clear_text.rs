//! What would go over a network for everybody on it to read. Loopback and Unix sockets are this machine's own; beyond it the program does not
//! start with such a setting, unless `RELAYDESK_ALLOW_CLEAR_TEXT` names it (ASVS 5.0, 12.2.1, 12.3.1, 12.3.2).

use super::{Config, ConfigError, words};
use connectors::clamd::Address;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use url::{Host, Url};

/// A kind of connection, as the setting names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClearText {
    Database,
    Broker,
    Mail,
    Scanner,
    Smtp,
    Http,
}

impl ClearText {
    const ALL: [ClearText; 6] = [
        ClearText::Database,
        ClearText::Broker,
        ClearText::Mail,
        ClearText::Scanner,
        ClearText::Smtp,
        ClearText::Http,
    ];

    fn as_str(self) -> &'static str {
        match self {
            ClearText::Database => "database",
            ClearText::Broker => "broker",
            ClearText::Mail => "mail",
            ClearText::Scanner => "scanner",
            ClearText::Smtp => "smtp",
            ClearText::Http => "http",
        }
    }
}

pub(super) fn kinds(list: &str) -> Option<BTreeSet<ClearText>> {
    words(list).map(|word| ClearText::ALL.into_iter().find(|kind| kind.as_str() == word)).collect()
}

/// One setting that leads to clear text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    pub kind: ClearText,
    pub setting: &'static str,
    /// Never more of the setting than the host.
    host: String,
    instead: &'static str,
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spoken { kind, setting, host, instead } = self;
        let word = kind.as_str();
        write!(
            f,
            "{setting}: what goes to or from {host} can be read or changed on the way: {instead}, or name {word} in RELAYDESK_ALLOW_CLEAR_TEXT"
        )
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost"
        || host.starts_with('/')
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

fn database(setting: &'static str, url: &Option<SecretString>) -> Option<Spoken> {
    let options: PgConnectOptions = url.as_ref()?.expose_secret().parse().ok()?;
    // `require` encrypts, and believes whoever answers.
    let is_sealed = matches!(options.get_ssl_mode(), PgSslMode::VerifyCa | PgSslMode::VerifyFull);
    let is_here = options.get_socket().is_some() || is_this_machine(options.get_host());
    let instead = "add sslmode=verify-full (and sslrootcert=… for an authority of your own)";
    (!is_sealed && !is_here).then(|| Spoken {
        kind: ClearText::Database,
        setting,
        host: options.get_host().to_owned(),
        instead,
    })
}

fn peer(
    kind: ClearText,
    setting: &'static str,
    url: &Option<SecretString>,
    is_sealed: impl Fn(&Url) -> bool,
    instead: &'static str,
) -> Option<Spoken> {
    let url: Url = url.as_ref()?.expose_secret().parse().ok()?;
    let host = match url.host()? {
        Host::Domain(name) => name.to_owned(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_string(),
    };
    (!is_sealed(&url) && !is_this_machine(&host)).then_some(Spoken { kind, setting, host, instead })
}

impl Config {
    /// All connections beyond this machine that are in clear text, those that are allowed, too.
    pub fn clear_text(&self) -> Vec<Spoken> {
        let amqp = |url: &Url| url.scheme() == "amqps";
        let smtp = |url: &Url| {
            matches!(url.scheme(), "smtps" | "file")
                || url.query_pairs().any(|(name, value)| name == "tls" && value == "required")
        };
        let mut found: Vec<Spoken> = [
            database("DATABASE_URL", &self.database_url),
            database("RELAYDESK_DATABASE_DIRECT_URL", &self.database_direct_url),
            peer(ClearText::Broker, "AMQP_URL", &self.amqp_url, amqp, "write amqps:"),
            peer(
                ClearText::Mail,
                "RELAYDESK_MAIL_URL",
                &self.mail_url,
                smtp,
                "write smtps:, or add tls=required",
            ),
        ]
        .into_iter()
        .flatten()
        .collect();
        if let Some(Address::Tcp { host, .. }) = &self.clamd
            && !is_this_machine(&host.to_string())
        {
            found.push(Spoken {
                kind: ClearText::Scanner,
                setting: "RELAYDESK_CLAMD",
                host: host.to_string(),
                instead: "run clamd on this machine, or put an end of a tunnel there",
            });
        }
        if let Some(address) = self.smtp_listen.filter(|address| !address.ip().is_loopback()) {
            found.push(Spoken {
                kind: ClearText::Smtp,
                setting: "RELAYDESK_SMTP_LISTEN",
                host: address.to_string(),
                instead: "listen on loopback, behind a mail server that does TLS",
            });
        }
        // People who come by https come by way of a proxy that does TLS.
        if !self.http_listen.ip().is_loopback() && self.base_url.scheme() != "https" {
            found.push(Spoken {
                kind: ClearText::Http,
                setting: "RELAYDESK_HTTP_LISTEN",
                host: self.http_listen.to_string(),
                instead: "put a proxy with TLS in front and write its address, https://…, into RELAYDESK_BASE_URL",
            });
        }
        found
    }

    /// Refuses what nobody has allowed. `listens`: whether this process takes connections.
    pub fn require_no_clear_text(&self, listens: bool) -> Result<(), ConfigError> {
        let concerns = |kind: ClearText| listens || !matches!(kind, ClearText::Smtp | ClearText::Http);
        let found = self.clear_text().into_iter();
        match found.into_iter().find(|one| concerns(one.kind) && !self.allow_clear_text.contains(&one.kind)) {
            Some(one) => Err(ConfigError::ClearText(one)),
            None => Ok(()),
        }
    }
}
