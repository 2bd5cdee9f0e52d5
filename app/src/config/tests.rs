use super::*;

fn with(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let pairs: BTreeMap<String, String> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Values::collect(None, |name| pairs.get(name).cloned())?.understand()
}

#[test]
fn defaults_are_right_values() {
    let config = with(&[]).unwrap();
    assert_eq!(config.lanes.len(), actions::jobs::lane::ALL.len());
    assert!(config.database_url.is_none() && config.smtp_listen.is_none());
}

#[test]
fn a_wrong_value_names_variable_value_and_expectation() {
    for (name, value) in [
        ("RELAYDESK_HTTP_LISTEN", "8080"),
        ("RELAYDESK_LANES", "ingest=0"),
        ("RELAYDESK_LANES", "nosuch=3"),
        ("RELAYDESK_LANES", "ingest=1,ingest=2"),
        ("RELAYDESK_LANES", "ingest=1@kafka"),
        ("RELAYDESK_AMQP_PREFIX", "two words"),
        ("RELAYDESK_JOB_HISTORY", "short=2h"),
        ("RELAYDESK_RETENTION", "mail=7d"),
        ("RELAYDESK_LOG", "nonsense"),
        ("RELAYDESK_LOG", "queue=loud"),
        ("RELAYDESK_DISCOVERY_DIR", "/no/such/folder"),
        ("RELAYDESK_MAIL_FROM", "nobody"),
        ("RELAYDESK_MAIL_FROM", "Desk <desk@x.example"),
        ("RELAYDESK_ALLOW_PRIVATE_DESTINATIONS", "10.0.0.0/33"),
        ("RELAYDESK_CLAMD", "clamd:3310"),
        ("RELAYDESK_EGRESS_HOSTS", "https://hooks.example.com/"),
        ("RELAYDESK_EGRESS_HOSTS", "hooks.example.com,*"),
        ("RELAYDESK_EGRESS_HOSTS", ","),
        ("RELAYDESK_BASE_URL", "ftp://x"),
        ("RELAYDESK_LOG_FORMAT", "xml"),
        ("RELAYDESK_TRUSTED_PROXIES", "proxy.example"),
        ("RELAYDESK_PROXY_HEADER", "x-real-ip"),
        ("RELAYDESK_HTTP_CONNECTIONS", "1"),
        ("RELAYDESK_RATE_LIMITS", "token=0"),
        ("RELAYDESK_RATE_LIMITS", "user=5"),
        ("RELAYDESK_RATE_LIMITS", "token=5,token=6"),
        ("RELAYDESK_CORS_ORIGINS", "https://portal.example.org/"),
        ("RELAYDESK_CORS_ORIGINS", "*"),
        ("RELAYDESK_SHUTDOWN_GRACE", "-1"),
    ] {
        let error = with(&[(name, value)]).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(value) && error.contains("expected"), "{error}");
    }
}

#[test]
fn no_sender_has_two_lines() {
    for value in ["desk@x.example\r\nBcc: all@x.example", "Des\nk <desk@x.example>"] {
        assert!(with(&[("RELAYDESK_MAIL_FROM", value)]).is_err(), "{value:?}");
    }
    for value in ["desk@x.example", "Help, Desk <desk@x.example>"] {
        assert_eq!(with(&[("RELAYDESK_MAIL_FROM", value)]).unwrap().mail_from, value);
    }
}

#[test]
fn an_address_leads_somewhere() {
    for (name, value) in [
        ("RELAYDESK_MAIL_URL", "smtp://"),
        ("RELAYDESK_MAIL_URL", "smtps://:465"),
        ("RELAYDESK_MAIL_URL", "smtp:relay"),
        ("RELAYDESK_MAIL_URL", "file:///"),
        ("RELAYDESK_MAIL_URL", "file://folder/below"),
        ("DATABASE_URL", "mysql://x"),
        ("RELAYDESK_DATABASE_DIRECT_URL", "pgbouncer"),
        ("AMQP_URL", "http://user:secret@broker"),
        ("AMQP_URL", "amqp:"),
    ] {
        let error = with(&[(name, value)]).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(name) && !error.contains(&format!("{value:?}")), "{value}: {error}");
    }
    for (name, value) in [
        ("RELAYDESK_MAIL_URL", "smtp://user:password@relay.example:587?tls=required"),
        ("RELAYDESK_MAIL_URL", "smtps://[::1]"),
        ("RELAYDESK_MAIL_URL", "file:///tmp/outbox"),
        ("DATABASE_URL", "postgres://desk@localhost/desk?host=/run/postgresql"),
        ("RELAYDESK_LOG", "warn,queue=debug"),
        ("RELAYDESK_LOG", "api[request{http.method}]=debug,info"),
    ] {
        with(&[(name, value)]).unwrap();
    }
}

