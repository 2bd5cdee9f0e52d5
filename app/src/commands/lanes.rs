//! `relaydesk lanes list|pause|resume`

use crate::cli::LanesCommand;
use crate::say;
use actions::jobs::lane;
use anyhow::ensure;
use queue::admin;
use store::Db;

pub async fn run(command: &LanesCommand, db: &Db) -> anyhow::Result<()> {
    let mut connection = db.pool().acquire().await?;
    admin::know_lanes(&mut connection, &lane::ALL).await?;
    match command {
        LanesCommand::List(output) => {
            let lanes = admin::lanes(&mut connection, None).await?;
            if output.json {
                say!("{}", serde_json::to_string_pretty(&lanes)?);
                return Ok(());
            }
            say!(
                "{:14} {:20} {:>9} {:>9} {:>9} {:>9} {:>12}",
                "lane",
                "transport",
                "ready",
                "running",
                "scheduled",
                "dead",
                "oldest"
            );
            for lane in lanes {
                let oldest = format!("{:.1} s", lane.oldest_ready_age_seconds);
                let paused = if lane.paused { "  paused" } else { "" };
                let transport = match &lane.broker {
                    Some(sight) => format!("{} ({sight})", lane.transport),
                    None => lane.transport,
                };
                say!(
                    "{:14} {transport:20} {:>9} {:>9} {:>9} {:>9} {oldest:>12}{paused}",
                    lane.name,
                    lane.ready,
                    lane.running,
                    lane.scheduled,
                    lane.dead
                );
            }
        }
        LanesCommand::Pause { lane } => {
            known(lane)?;
            admin::pause(&mut connection, lane).await?;
            say!("{lane} is paused: running jobs end, no new ones are claimed");
        }
        LanesCommand::Resume { lane } => {
            known(lane)?;
            admin::resume(&mut connection, lane).await?;
            say!("{lane} goes on");
        }
    }
    Ok(())
}

fn known(name: &str) -> anyhow::Result<()> {
    ensure!(lane::ALL.contains(&name), "{name:?} is no lane: expected one of {}", lane::ALL.join(", "));
    Ok(())
}
