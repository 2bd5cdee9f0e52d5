//! Every setting: its name, its default, what a right value looks like, what it is for.

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

/// In the order in which people read them.
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
        "RELAYDESK_METRICS_LISTEN",
        Some(""),
        "address:port, or empty",
        "Where /metrics listens, and nothing else; empty: with the API, for whoever reaches that.",
    ),
    setting(
        "RELAYDESK_BASE_URL",
        Some("http://127.0.0.1:8080"),
        "an http or https URL",
        "How people reach this installation; links in messages begin with it.",
    ),
    setting(
        "RELAYDESK_TRUSTED_PROXIES",
        Some(""),
        "a list of networks such as 10.1.0.0/16,fd00::/8, or empty",
        "Proxies in front of Relaydesk: the client's address is taken from their forwarding header, and from nobody else's.",
    ),
    setting(
        "RELAYDESK_PROXY_HEADER",
        Some("x-forwarded-for"),
        "x-forwarded-for or forwarded",
        "The header that those proxies append to; the other one is not believed.",
    ),
    setting(
        "RELAYDESK_HTTP_CONNECTIONS",
        Some("4096"),
        "a number from 16 to 100000",
        "Connections of clients at a time; further ones wait until one closes.",
    ),
    setting(
        "RELAYDESK_RATE_LIMITS",
        Some("token=6000,person=12000,organization=60000,address=600"),
        "a list such as token=600,person=1200,organization=6000,address=60",
        "Requests a minute for each token, all tokens and logins of a person, all of an organization, and each address without a known token, counted by each process for \
         itself; what is left out is not limited.",
    ),
    setting(
        "RELAYDESK_CORS_ORIGINS",
        Some(""),
        "a list of origins such as https://portal.example.org, or empty",
        "Whose pages may call the API from a browser; empty: only those that are served from here.",
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
        "RELAYDESK_CLAMD",
        Some(""),
        "tcp://host[:3310], unix:/path, or empty",
        "ClamAV's daemon, which is asked about attachments and raw mails before they are handed out; what it finds something in, or cannot be asked about, is \
         kept and not handed out. Empty: nothing is scanned.",
    ),
    setting(
        "RELAYDESK_DISCOVERY_DIR",
        Some(""),
        "a folder that is there, or empty",
        "Below it lies a folder for each organization, named like its slug: the only one from which its discovery sources may read files; empty: none.",
    ),
    secret(
        "RELAYDESK_JWT_SECRET",
        "at least 32 characters, or a list of such",
        "Signs access tokens; the same for all processes. `openssl rand -hex 32` makes one. Of several, separated by commas, the first signs and all \
         are good for checking, so that one can be replaced.",
    ),
    setting(
        "RELAYDESK_BREACHED_PASSWORDS",
        Some(""),
        "a file with lines of SHA1:COUNT, sorted, or empty",
        "Passwords that nobody may take because everybody knows them: the file of haveibeenpwned.com, or a part of it. Searched on disk; empty: none.",
    ),
    setting(
        "RELAYDESK_ALLOW_PRIVATE_DESTINATIONS",
        Some(""),
        "a list of networks such as 10.1.0.0/16,127.0.0.0/8",
        "Private, loopback and link-local networks that outgoing connections may reach; others are refused.",
    ),
    setting(
        "RELAYDESK_EGRESS_HOSTS",
        Some(""),
        "a list of hosts such as hooks.slack.com,*.example.org,10.1.2.3:8443, or empty",
        "The only hosts that connections to addresses which people have set up may go to (channels, webhooks, inventories, identity providers); `*.` stands \
         for the names below one, without a port any will do; empty: all hosts.",
    ),
    setting(
        "RELAYDESK_ALLOW_CLEAR_TEXT",
        Some(""),
        "a list of database, broker, mail, scanner, smtp and http, or empty",
        "Connections beyond this machine that may be in clear text, because something else encrypts the way or nobody else is on it; without it the \
         program does not start with them.",
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
        "Keys for what is kept encrypted (secrets of second factors, webhooks, identity providers, channels and inventories, arguments of some jobs), the \
         same for all processes: the first one seals, all of them open.",
    ),
    setting(
        "RELAYDESK_JOB_HISTORY",
        Some("short=2d,normal=14d,long=90d,dead=60d"),
        "a list such as normal=30d,long=400d, in days from 1d",
        "How long what jobs leave is kept, by the retention of their kind (`relaydesk kinds list`), and how long dead letters wait.",
    ),
    setting(
        "RELAYDESK_RETENTION",
        Some("mail=never,payloads=90d,deliveries=400d,reports=400d,webhooks=30d,audit=never"),
        "a list such as mail=never,payloads=30d, in days from 30d, for audit from 90d",
        "How long raw mail and monitoring payloads that were worked off, messages that were sent, reports, and the audit logs of organizations \
         that say nothing else are kept; never: they stay. What failed or waits always stays.",
    ),
    secret(
        "RELAYDESK_AUDIT_KEY",
        "at least 32 characters, or empty",
        "Signs the heads of audit logs that `relaydesk audit head` prints; `relaydesk audit verify` believes no others then. Keep it from the database.",
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
