//! From configuration to running parts.

use crate::config::{Config, Lane};
use actions::access::Keys;
use actions::hooks::Door;
use actions::passwords::Policy;
use anyhow::Context;
use api::AppState;
use connectors::clamd::Scanner;
use connectors::http::{Client, Destinations};
use connectors::mail::{Mailer, smtp_server};
use queue::messages::Publisher;
use queue::remote::Remote;
use queue::{Bell, BrokerConfig, EngineConfig, LaneConfig, Transport};
use secrecy::ExposeSecret;
use sqlx::{Connection, PgConnection};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use store::blobs::Blobs;
use store::guard::Unfit;
use store::{Db, Route};
use templates::Templates;
use tracing::{info, warn};
use workers::Shared;
use workers::outward::Tools;

/// What most of the program works on.
pub fn database(config: &Config) -> anyhow::Result<Db> {
    let options = config.require_database()?.expose_secret().parse()?;
    let connections = config.database_connections;
    Ok(match config.database_direct_url {
        Some(_) => Db::pooled(options, connections),
        None => Db::new(options, connections),
    })
}

/// The way to the server itself, for what needs a session of its own, when `db` goes through a pooler. The engine makes its
/// connections from it; of its own it has two at most.
pub fn direct(config: &Config, db: &Db) -> anyhow::Result<Db> {
    Ok(match &config.database_direct_url {
        Some(url) => Db::new(url.expose_secret().parse()?, 2),
        None => db.clone(),
    })
}

/// The database with a bell that wakes workers after each commit, those of this process at once.
pub fn ringing(db: Db, direct: &Db) -> (Db, Bell) {
    let bell = Bell::new(direct.pool());
    let ringing = bell.clone();
    (db.ringing(move |rings| ringing.ring(rings)), bell)
}

/// Waits until the database can be asked, both ways if there are two; fails when it is the wrong role, an old schema, a pooler where the
/// server should be, or another database behind the pooler.
pub async fn fit_databases(db: &Db, direct: &Db) -> anyhow::Result<()> {
    fit_database(db).await?;
    if db.route() == Route::Pooled {
        fit_database(direct).await.context("RELAYDESK_DATABASE_DIRECT_URL")?;
        same_place(db, direct).await?;
    }
    Ok(())
}

async fn same_place(db: &Db, direct: &Db) -> anyhow::Result<()> {
    let (there, here) = (store::guard::place(db).await?, store::guard::place(direct).await?);
    anyhow::ensure!(
        there == here,
        "DATABASE_URL leads to {there}, RELAYDESK_DATABASE_DIRECT_URL to {here}: both must lead to one database"
    );
    Ok(())
}

async fn fit_database(db: &Db) -> anyhow::Result<()> {
    let mut waits = 0u32;
    loop {
        match store::guard::unfit(db).await {
            Ok(None) => return Ok(()),
            Ok(Some(unfit)) => return Err(unfit.into()),
            Err(error) if error.is_unavailable() => {
                if waits.is_multiple_of(10) {
                    let cause = reach(db).await.err().unwrap_or_else(|| error.to_string());
                    warn!(error = cause, "waiting for the database");
                }
                waits += 1;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error).context("the database cannot be used"),
        }
    }
}

