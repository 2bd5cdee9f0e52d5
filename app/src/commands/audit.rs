//! `relaydesk audit verify|head|export`

use crate::cli::AuditCommand;
use crate::config::Config;
use crate::{say, wiring};
use actions::audit_heads::{self, KeptHead};
use anyhow::{Context, bail};
use domain::OrganizationId;
use secrecy::SecretString;
use serde_json::json;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, stdout};
use std::path::Path;
use std::time::Instant;
use store::Db;
use store::audit_chain::{self, Head, Report};

pub async fn run(command: &AuditCommand, config: &Config) -> anyhow::Result<()> {
    let key = config.audit_key.as_ref();
    match command {
        AuditCommand::Verify { organization, head, file, output } => {
            let heads = head.as_deref().map(|path| kept(path, key)).transpose()?.unwrap_or_default();
            let started = Instant::now();
            let mut reports = Vec::new();
            if let Some(path) = file {
                let file = File::open(path).with_context(|| path.display().to_string())?;
                let report = audit_chain::verify_export(BufReader::new(file), None)?;
                let expected = heads.get(&report.organization);
                reports.push(match expected {
                    None => report,
                    Some(_) => audit_chain::verify_export(BufReader::new(File::open(path)?), expected)?,
                });
            } else {
                let db = wiring::fit(config).await?;
                for organization in logs(&db, organization.as_deref(), &heads).await? {
                    let expected = heads.get(&organization);
                    reports.push(audit_chain::verify(&db, organization, expected).await?);
                }
            }
            show(&reports, started.elapsed().as_secs_f64(), output.json)
        }
        AuditCommand::Head { organization } => {
            let db = wiring::fit(config).await?;
            for organization in logs(&db, organization.as_deref(), &HashMap::new()).await? {
                let mut tx = db.begin_system().await?;
                if let Some((position, hash)) = audit_chain::head(&mut tx, organization).await? {
                    let head = Head { organization, position, hash: audit_chain::hex_of(&hash) };
                    say!("{}", serde_json::to_string(&audit_heads::keep(head, key))?);
                }
            }
            Ok(())
        }
        AuditCommand::Export { organization } => {
            let db = wiring::fit(config).await?;
            let organization = named(&db, organization).await?;
            let entries =
                audit_chain::export(&db, organization, &mut BufWriter::new(stdout().lock())).await?;
            let mut tx = db.begin(organization).await?;
            let actor = domain::Actor::system(organization, "relaydesk audit");
            actions::audit::security(&mut tx, &actor, "export.audit_log", None, json!({"entries": entries}))
                .await?;
            tx.commit().await?;
            Ok(())
        }
    }
}

/// The newest head of each organization in the file.
fn kept(path: &Path, key: Option<&SecretString>) -> anyhow::Result<HashMap<OrganizationId, Head>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut heads: HashMap<OrganizationId, Head> = HashMap::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let head: KeptHead =
            serde_json::from_str(line).with_context(|| format!("{}: {line}", path.display()))?;
        let head = audit_heads::check(head, key)?;
        match heads.get(&head.organization) {
            Some(newer) if newer.position > head.position => {}
            _ => drop(heads.insert(head.organization, head)),
        }
    }
    Ok(heads)
}

/// Those that have a log, and those that should have one.
async fn logs(
    db: &Db,
    only: Option<&str>,
    heads: &HashMap<OrganizationId, Head>,
) -> anyhow::Result<Vec<OrganizationId>> {
    if let Some(name) = only {
        return Ok(vec![named(db, name).await?]);
    }
    let mut tx = db.begin_system().await?;
    let mut all: Vec<_> = store::audit::logs(&mut tx).await?.into_iter().map(|(id, _)| id).collect();
    all.extend(heads.keys().filter(|id| !all.contains(id)).copied().collect::<Vec<_>>());
    Ok(all)
}

async fn named(db: &Db, name: &str) -> anyhow::Result<OrganizationId> {
    match name.parse() {
        Ok(id) => Ok(id),
        Err(_) => super::admin::organization(&mut db.begin_system().await?, name).await,
    }
}

fn show(reports: &[Report], seconds: f64, as_json: bool) -> anyhow::Result<()> {
    let entries: u64 = reports.iter().map(|report| report.sealed + report.unsealed).sum();
    let per_second = (entries as f64 / seconds.max(0.001)).round();
    let broken = reports.iter().filter(|report| !report.is_whole()).count();
    if as_json {
        let facts = json!({"whole": broken == 0, "entries": entries, "seconds": seconds, "entries_per_second": per_second, "logs": reports});
        say!("{facts:#}");
    } else {
        for report in reports {
            let words = if report.is_whole() { "whole" } else { "BROKEN" };
            say!(
                "{}: {words}; {} entries under {} seals, {} behind them, {} erased",
                report.organization,
                report.sealed,
                report.seals,
                report.unsealed,
                report.erased
            );
            for fault in &report.faults {
                say!("  {}", serde_json::to_string(fault)?);
            }
            if report.further_faults > 0 {
                say!("  and {} more", report.further_faults);
            }
        }
        say!("{entries} entries in {seconds:.1} s ({per_second} a second)");
    }
    if broken > 0 {
        bail!("{broken} of {} audit logs were tampered with", reports.len());
    }
    Ok(())
}
