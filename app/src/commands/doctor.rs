//! `relaydesk doctor`: what this installation needs, looked at one by one.

use crate::cli::Json;
use crate::config::Config;
use crate::{say, wiring};
use queue::EngineConfig;
use secrecy::ExposeSecret;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// Transactions since a horizon whose age in seconds our role may not see: hours on a usual installation.
const MANY: i32 = 200_000;

struct Finding {
    what: &'static str,
    /// `Err` says what is wrong and what to do.
    state: Result<String, String>,
}

pub async fn run(output: &Json, config: &Config) -> anyhow::Result<()> {
    let mut findings = vec![];
    let mut found = |what, state| findings.push(Finding { what, state });
    match &config.database_url {
        None => found("database", Err("DATABASE_URL is not set".to_owned())),
        Some(_) => {
            let db = wiring::database(config)?;
            let fit = tokio::time::timeout(Duration::from_secs(10), store::guard::unfit(&db)).await;
            found(
                "database",
                match fit {
                    Ok(Ok(None)) => Ok("reachable, role and schema are right".to_owned()),
                    Ok(Ok(Some(wrong))) => Err(wrong.to_string()),
                    Ok(Err(error)) => {
                        let cause = wiring::reach(&db).await.err().unwrap_or_else(|| error.to_string());
                        Err(format!("cannot be asked: {cause}"))
                    }
                    Err(_) => Err("did not answer within 10 s".to_owned()),
                },
            );
            if config.database_direct_url.is_some() {
                let direct = wiring::direct(config, &db)?;
                let fit =
                    tokio::time::timeout(Duration::from_secs(10), wiring::fit_databases(&db, &direct)).await;
                found(
                    "database without the pooler",
                    match fit {
                        Ok(Ok(())) => Ok("reachable, and the same".to_owned()),
                        Ok(Err(error)) => Err(format!("{error:#}")),
                        Err(_) => Err("RELAYDESK_DATABASE_DIRECT_URL did not answer within 10 s".to_owned()),
                    },
                );
            }
            if let Ok(held) = held_back(&db).await {
                found("vacuum", held);
            }
            if let Ok(left) = actions::seals::left(&db, &config.job_keys).await {
                found("secrets of channels and inventories", unsealed(left, config.job_keys.is_empty()));
            }
            if let Ok(lost) = actions::seals::lost(&db, &config.job_keys).await {
                found("sealed secrets", opened(&lost));
            }
        }
    }
    let clear = config.clear_text();
    if clear.is_empty() {
        found("clear text", Ok("nothing goes beyond this machine without TLS".to_owned()));
    }
    for one in clear {
        found(
            "clear text",
            match config.allow_clear_text.contains(&one.kind) {
                true => Ok(format!(
                    "{} leads beyond this machine without TLS, as RELAYDESK_ALLOW_CLEAR_TEXT allows",
                    one.setting
                )),
                false => Err(one.to_string()),
            },
        );
    }
    found("data folder", writable(&config.data_dir));
    if let Some(dir) = &config.discovery_dir {
        let readable = std::fs::read_dir(dir).map(|_| format!("{} is readable", dir.display()));
        found("discovery folder", readable.map_err(|error| format!("{}: {error}", dir.display())));
    }
    found(
        "access tokens",
        match config.jwt_secret.len() {
            0 => Err("RELAYDESK_JWT_SECRET is not set".to_owned()),
            1 => Ok("signed".to_owned()),
            keys => Ok(format!("signed with the first of {keys} keys")),
        },
    );
    found(
        "second factors",
        match config.job_keys.is_empty() {
            true => Err("nobody can have one: RELAYDESK_JOB_KEYS is not set".to_owned()),
            false => Ok("their secrets can be sealed".to_owned()),
        },
    );
    found(
        "outgoing mail",
        match &config.mail_url {
            None => Err("RELAYDESK_MAIL_URL is not set: mail waits in the ledger".to_owned()),
            Some(url) => reach("RELAYDESK_MAIL_URL", url.expose_secret()).await,
        },
    );
    if let Some(scanner) = wiring::scanner(config) {
        found("scanner", scanner.version().await.map_err(|error| format!("RELAYDESK_CLAMD: {error}")));
    }
    if let Some(url) = &config.amqp_url {
        found("broker", reach("AMQP_URL", url.expose_secret()).await);
    }
    if let Some(broker) = wiring::broker(config) {
        found("hooks in the broker", hooks(&broker).await);
    }
    if output.json {
        let list: Vec<_> = findings
            .iter()
            .map(|f| json!({"what": f.what, "ok": f.state.is_ok(), "detail": f.state.as_ref().unwrap_or_else(|e| e)}))
            .collect();
        say!("{}", serde_json::to_string_pretty(&list)?);
    } else {
        for Finding { what, state } in &findings {
            match state {
                Ok(detail) => say!("ok    {what}: {detail}"),
                Err(detail) => say!("WRONG {what}: {detail}"),
            }
        }
    }
    let wrong = findings.iter().filter(|finding| finding.state.is_err()).count();
    anyhow::ensure!(wrong == 0, "{wrong} of {} checks failed", findings.len());
    Ok(())
}

