//! `relaydesk demo`: everything in one process, on a private PostgreSQL, with people, policies and some traffic.

use super::serve::{self, Addresses, Listeners, Parts};
use crate::cli;
use crate::config::{Config, Values};
use crate::demo::{Facts, seed, traffic};
use crate::{say, wiring};
use anyhow::Context;
use base64::Engine;
use embedded::{Cluster, Options};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Before the runtime: settings, and the database server.
pub struct Prepared {
    pub config: Config,
    cluster: Cluster,
    folder: PathBuf,
    quiet: bool,
}

pub fn prepare(demo: &cli::Demo, mut values: Values) -> anyhow::Result<Prepared> {
    let folder = std::path::absolute(&demo.data_dir)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755) // the database's account must be able to pass
        .create(&folder)
        .with_context(|| format!("cannot make {}", folder.display()))?;
    let cluster = Cluster::start(Options {
        binaries: values.understand()?.postgres_bin,
        packs: embedded::usual_packs(),
        fresh: demo.fresh,
        ..Options::new(folder.join("postgres"))
    })?;
    if demo.fresh {
        forget(&folder)?;
    }
    if cluster.instead_of().is_some() {
        say!("the database is in {}: its account cannot reach {}", cluster.dir().display(), folder.display());
    }
    values.set("DATABASE_URL", cluster.app_url("relaydesk"));
    values.set("RELAYDESK_DATABASE_DIRECT_URL", "");
    values.set("RELAYDESK_HTTP_LISTEN", demo.http.to_string());
    values.set("RELAYDESK_SMTP_LISTEN", demo.smtp.to_string());
    values.set("RELAYDESK_DATA_DIR", folder.to_string_lossy());
    if values.is_default("RELAYDESK_BASE_URL") {
        values.set("RELAYDESK_BASE_URL", format!("http://{}", demo.http));
    }
    let (outbox, discovery) = (folder.join("outbox"), folder.join("discovery"));
    // What people write to each other is for the owner's eyes, as demo.json is.
    for private in [&outbox, &folder.join("attachments")] {
        fs::create_dir_all(private)?;
        fs::set_permissions(private, fs::Permissions::from_mode(0o700))?;
    }
    fs::create_dir_all(&discovery)?;
    values.set_default("RELAYDESK_MAIL_URL", format!("file://{}", outbox.display()));
    values.set_default("RELAYDESK_DISCOVERY_DIR", discovery.to_string_lossy());
    values.set_default("RELAYDESK_ALLOW_PRIVATE_DESTINATIONS", "127.0.0.0/8,::1/128");
    values.set_default("RELAYDESK_JWT_SECRET", kept_secret(&folder.join("jwt.secret"))?);
    values.set_default("RELAYDESK_JOB_KEYS", kept_key(&folder.join("job.keys"))?);
    Ok(Prepared { config: values.understand()?, cluster, folder, quiet: demo.quiet })
}

/// `demo.json` is written when the demo is complete. A start that finds an organization without it goes on where an earlier
/// one was interrupted.
pub async fn run(prepared: &Prepared, listeners: Listeners) -> anyhow::Result<()> {
    let Prepared { config, cluster, folder, quiet } = prepared;
    super::migrate::migrate(&cluster.owner_url("relaydesk")).await?;
    let db = wiring::database(config)?;
    let (mut facts, is_complete) = seed::accounts(&db, folder).await?;
    db.pool().close().await;

    let mut its_traffic = None;
    let ready = async |addresses: &Addresses| {
        facts.move_to(addresses);
        if !is_complete {
            seed::fill(&mut facts, folder).await?;
            facts.move_to(addresses);
        }
        write_private(&folder.join("demo.json"), &serde_json::to_vec_pretty(&facts)?)?;
        say!("sign in as {} with {}", facts.admin.email, facts.admin.password);
        say!("mail to {} at {}; outgoing mail: {}", facts.mailboxes[0], facts.smtp, outgoing(config));
        say!("accounts, token and hooks: {}", folder.join("demo.json").display());
        if !quiet {
            its_traffic = Some(tokio::spawn(traffic::run(facts.clone())));
        }
        serve::announce(addresses).await
    };
    let parts = Parts { listeners, ..Parts::all(config) };
    let ended = serve::run(config, parts, ready, wiring::stop_signal()).await;
    if let Some(traffic) = its_traffic {
        traffic.abort();
    }
    ended
}

fn outgoing(config: &Config) -> String {
    use secrecy::ExposeSecret;
    let url = config.mail_url.as_ref().map(|url| url.expose_secret().to_owned()).unwrap_or_default();
    url.strip_prefix("file://")
        .map(str::to_owned)
        .unwrap_or_else(|| "through the relay of RELAYDESK_MAIL_URL".to_owned())
}

/// What `--fresh` throws away besides the database.
fn forget(folder: &Path) -> anyhow::Result<()> {
    for name in ["attachments", "outbox", "discovery"] {
        match fs::remove_dir_all(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    for name in ["demo.json", "jwt.secret", "job.keys"] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// The secret in `file`, made when it is not there.
fn kept_secret(file: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(file) {
        Ok(secret) if secret.trim().len() >= 32 => Ok(secret.trim().to_owned()),
        _ => {
            let secret = crate::demo::secret();
            write_private(file, secret.as_bytes())?;
            Ok(secret)
        }
    }
}

/// The same for the key of what is kept encrypted.
fn kept_key(file: &Path) -> anyhow::Result<String> {
    match fs::read_to_string(file) {
        Ok(key) if !key.trim().is_empty() => Ok(key.trim().to_owned()),
        _ => {
            let bytes: [u8; 32] = rand::random();
            let key = format!("demo:{}", base64::engine::general_purpose::STANDARD.encode(bytes));
            write_private(file, key.as_bytes())?;
            Ok(key)
        }
    }
}

/// Whole or not at all, and only for the owner.
fn write_private(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let draft = file.with_extension("new");
    let _ = fs::remove_file(&draft);
    let mut handle = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    handle.write_all(bytes)?;
    handle.sync_all()?;
    fs::rename(&draft, file)?;
    Ok(())
}

impl Facts {
    /// The addresses of this start; ports may have changed since the last one.
    fn move_to(&mut self, addresses: &Addresses) {
        let (Some(http), Some(smtp)) = (addresses.http, addresses.smtp) else { return };
        self.api = format!("http://{http}");
        self.smtp = smtp.to_string();
        for (kind, url) in &mut self.hooks {
            let token = url.rsplit('/').next().unwrap_or_default();
            *url = format!("http://{http}/hooks/{kind}/{token}");
        }
    }
}
