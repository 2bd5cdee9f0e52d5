//! `relaydesk jobs list|show|retry|cancel|discard`: the operator's view, over all organizations. What is done to an organization's
//! jobs stands in its log, as done on the command line.

use crate::cli::{JobFilter, JobsCommand, Which};
use crate::say;
use actions::operations;
use anyhow::Context;
use domain::{Actor, OrganizationId};
use queue::JobId;
use queue::admin::{self, Bulk, Cancelled, Cursor, Filter, JobDetail, JobState, JobView, Note, Verb};
use serde_json::Value;
use std::collections::BTreeMap;
use store::{Db, Tx};
use uuid::Uuid;

const LABEL: &str = "relaydesk jobs";

pub async fn run(command: &JobsCommand, db: &Db) -> anyhow::Result<()> {
    match command {
        JobsCommand::List { filter, limit, output } => {
            let mut tx = db.begin_system().await?;
            let (filter, organization) = read(filter, &mut tx).await?;
            let (mut items, mut cursor) = (Vec::new(), None);
            // More than a page has.
            while items.len() < usize::from(*limit) {
                let rest = i64::from(*limit) - items.len() as i64;
                let page = admin::list(&mut tx, &filter, organization, cursor, rest).await?;
                items.extend(page.items);
                cursor = page.next;
                if cursor.is_none() {
                    break;
                }
            }
            tx.commit().await?;
            if output.json {
                say!("{}", serde_json::to_string_pretty(&items)?);
            } else {
                say!("{:36}  {:12} {:24} {:10} {:>8}  last error", "id", "lane", "kind", "state", "attempts");
                items.iter().for_each(line);
            }
        }
        JobsCommand::Show { id, output } => {
            let job = admin::show(&mut *db.begin_system().await?, JobId(*id), None).await?;
            if output.json {
                say!("{}", serde_json::to_string_pretty(&job)?);
            } else {
                details(&job)?;
            }
        }
        JobsCommand::Retry { which, args } => change(Verb::Retry, which, args.as_ref(), db).await?,
        JobsCommand::Cancel { which } => change(Verb::Cancel, which, None, db).await?,
        JobsCommand::Discard { which } => change(Verb::Discard, which, None, db).await?,
    }
    Ok(())
}

/// The filter as the engine takes it, and the organization.
async fn read(given: &JobFilter, tx: &mut Tx) -> anyhow::Result<(Filter, Option<Uuid>)> {
    let now = admin::now(tx).await?;
    let filter = Filter {
        lane: given.lane.clone(),
        kind: given.kind.clone(),
        state: given.state,
        reason: given.reason,
        error: given.error.clone(),
        enqueued_since: given.enqueued_since.map(|when| when.before(now)),
        enqueued_until: given.enqueued_until.map(|when| when.before(now)),
        finished_since: given.since.map(|when| when.before(now)),
        finished_until: given.until.map(|when| when.before(now)),
    };
    let organization = match &given.organization {
        Some(slug) => Some(super::admin::organization(tx, slug).await?.0),
        None => None,
    };
    if organization.is_some() {
        admin::know_lanes(tx, &actions::jobs::lane::ALL).await?;
    }
    Ok((filter, organization))
}

async fn change(verb: Verb, which: &Which, args: Option<&Value>, db: &Db) -> anyhow::Result<()> {
    match which.id {
        Some(id) => one(verb, JobId(id), which.because.as_deref(), args, db).await,
        None => many(verb, which, db).await,
    }
}