/// Who listens on the way reads no passwords, mails and jobs, unless somebody has decided that nobody listens there.
#[test]
fn clear_text_beyond_this_machine_is_refused() {
    for (kind, name, value, more) in [
        ("database", "DATABASE_URL", "postgres://desk:secret-word@db.example/desk", None),
        ("database", "DATABASE_URL", "postgres://desk:secret-word@10.0.0.7/desk?sslmode=prefer", None),
        (
            "database",
            "RELAYDESK_DATABASE_DIRECT_URL",
            "postgres://desk:secret-word@db.example/desk?sslmode=disable",
            None,
        ),
        ("database", "DATABASE_URL", "postgres://desk:secret-word@db.example/desk?sslmode=require", None),
        ("broker", "AMQP_URL", "amqp://desk:secret-word@broker.example/desk", None),
        ("mail", "RELAYDESK_MAIL_URL", "smtp://desk:secret-word@relay.example:587", None),
        ("mail", "RELAYDESK_MAIL_URL", "smtp://desk:secret-word@relay.example:587?tls=opportunistic", None),
        ("scanner", "RELAYDESK_CLAMD", "tcp://scanner.example:3310", None),
        ("smtp", "RELAYDESK_SMTP_LISTEN", "0.0.0.0:25", None),
        ("http", "RELAYDESK_HTTP_LISTEN", "[::]:8080", None),
        (
            "http",
            "RELAYDESK_HTTP_LISTEN",
            "192.0.2.1:80",
            Some(("RELAYDESK_BASE_URL", "http://desk.example")),
        ),
    ] {
        let pairs: Vec<_> = [(name, value)].into_iter().chain(more).collect();
        let error = with(&pairs).unwrap().require_no_clear_text(true).unwrap_err().to_string();
        assert!(error.starts_with(name) && error.contains(&format!("name {kind} in")), "{error}");
        assert!(!error.contains("secret-word"), "{error}");
        let allowed = [&pairs[..], &[("RELAYDESK_ALLOW_CLEAR_TEXT", kind)]].concat();
        with(&allowed).unwrap().require_no_clear_text(true).unwrap();
        assert_eq!(with(&allowed).unwrap().clear_text().len(), 1, "doctor tells it all the same");
        let other = if kind == "mail" { "database,http" } else { "mail" };
        let others = [&pairs[..], &[("RELAYDESK_ALLOW_CLEAR_TEXT", other)]].concat();
        with(&others).unwrap().require_no_clear_text(true).unwrap_err();
    }
    for (name, value, more) in [
        ("DATABASE_URL", "postgres://desk@localhost/desk", None),
        ("DATABASE_URL", "postgres://desk@127.0.0.1:6432/desk", None),
        ("DATABASE_URL", "postgres://desk@[::1]/desk", None),
        ("DATABASE_URL", "postgres://desk@db.example/desk?host=/run/postgresql", None),
        ("DATABASE_URL", "postgres://desk@db.example/desk?sslmode=verify-full", None),
        ("AMQP_URL", "amqp://127.0.0.1:5672/%2f", None),
        ("AMQP_URL", "amqps://desk:x@broker.example/desk", None),
        ("RELAYDESK_MAIL_URL", "smtps://relay.example", None),
        ("RELAYDESK_MAIL_URL", "smtp://relay.example?tls=required", None),
        ("RELAYDESK_MAIL_URL", "smtp://[::1]:2525", None),
        ("RELAYDESK_MAIL_URL", "file:///tmp/outbox", None),
        ("RELAYDESK_CLAMD", "tcp://[::1]:3310", None),
        ("RELAYDESK_CLAMD", "unix:/run/clamav/clamd.ctl", None),
        ("RELAYDESK_SMTP_LISTEN", "127.0.0.1:2525", None),
        ("RELAYDESK_HTTP_LISTEN", "0.0.0.0:8080", Some(("RELAYDESK_BASE_URL", "https://desk.example"))),
    ] {
        let pairs: Vec<_> = [(name, value)].into_iter().chain(more).collect();
        with(&pairs).unwrap().require_no_clear_text(true).unwrap_or_else(|error| panic!("{value}: {error}"));
    }
    // A worker does not listen.
    with(&[("RELAYDESK_HTTP_LISTEN", "0.0.0.0:8080")]).unwrap().require_no_clear_text(false).unwrap();
    let error = with(&[("RELAYDESK_ALLOW_CLEAR_TEXT", "all")]).unwrap_err().to_string();
    assert!(error.contains("expected"), "{error}");
}

