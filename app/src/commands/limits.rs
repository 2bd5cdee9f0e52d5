//! `relaydesk limits list|set|clear`, `relaydesk tenants list|weight`

use crate::cli::{LimitsCommand, Per, TenantsCommand};
use crate::say;
use anyhow::{bail, ensure};
use queue::admin::{self, LimitChange, LimitView};
use store::Db;

pub async fn run(command: &LimitsCommand, db: &Db) -> anyhow::Result<()> {
    let mut tx = db.begin_system().await?;
    let limits = admin::limits(&mut tx, None).await?;
    match command {
        LimitsCommand::List(output) if output.json => say!("{}", serde_json::to_string_pretty(&limits)?),
        LimitsCommand::List(_) => {
            say!("{:32} {:>16} {:>16} {:>8} {:>8}", "limit", "declared", "in force", "held", "waiting");
            for limit in &limits {
                let declared = words(limit.at_once, limit.per_second, limit.burst);
                let force = words(
                    limit.set_at_once.or(limit.at_once),
                    limit.set_per_second.or(limit.per_second),
                    limit.set_burst.unwrap_or(limit.burst),
                );
                say!("{:32} {declared:>16} {force:>16} {:>8} {:>8}", limit.name, limit.held, limit.waiting);
            }
        }
        LimitsCommand::Set { name, bound } => {
            let limit = find(&limits, name)?;
            let (is_rate, per_second) = (limit.per_second.is_some(), bound.rate.map(|Per(rate)| rate));
            ensure!(
                is_rate || per_second.is_none(),
                "{name} is a limit of so many at once: set it with --at-once"
            );
            ensure!(!is_rate || per_second.is_some(), "{name} is a rate: set it with --rate");
            let change = LimitChange { at_once: bound.at_once, per_second, burst: bound.burst };
            admin::set_limit(&mut tx, name, change).await?;
            tx.commit().await?;
            say!("{name} is set; what waits is called within a second or two");
        }
        LimitsCommand::Clear { name } => {
            find(&limits, name)?;
            admin::set_limit(&mut tx, name, LimitChange::default()).await?;
            tx.commit().await?;
            say!("{name} is what the program declares");
        }
    }
    Ok(())
}

fn find<'a>(limits: &'a [LimitView], name: &str) -> anyhow::Result<&'a LimitView> {
    let Some(limit) = limits.iter().find(|limit| limit.name == name) else {
        let names: Vec<_> = limits.iter().map(|limit| limit.name.as_str()).collect();
        bail!("{name:?} is no limit: expected one of {}", names.join(", "));
    };
    Ok(limit)
}

fn words(at_once: Option<i32>, per_second: Option<f64>, burst: i32) -> String {
    match (at_once, per_second) {
        (Some(jobs), _) => format!("{jobs} at once"),
        (None, Some(rate)) if rate >= 1.0 => format!("{rate:.2}/s (+{burst})"),
        (None, Some(rate)) => format!("{:.2}/m (+{burst})", rate * 60.0),
        (None, None) => String::new(),
    }
}

pub async fn tenants(command: &TenantsCommand, db: &Db) -> anyhow::Result<()> {
    match command {
        TenantsCommand::List(output) => {
            let weights = admin::weights(&mut *db.begin_system().await?).await?;
            if output.json {
                say!("{}", serde_json::to_string_pretty(&weights)?);
                return Ok(());
            }
            say!("{:36} {:>8}", "organization", "weight");
            weights.iter().for_each(|tenant| say!("{:36} {:>8}", tenant.organization, tenant.weight));
        }
        TenantsCommand::Weight { organization, weight } => {
            let mut tx = super::admin::in_organization(db, organization).await?;
            let id = tx.organization().0;
            admin::set_weight(&mut tx, id, *weight).await?;
            tx.commit().await?;
            say!("{organization} has {weight} times the usual share");
        }
    }
    Ok(())
}