/// One connection without the pool, which waits and then says only that it has waited. `Err`: the address and the cause.
pub async fn reach(db: &Db) -> Result<(), String> {
    let options = db.pool().connect_options();
    let connected = tokio::time::timeout(Duration::from_secs(5), PgConnection::connect_with(&options)).await;
    let cause = match connected {
        Ok(Ok(connection)) => {
            let _ = connection.close().await;
            return Ok(());
        }
        Ok(Err(sqlx::Error::Io(error))) => error.to_string(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no answer within 5 s".to_owned(),
    };
    Err(match options.get_socket() {
        Some(folder) => format!("{}, port {}: {cause}", folder.display(), options.get_port()),
        None => format!("{}:{}: {cause}", options.get_host(), options.get_port()),
    })
}

/// For a single command: the database, as a role that row level security holds for. Does not wait for one that is away.
pub async fn fit(config: &Config) -> anyhow::Result<Db> {
    let db = database(config)?;
    if let Err(cause) = reach(&db).await {
        anyhow::ensure!(!store::guard::says_pooler(&cause), Unfit::Pooler);
        anyhow::bail!("the database cannot be used: {cause}");
    }
    match store::guard::unfit(&db).await {
        Ok(None) => Ok(db),
        Ok(Some(unfit)) => Err(unfit.into()),
        Err(error) => Err(error).context("the database cannot be used"),
    }
}

pub fn blobs(config: &Config) -> Blobs {
    Blobs::new(config.data_dir.join("attachments"))
}

fn mailer(config: &Config) -> anyhow::Result<Option<Mailer>> {
    let Some(url) = &config.mail_url else { return Ok(None) };
    Ok(Some(Mailer::new(url.expose_secret()).context("RELAYDESK_MAIL_URL")?))
}

/// Where whatever people have set up may lead this process.
fn destinations(config: &Config) -> Destinations {
    Destinations::allowing(config.allow_private_destinations.clone()).only(config.egress_hosts.clone())
}

pub fn shared(config: &Config, db: &Db) -> anyhow::Result<Shared> {
    let settings = workers::Settings {
        base_url: config.base_url.as_str().trim_end_matches('/').to_owned(),
        mail_domain: config.smtp_hostname.clone(),
        mail_from: config.mail_from.clone(),
        discovery_dir: config.discovery_dir.clone(),
        pruning: config.retention,
    };
    Ok(Shared {
        db: db.clone(),
        blobs: blobs(config),
        templates: Arc::new(Templates::new()),
        http: Client::new(destinations(config))?,
        secrets: config.job_keys.clone(),
        mailer: mailer(config)?,
        remote: None,
        settings: Arc::new(settings),
    })
}

/// What a remote worker needs, which has no database.
pub fn tools(config: &Config) -> anyhow::Result<Tools> {
    Ok(Tools { http: Client::new(destinations(config))?, mailer: mailer(config)? })
}

/// For those of the lanes whose work is done by remote workers.
pub fn remote(config: &Config, lanes: &BTreeMap<String, Lane>) -> anyhow::Result<Option<Remote>> {
    let lanes: BTreeSet<_> =
        config.remote_lanes.iter().filter(|lane| lanes.contains_key(*lane)).cloned().collect();
    let Some(broker) = broker(config).filter(|_| !lanes.is_empty()) else { return Ok(None) };
    let keys = config.require_remote()?.clone();
    Ok(Some(Remote::start(&broker, &process_name(), keys, lanes)))
}

pub fn api_state(config: &Config, db: &Db) -> anyhow::Result<AppState> {
    let secrets = config.require_jwt_secret()?;
    let settings = api::Settings {
        base_url: config.base_url.as_str().trim_end_matches('/').to_owned(),
        upload_limit: config.max_message_bytes,
        proxies: config.proxies.clone(),
        rates: config.rates,
        cors_origins: config.cors_origins.clone(),
        metrics_elsewhere: config.metrics_listen.is_some(),
        ..api::Settings::default()
    };
    let keys = Keys::of(secrets.iter().map(|secret| secret.expose_secret().as_bytes()));
    let state = AppState::new(db.clone(), blobs(config), keys.context("RELAYDESK_JWT_SECRET")?, settings);
    let outgoing = Client::new(destinations(config))?;
    Ok(state
        .with_outgoing(outgoing)
        .with_scanner(scanner(config))
        .with_door(door(config, db))
        .with_secrets(config.job_keys.clone())
        .with_passwords(passwords(config)))
}

pub fn scanner(config: &Config) -> Option<Scanner> {
    config.clamd.clone().map(Scanner::new)
}

/// What makes a password acceptable here.
pub fn passwords(config: &Config) -> Policy {
    Policy { breached: config.breached_passwords.clone() }
}

/// With the lane `ingest` on RabbitMQ, hooks are taken by way of it.
fn door(config: &Config, db: &Db) -> Option<Door> {
    let lane = config.lanes.get(actions::jobs::lane::INGEST)?;
    let broker = broker(config).filter(|_| lane.transport == Transport::Rabbitmq)?;
    let publisher = Publisher::open(&broker, &process_name(), "hooks_in", actions::hooks::queues().into());
    Some(Door::new(db.clone(), publisher))
}

pub fn broker(config: &Config) -> Option<BrokerConfig> {
    config.amqp_url.as_ref().map(|url| BrokerConfig {
        prefix: config.amqp_prefix.clone(),
        ..BrokerConfig::new(url.expose_secret())
    })
}

/// For people; an identity is made anew at each start.
pub fn process_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    format!("{name}/{}", std::process::id())
}

pub fn smtp_limits(config: &Config) -> smtp_server::Limits {
    smtp_server::Limits {
        hostname: config.smtp_hostname.clone(),
        message: config.max_message_bytes,
        // Two of the largest fit at the same time.
        memory: smtp_server::Limits::default().memory.max(config.max_message_bytes.saturating_mul(2)),
        ..smtp_server::Limits::default()
    }
}

pub fn engine_config(config: &Config, lanes: &BTreeMap<String, Lane>, bell: &Bell) -> EngineConfig {
    EngineConfig {
        name: process_name(),
        lanes: lanes
            .iter()
            .map(|(name, lane)| LaneConfig::new(name.clone(), lane.size).on(lane.transport))
            .collect(),
        broker: broker(config),
        bell: Some(bell.clone()),
        keep: config.job_history,
        ..EngineConfig::default()
    }
}

/// SIGINT or SIGTERM.
pub async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => info!("interrupted: stopping"),
        _ = terminate.recv() => info!("told to terminate: stopping"),
    }
}
