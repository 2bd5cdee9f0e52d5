//! `relaydesk lanes list|show|pause|drain|resume|set`

use crate::cli::{LanesCommand, Setting};
use crate::say;
use actions::jobs::lane;
use anyhow::{Context, bail, ensure};
use queue::admin::{self, LaneView};
use std::time::{Duration, Instant};
use store::Db;

pub async fn run(command: &LanesCommand, db: &Db) -> anyhow::Result<()> {
    let mut tx = db.begin_system().await?;
    admin::know_lanes(&mut tx, &lane::ALL).await?;
    let mut done: Vec<String> = Vec::new();
    match command {
        LanesCommand::List(output) => {
            let lanes = admin::lanes(&mut tx, None).await?;
            match output.json {
                true => say!("{}", serde_json::to_string_pretty(&lanes)?),
                false => table(&lanes),
            }
        }
        LanesCommand::Show { lane, output } => {
            let lanes = admin::lanes(&mut tx, None).await?;
            let lane = lanes.into_iter().find(|view| view.name == *lane).with_context(|| unknown(lane))?;
            match output.json {
                true => say!("{}", serde_json::to_string_pretty(&lane)?),
                false => details(&lane)?,
            }
        }
        LanesCommand::Pause { lane } => {
            known(lane)?;
            admin::pause(&mut tx, lane).await?;
            done.push(format!("{lane} is paused: running jobs end, no new ones are claimed"));
        }
        LanesCommand::Drain { lane, within } => {
            known(lane)?;
            admin::drain(&mut tx, lane).await?;
            tx.commit().await?;
            let started = Instant::now();
            while is_draining(db, lane).await? {
                if started.elapsed() >= within.0 {
                    bail!("{lane} still works off what was there; it is paused when that is done");
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            say!("{lane} has worked off what was there, and is paused");
            return Ok(());
        }
        LanesCommand::Resume { lane } => {
            known(lane)?;
            admin::resume(&mut tx, lane).await?;
            done.push(format!("{lane} goes on"));
        }
        LanesCommand::Set { lane, at_once, aging } => {
            known(lane)?;
            if let Some(Setting(jobs)) = at_once {
                admin::limit_lane(&mut tx, lane, *jobs).await?;
                done.push(match jobs {
                    Some(jobs) => format!("{lane}: {jobs} jobs at once in all processes"),
                    None => format!("{lane}: as many jobs at once as the program says"),
                });
            }
            if let Some(aging) = aging {
                admin::set_aging(&mut tx, lane, aging.0).await?;
                done.push(format!(
                    "{lane}: a point of priority is worth {} s",
                    aging.0.as_secs().min(86_400)
                ));
            }
        }
    }
    tx.commit().await?;
    done.iter().for_each(|line| say!("{line}"));
    Ok(())
}

async fn is_draining(db: &Db, lane: &str) -> anyhow::Result<bool> {
    let mut tx = db.begin_system().await?;
    let lanes = admin::lanes(&mut tx, None).await?;
    tx.rollback().await?;
    Ok(lanes.iter().any(|view| view.name == lane && view.draining))
}

fn table(lanes: &[LaneView]) {
    say!(
        "{:14} {:20} {:>9} {:>9} {:>9} {:>9} {:>9} {:>12}",
        "lane",
        "transport",
        "ready",
        "running",
        "scheduled",
        "limited",
        "dead",
        "oldest"
    );
    for lane in lanes {
        let oldest = format!("{:.1} s", lane.oldest_ready_age_seconds);
        let transport = match &lane.broker {
            Some(sight) => format!("{} ({sight})", lane.transport),
            None => lane.transport.clone(),
        };
        let mut remarks = Vec::new();
        if lane.paused {
            remarks.push("paused".to_owned());
        } else if lane.draining {
            remarks.push("draining".to_owned());
        }
        remarks.extend(lane.at_once.map(|jobs| format!("{jobs} at once")));
        if lane.approximate {
            remarks.push("large numbers are estimates".to_owned());
        }
        let remarks = remarks.join(", ");
        say!(
            "{:14} {transport:20} {:>9} {:>9} {:>9} {:>9} {:>9} {oldest:>12}  {remarks}",
            lane.name,
            lane.ready,
            lane.running,
            lane.scheduled,
            lane.limited,
            lane.dead
        );
    }
}

fn details(lane: &LaneView) -> anyhow::Result<()> {
    let serde_json::Value::Object(fields) = serde_json::to_value(lane)? else { return Ok(()) };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        say!("{name:24} {}", value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string()));
    }
    Ok(())
}

fn known(name: &str) -> anyhow::Result<()> {
    ensure!(lane::ALL.contains(&name), unknown(name));
    Ok(())
}

fn unknown(name: &str) -> String {
    format!("{name:?} is no lane: expected one of {}", lane::ALL.join(", "))
}
