//! A table of people, taken in as a whole or not at all: all lines and the end of the job are one transaction. A dry run is the same work, rolled
//! back before its report is written.

use crate::{Shared, organization_of};
use actions::imports::{self, Report};
use actions::jobs::ImportUsers;
use connectors::people_csv;
use domain::people_sheet::{Counts, ImportStatus, RowError};
use domain::{Actor, OrganizationId, UserImportId};
use queue::{JobResult, Outcome, Run, Running};
use serde_json::json;
use store::Tx;
use store::user_imports::{self, Import};

impl Run<Shared> for ImportUsers {
    async fn run(self, job: &Running, shared: &Shared) -> JobResult {
        let organization = organization_of(job)?;
        let worked = work(&self, job, shared, organization).await;
        if worked.is_err() && job.attempt >= job.max_attempts {
            give_up(shared, organization, self.import).await?;
        }
        Ok(worked?)
    }
}

async fn work(
    args: &ImportUsers,
    job: &Running,
    shared: &Shared,
    organization: OrganizationId,
) -> anyhow::Result<Outcome> {
    let mut tx = shared.db.begin(organization).await?;
    let import = match user_imports::get(&mut tx, args.import).await {
        Err(store::Error::NotFound) => return Ok(Outcome::Cancelled("the import is gone".into())),
        other => other?,
    };
    let actor = imports::author(&mut tx, &import).await?;
    tx.rollback().await?;
    // What is changed is changed by its author; transactions that begin from here on say so.
    if let Some(actor) = &actor {
        store::context::act_as(actor);
    }
    let mut tx = shared.db.begin(organization).await?;
    if user_imports::lock(&mut tx, args.import).await?.status != ImportStatus::Queued {
        return Ok(Outcome::Cancelled("it was worked before".into()));
    }
    let csv = user_imports::csv(&mut tx, args.import).await?;
    let report = match &actor {
        None => refused("who asked for it may not act any more"),
        Some(actor) => match tokio::task::spawn_blocking(move || people_csv::read(&csv)).await? {
            Err(errors) => Report::refused(errors),
            Ok(rows) => match imports::apply(&mut tx, actor, import.creates_missing, &rows).await {
                Err(actions::Error::Forbidden(why)) => refused(&why),
                other => other?,
            },
        },
    };
    let mut tx = match report.status(&import) {
        ImportStatus::Done => tx,
        _ => anew(tx, shared, organization, &import).await?,
    };
    let by = actor.unwrap_or_else(|| Actor::system(organization, "import_users"));
    imports::finish(&mut tx, &by, &import, &report).await?;
    let told = json!({"rows": report.counts.rows, "errors": report.errors.len()});
    job.complete_with(&mut tx, &told).await?;
    tx.commit().await?;
    Ok(Outcome::Done)
}

/// It is not tried again: whoever waits for it is told.
async fn give_up(
    shared: &Shared,
    organization: OrganizationId,
    id: UserImportId,
) -> Result<(), store::Error> {
    let mut tx = shared.db.begin(organization).await?;
    let why = RowError::of_line(
        1,
        "it could not be worked, time and again: see the dead jobs, then hand it in again",
    );
    if user_imports::lock(&mut tx, id).await?.status == ImportStatus::Queued {
        user_imports::finish(&mut tx, id, ImportStatus::Failed, Counts::default(), &[why], 1).await?;
    }
    tx.commit().await
}

fn refused(why: &str) -> Report {
    Report::refused(vec![RowError::of_line(1, why)])
}

/// Nothing of what was done stays.
async fn anew(
    tx: Tx,
    shared: &Shared,
    organization: OrganizationId,
    import: &Import,
) -> Result<Tx, store::Error> {
    tx.rollback().await?;
    let mut tx = shared.db.begin(organization).await?;
    user_imports::lock(&mut tx, import.id).await?;
    Ok(tx)
}