#[test]
fn a_lane_on_rabbitmq_needs_a_broker() {
    let lanes = ("RELAYDESK_LANES", "ingest=4,outbound=16@rabbitmq,mail=2@postgres");
    let error = with(&[lanes]).unwrap_err().to_string();
    assert!(error.starts_with("AMQP_URL is not set"), "{error}");
    let config = with(&[lanes, ("AMQP_URL", "amqps://desk:secret@broker.example/desk")]).unwrap();
    assert_eq!(config.lanes["outbound"], Lane { size: 16, transport: Transport::Rabbitmq });
    assert_eq!(config.lanes["mail"], Lane { size: 2, transport: Transport::Postgres });
}

#[test]
fn a_wrong_secret_is_not_printed() {
    let error = with(&[("RELAYDESK_JWT_SECRET", "too short")]).unwrap_err().to_string();
    assert!(!error.contains("too short") && error.contains("RELAYDESK_JWT_SECRET"), "{error}");
}

#[test]
fn help_example_and_docs_name_the_same_settings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let file = std::fs::read_to_string(root.join("relaydesk.example.toml")).unwrap();
    assert_eq!(file, example(), "run script/update");
    let docs = std::fs::read_to_string(root.join("docs/configuration.md")).unwrap();
    for setting in SETTINGS {
        assert!(docs.contains(&format!("`{}`", setting.env)), "docs/configuration.md lacks {}", setting.env);
    }
    for word in docs.split('`').filter(|word| word.starts_with("RELAYDESK_")) {
        assert!(
            SETTINGS.iter().any(|s| s.env == word),
            "docs/configuration.md names {word}, which is no setting"
        );
    }
}

#[test]
fn the_example_file_is_readable_when_uncommented() {
    let text: String = example()
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|l| l.contains(" = ")).unwrap_or("").to_owned() + "\n")
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Values::collect(Some(file.path()), |_| None).unwrap().understand().unwrap();
}

#[test]
fn remote_lanes_need_a_broker_and_keys() {
    let key = "a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let (lanes, url) = (("RELAYDESK_REMOTE_LANES", "outbound, mail"), ("AMQP_URL", "amqp://broker.example"));
    let error = with(&[lanes, ("RELAYDESK_REMOTE_KEYS", key)]).unwrap_err().to_string();
    assert!(error.contains("AMQP_URL"), "{error}");
    let error = with(&[lanes, url]).unwrap_err().to_string();
    assert!(error.contains("RELAYDESK_REMOTE_KEYS"), "{error}");
    let error = with(&[lanes, url, ("RELAYDESK_REMOTE_KEYS", "a:c2VjcmV0")]).unwrap_err().to_string();
    assert!(error.contains("RELAYDESK_REMOTE_KEYS") && !error.contains("c2VjcmV0"), "{error}");
    let config = with(&[lanes, url, ("RELAYDESK_REMOTE_KEYS", key)]).unwrap();
    assert_eq!(config.remote_lanes.len(), 2);
    assert!(with(&[("RELAYDESK_REMOTE_LANES", "ingest"), url, ("RELAYDESK_REMOTE_KEYS", key)]).is_err());
}

#[test]
fn no_key_serves_jobs_and_remote_workers() {
    let (one, other) =
        ("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "ICECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let rings = |jobs: &str, remote: &str| {
        with(&[("RELAYDESK_JOB_KEYS", jobs), ("RELAYDESK_REMOTE_KEYS", remote)]).map(|_| ())
    };
    rings(&format!("a:{one}"), &format!("a:{other}")).unwrap();
    let error = rings(&format!("a:{other},old:{one}"), &format!("far:{one}")).unwrap_err().to_string();
    assert!(error.contains("key old of RELAYDESK_JOB_KEYS and key far of RELAYDESK_REMOTE_KEYS"), "{error}");
    assert!(!error.contains(one), "{error}");
}
