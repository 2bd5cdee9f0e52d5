//! `relaydesk serve|api|worker`: the same process with more or fewer parts.

use crate::config::{Config, Lane};
use crate::{say, wiring};
use anyhow::Context;
use api::server::Connections;
use connectors::mail::smtp_server;
use queue::{Engine, Transport};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// What of Relaydesk runs in this process.
pub struct Parts {
    pub http: bool,
    pub mail: bool,
    pub lanes: BTreeMap<String, Lane>,
    /// Sockets that listen already; those that are missing are opened at the start.
    pub listeners: Listeners,
}

/// Bound before anything is made: an address that is taken is the user's error and should be said at once.
#[derive(Default)]
pub struct Listeners {
    http: Option<TcpListener>,
    smtp: Option<TcpListener>,
}

impl Listeners {
    pub async fn bind(http: Option<SocketAddr>, smtp: Option<SocketAddr>) -> anyhow::Result<Listeners> {
        Listeners::default().complete(http, smtp).await
    }

    async fn complete(
        mut self,
        http: Option<SocketAddr>,
        smtp: Option<SocketAddr>,
    ) -> anyhow::Result<Listeners> {
        for (what, listener, address) in [("HTTP", &mut self.http, http), ("SMTP", &mut self.smtp, smtp)] {
            if let (None, Some(address)) = (&listener, address) {
                let bound = TcpListener::bind(address).await;
                *listener = Some(bound.with_context(|| format!("cannot listen for {what} on {address}"))?);
            }
        }
        Ok(self)
    }
}

impl Parts {
    pub fn all(config: &Config) -> Parts {
        let mail = config.smtp_listen.is_some();
        Parts { http: true, mail, lanes: config.lanes.clone(), listeners: Listeners::default() }
    }

    /// What comes in from outside; it is worked by other processes.
    pub fn api(config: &Config) -> Parts {
        let mail = config.smtp_listen.is_some();
        Parts { http: true, mail, lanes: BTreeMap::new(), listeners: Listeners::default() }
    }

    /// `only` empty: all lanes of the configuration.
    pub fn worker(config: &Config, only: &[String], concurrency: Option<u16>) -> anyhow::Result<Parts> {
        let known = actions::jobs::lane::ALL;
        if let Some(wrong) = only.iter().find(|name| !known.contains(&name.as_str())) {
            anyhow::bail!("{wrong:?} is no lane: expected one of {}", known.join(", "));
        }
        let mut lanes = config.lanes.clone();
        if !only.is_empty() {
            let usual = Lane { size: 4, transport: Transport::Postgres };
            lanes =
                only.iter().map(|name| (name.clone(), lanes.get(name).copied().unwrap_or(usual))).collect();
        }
        if let Some(concurrency) = concurrency {
            lanes.values_mut().for_each(|lane| lane.size = concurrency.into());
        }
        Ok(Parts { http: false, mail: false, lanes, listeners: Listeners::default() })
    }
}

/// Where it listens, once it does.
pub struct Addresses {
    pub http: Option<SocketAddr>,
    pub smtp: Option<SocketAddr>,
}

/// Runs until `stop`; `ready` is told the addresses once everything listens.
pub async fn run(
    config: &Config,
    parts: Parts,
    ready: impl AsyncFnOnce(&Addresses) -> anyhow::Result<()>,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    for name in super::config::unknown_names() {
        warn!(name, "set in the environment, but no setting of Relaydesk");
    }
    let db = wiring::database(config)?;
    let direct = wiring::direct(config, &db)?;
    let (db, bell) = wiring::ringing(db, &direct);
    let end = CancellationToken::new();
    let state = parts.http.then(|| wiring::api_state(config, &db)).transpose()?;
    let (http, smtp) = (parts.http.then_some(config.http_listen), config.smtp_listen.filter(|_| parts.mail));
    let Listeners { http: listener, smtp: mail_listener } = parts.listeners.complete(http, smtp).await?;
    let metrics = match config.metrics_listen {
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.with_context(|| format!("cannot listen for metrics on {address}"))?)
        }
        None => None,
    };
    wiring::fit_databases(&db, &direct).await?;

    let mut shared = wiring::shared(config, &db)?;
    shared.remote = wiring::remote(config, &parts.lanes)?;
    let engine = (!parts.lanes.is_empty()).then(|| {
        info!(lanes = ?parts.lanes, "working");
        Engine::start(
            direct.pool(),
            workers::registry(),
            shared.clone(),
            wiring::engine_config(config, &parts.lanes, &bell),
        )
    });
    let mut servers = tokio::task::JoinSet::new();
    // Whatever carries the lane here: what another process has put into the broker must be taken out.
    if let Some(broker) = wiring::broker(config)
        && parts.lanes.contains_key(actions::jobs::lane::INGEST)
    {
        servers.spawn(workers::hooks::run(db.clone(), broker, wiring::process_name(), end.clone()));
    }
    let mut addresses = Addresses { http: None, smtp: None };
    if let Some(listener) = mail_listener {
        addresses.smtp = Some(listener.local_addr()?);
        let reception = workers::smtp::Reception::new(db.clone(), config.smtp_hostname.clone());
        servers.spawn(smtp_server::serve(listener, reception, wiring::smtp_limits(config), end.clone()));
    }
    if let (Some(listener), Some(state)) = (listener, &state) {
        addresses.http = Some(listener.local_addr()?);
        let router = api::app_with(state.clone(), console::router());
        let limits = Connections { most: config.http_connections, ..Connections::default() };
        servers.spawn(api::server::serve(listener, router, limits, end.clone().cancelled_owned()));
    }
    if let Some(listener) = metrics {
        info!(address = %listener.local_addr()?, "metrics");
        let router = api::metrics_alone(db.clone());
        let limits = Connections { most: 64, ..Connections::default() };
        servers.spawn(api::server::serve(listener, router, limits, end.clone().cancelled_owned()));
    }
    let mut outcome = ready(&addresses).await;
    if outcome.is_ok() {
        let broken = async {
            match &engine {
                Some(engine) => engine.broken().await,
                None => std::future::pending().await,
            }
        };
        // Half of Relaydesk looks alive and is not: better to end, and be started again.
        tokio::select! {
            () = stop => {}
            () = broken => outcome = Err(anyhow::anyhow!("the job engine broke down; its log says where")),
            Some(_) = servers.join_next() => {
                outcome = Err(anyhow::anyhow!("a server ended by itself; its log says why"));
            }
        }
    }

    if let Some(state) = &state {
        state.drain();
    }
    end.cancel();
    if let Some(engine) = engine {
        engine.shutdown(config.shutdown_grace).await;
    }
    // After the jobs that wait for answers.
    if let Some(remote) = &shared.remote {
        remote.close().await;
    }
    // Live streams never end by themselves.
    let closed = async { while servers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(5), closed).await;
    if let Some(door) = state.and_then(|state| state.door.clone()) {
        door.close().await;
    }
    db.pool().close().await;
    direct.pool().close().await;
    info!("stopped");
    outcome
}

/// The line that scripts wait for.
pub async fn announce(addresses: &Addresses) -> anyhow::Result<()> {
    match addresses.http {
        Some(address) => say!("ready: http://{address}"),
        None => say!("ready: working"),
    }
    Ok(())
}