async fn one(
    verb: Verb,
    id: JobId,
    because: Option<&str>,
    args: Option<&Value>,
    db: &Db,
) -> anyhow::Result<()> {
    let mut tx = db.begin_system().await?;
    let cancelled = match admin::show(&mut tx, id, None).await?.job.organization {
        Some(organization) => {
            let actor = Actor::system(OrganizationId(organization), LABEL);
            tx.enter(actor.organization).await?;
            let cancelled = match verb {
                Verb::Retry => {
                    operations::retry(&mut tx, &actor, id, args, because).await.map(|()| Cancelled::Now)
                }
                Verb::Cancel => operations::cancel(&mut tx, &actor, id, because).await,
                Verb::Discard => {
                    operations::discard(&mut tx, &actor, id, because).await.map(|()| Cancelled::Now)
                }
            };
            cancelled.map_err(super::admin::words)?
        }
        None => {
            let note = Note::by(LABEL).because(because.map(str::to_owned));
            match (verb, args) {
                (Verb::Retry, Some(args)) => {
                    let kinds = actions::jobs::catalogue();
                    admin::edit(&mut tx, &kinds, id, None, args, &note).await.map(|()| Cancelled::Now)?
                }
                (Verb::Retry, None) => {
                    admin::retry(&mut tx, id, None, &note).await.map(|()| Cancelled::Now)?
                }
                (Verb::Cancel, _) => admin::cancel(&mut tx, id, None, &note).await?,
                (Verb::Discard, _) => {
                    admin::discard(&mut tx, id, None, &note).await.map(|()| Cancelled::Now)?
                }
            }
        }
    };
    tx.commit().await?;
    match (verb, cancelled) {
        (Verb::Retry, _) => say!("{id} is ready again"),
        (Verb::Cancel, Cancelled::Now) => say!("{id} is cancelled"),
        (Verb::Cancel, Cancelled::Requested) => say!("{id} runs; its worker has been told to stop it"),
        (Verb::Discard, _) => say!("{id} is discarded"),
    }
    Ok(())
}

async fn many(verb: Verb, which: &Which, db: &Db) -> anyhow::Result<()> {
    let mut tx = db.begin_system().await?;
    let (filter, organization) = read(&which.filter, &mut tx).await?;
    let note = Note::by(LABEL).because(which.because.clone());
    let bulk = Bulk::new(&mut tx, verb, filter, note).await?;
    if which.dry_run {
        let found = bulk.count(&mut tx, organization).await?;
        tx.commit().await?;
        let more = if found.more { " or more" } else { "" };
        say!("{}{more} jobs would be {}", found.jobs, verb.done());
        return Ok(());
    }
    let (mut cursor, mut jobs) = (Cursor::default(), 0);
    let mut of: BTreeMap<Uuid, i64> = BTreeMap::new();
    tx.commit().await?;
    while !cursor.is_over {
        let mut tx = db.begin_system().await?;
        let step = bulk.step(&mut tx, organization, &mut cursor).await?;
        tx.commit().await?;
        jobs += step.jobs;
        if let Some(organization) = step.organization.filter(|_| step.jobs > 0) {
            *of.entry(organization).or_default() += step.jobs;
        }
    }
    for (organization, jobs) in of {
        let actor = Actor::system(OrganizationId(organization), LABEL);
        let mut tx = db.begin(actor.organization).await?;
        operations::managed(&mut tx, &actor, &bulk, jobs, None)
            .await
            .map_err(super::admin::words)
            .context("it is done, but does not stand in the organization's log")?;
        tx.commit().await?;
    }
    say!("{jobs} jobs are {}", verb.done());
    Ok(())
}

fn line(job: &JobView) {
    let error = job.error.as_deref().unwrap_or_default().lines().next().unwrap_or_default();
    let reason = job.reason.as_deref().map(|reason| format!("{reason}: ")).unwrap_or_default();
    let attempts = format!("{}/{}", job.attempt, job.max_attempts);
    say!("{}  {:12} {:24} {:10} {:>8}  {reason}{error}", job.id, job.lane, job.kind, job.state, attempts);
}

fn details(detail: &JobDetail) -> anyhow::Result<()> {
    let serde_json::Value::Object(fields) = serde_json::to_value(&detail.job)? else { return Ok(()) };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        say!("{name:16} {}", value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string()));
    }
    for attempt in &detail.attempts {
        let time = attempt.finished_at.or(attempt.started_at).map(|at| at.to_rfc3339()).unwrap_or_default();
        let by = attempt.actor.as_deref().map(|actor| format!(" by {actor}")).unwrap_or_default();
        let was =
            attempt.args.as_ref().map(|args| format!("; the arguments were {args}")).unwrap_or_default();
        say!(
            "attempt {:<8} {time} {}{by}: {}{was}",
            attempt.attempt,
            attempt.outcome,
            attempt.error.as_deref().unwrap_or("-")
        );
    }
    if detail.job.state == JobState::Dead {
        say!("to run it again: relaydesk jobs retry {}", detail.job.id);
    }
    Ok(())
}
