//! `relaydesk jobs list|show|retry|cancel|discard`: the operator's view, over all organizations.

use crate::cli::JobsCommand;
use crate::say;
use queue::JobId;
use queue::admin::{self, Cancelled, Filter, JobDetail, JobView};
use store::Db;

pub async fn run(command: &JobsCommand, db: &Db) -> anyhow::Result<()> {
    let mut connection = db.pool().acquire().await?;
    match command {
        JobsCommand::List { lane, kind, state, limit, output } => {
            let state = state.as_deref().map(str::parse).transpose()?;
            let filter = Filter { lane: lane.clone(), kind: kind.clone(), state };
            let page = admin::list(&mut connection, &filter, None, None, i64::from(*limit)).await?;
            if output.json {
                say!("{}", serde_json::to_string_pretty(&page.items)?);
            } else {
                say!("{:36}  {:12} {:24} {:10} {:>8}  last error", "id", "lane", "kind", "state", "attempts");
                page.items.iter().for_each(line);
            }
        }
        JobsCommand::Show { id, output } => {
            let job = admin::show(&mut connection, JobId(*id), None).await?;
            if output.json {
                say!("{}", serde_json::to_string_pretty(&job)?);
            } else {
                details(&job)?;
            }
        }
        JobsCommand::Retry { id } => {
            admin::retry(&mut connection, JobId(*id), None).await?;
            say!("{id} is ready again");
        }
        JobsCommand::Cancel { id } => match admin::cancel(&mut connection, JobId(*id), None).await? {
            Cancelled::Now => say!("{id} is cancelled"),
            Cancelled::Requested => say!("{id} runs; its worker has been told to stop it"),
        },
        JobsCommand::Discard { id } => {
            admin::discard(&mut connection, JobId(*id), None).await?;
            say!("{id} is discarded");
        }
    }
    Ok(())
}

fn line(job: &JobView) {
    let error = job.error.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
    let attempts = format!("{}/{}", job.attempt, job.max_attempts);
    say!("{}  {:12} {:24} {:10} {:>8}  {error}", job.id, job.lane, job.kind, job.state, attempts);
}

fn details(detail: &JobDetail) -> anyhow::Result<()> {
    let serde_json::Value::Object(fields) = serde_json::to_value(&detail.job)? else { return Ok(()) };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        say!("{name:14} {}", value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string()));
    }
    for attempt in &detail.attempts {
        let time = attempt.finished_at.or(attempt.started_at).map(|at| at.to_rfc3339()).unwrap_or_default();
        say!(
            "attempt {:<6} {time} {}: {}",
            attempt.attempt,
            attempt.outcome,
            attempt.error.as_deref().unwrap_or("-")
        );
    }
    Ok(())
}