/// What waits for the inbox, and what will never get there by itself.
async fn hooks(broker: &queue::BrokerConfig) -> Result<String, String> {
    let depth = queue::messages::Depth::of(broker);
    let mut waiting = 0;
    for queue in actions::hooks::queues() {
        waiting += depth.messages(&queue.name).await?.unwrap_or_default();
    }
    let dead = depth.messages(actions::hooks::DEAD).await?.unwrap_or_default();
    depth.close().await;
    match dead {
        0 => Ok(format!("{waiting} wait, none are dead")),
        dead => Err(format!(
            "{dead} are dead letters in {}.{}: see docs/queue-rabbitmq.md",
            broker.prefix,
            actions::hooks::DEAD
        )),
    }
}

/// `clear` lie as they came, `outdated` are sealed with another key than the first one.
fn unsealed((clear, outdated): (usize, usize), is_without_keys: bool) -> Result<String, String> {
    let mend = "run relaydesk admin seal-secrets";
    match (clear, outdated) {
        (0, 0) => Ok("none lies in clear text".to_owned()),
        (_, _) if is_without_keys => {
            let sealed = if outdated > 0 { format!(", {outdated} cannot be opened") } else { String::new() };
            Err(format!("{clear} lie in clear text{sealed}: RELAYDESK_JOB_KEYS is not set"))
        }
        (0, outdated) => Ok(format!(
            "{outdated} are sealed with another key than the first one; {mend} before you take it away"
        )),
        (clear, _) => Err(format!("{clear} lie in clear text: {mend}")),
    }
}

/// `lost`: what no key opens.
fn opened(lost: &[String]) -> Result<String, String> {
    let Some(first) = lost.first() else {
        return Ok("none was found that no key opens (channels, inventories)".to_owned());
    };
    Err(format!(
        "no key opens {} of them, whose messages and runs wait for 24 hours and are given up then: {first}. Put the key back, or set the secret anew",
        lost.len()
    ))
}

/// Whether a transaction, prepared transaction or replication slot has held back vacuum for long.
async fn held_back(db: &store::Db) -> store::Result<Result<String, String>> {
    let mut tx = db.begin_system().await?;
    let holders = queue::horizon::holders(&mut tx).await?;
    tx.rollback().await?;
    let long = EngineConfig::default().xmin_alarm.as_secs_f64();
    Ok(match holders.first() {
        Some(oldest) if oldest.seconds.map_or(oldest.transactions > MANY, |seconds| seconds > long) => {
            Err(format!(
                "is held back by {oldest}: dead rows pile up until it ends (pg_terminate_backend, rollback prepared, pg_drop_replication_slot)"
            ))
        }
        Some(oldest) => Ok(format!("not held back for long; the oldest is {oldest}")),
        None => Ok("nothing holds it back".to_owned()),
    })
}

fn writable(dir: &Path) -> Result<String, String> {
    let probe = dir.join(format!(".doctor-{}", std::process::id()));
    std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&probe, b"ok"))
        .and_then(|()| std::fs::remove_file(&probe))
        .map(|()| format!("{} is writable", dir.display()))
        .map_err(|error| format!("{}: {error}", dir.display()))
}

/// Whether something listens where the relay or the broker should be; the dialogue itself is left to those who need them.
async fn reach(name: &str, url: &str) -> Result<String, String> {
    let url: url::Url = url.parse().map_err(|_| format!("{name} is no URL"))?;
    if url.scheme() == "file" {
        return writable(Path::new(url.path()));
    }
    let host = url.host_str().unwrap_or("localhost").to_owned();
    let usual = match url.scheme() {
        "smtps" => 465,
        "amqp" => 5672,
        "amqps" => 5671,
        _ => 25,
    };
    let port = url.port().unwrap_or(usual);
    match tokio::time::timeout(Duration::from_secs(5), tokio::net::TcpStream::connect((host.as_str(), port)))
        .await
    {
        Ok(Ok(_)) => Ok(format!("{host}:{port} listens")),
        Ok(Err(error)) => Err(format!("{host}:{port}: {error}")),
        Err(_) => Err(format!("{host}:{port} did not answer within 5 s")),
    }
}
