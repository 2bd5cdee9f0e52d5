//! Many people at once, from a table. All lines or none: what is half in would have to be found and finished by hand, and a dry run is the same
//! work, given up at its end, so that it tells exactly what the real one would. Each line does what its author could do by hand, and no more.

mod known;
mod work;

use crate::jobs::ImportUsers;
use crate::{Error, Result, events};
use domain::people_sheet::{Counts, ImportStatus, PersonRow, RowError};
use domain::{Actor, Permission, UserImportId, permission};
use queue::{JobId, NewJob};
use serde_json::json;
use store::Tx;
use store::user_imports::{Import, NewImport};

/// Errors that are kept; all are counted.
pub const SHOWN: usize = 1000;
/// Lines that are looked up and written together.
const AT_ONCE: usize = 1000;

/// Keeps a table and enqueues its work. Not with a token of scopes: the work is done later, with all that its author may then.
pub async fn request(
    tx: &mut Tx,
    actor: &Actor,
    csv: &[u8],
    is_dry_run: bool,
    creates_missing: bool,
) -> Result<(Import, JobId)> {
    permission::check(actor, Permission::PeopleManage)?;
    if actor.rights().is_some_and(|rights| rights.limits.is_some()) {
        return Err(Error::forbidden("this is not for API tokens with scopes"));
    }
    if csv.is_empty() {
        return Err(Error::invalid("", "the table is empty: its first line names the columns"));
    }
    let id = UserImportId::new();
    let new = NewImport { id, is_dry_run, creates_missing, requested_by: actor.user_id(), csv };
    store::user_imports::insert(tx, &new).await?;
    let jobs =
        crate::enqueue(tx, &[NewJob::of(&ImportUsers { import: id }).organization(actor.organization)])
            .await?;
    let job = jobs.first().copied().ok_or(Error::NotFound)?;
    Ok((store::user_imports::get(tx, id).await?, job))
}

/// In whose name it is worked, with what they may now. `None`: they cannot act any more.
pub async fn author(tx: &mut Tx, import: &Import) -> Result<Option<Actor>> {
    let organization = tx.organization();
    let Some(user) = import.requested_by else {
        return Ok(Some(Actor::system(organization, "import_users")));
    };
    let holder = store::rights::of(tx, user).await?.filter(|holder| holder.may_enter);
    Ok(holder.map(|holder| Actor::user(organization, user, holder.name, holder.rights)))
}

/// What a table came to.
#[derive(Debug, Default)]
pub struct Report {
    pub counts: Counts,
    pub errors: Vec<RowError>,
}

impl Report {
    pub fn refused(errors: Vec<RowError>) -> Self {
        Report { counts: Counts::default(), errors }
    }

    pub fn status(&self, import: &Import) -> ImportStatus {
        match (self.errors.is_empty(), import.is_dry_run) {
            (false, _) => ImportStatus::Refused,
            (true, true) => ImportStatus::Checked,
            (true, false) => ImportStatus::Done,
        }
    }
}

/// Writes down what became of it.
pub async fn finish(tx: &mut Tx, actor: &Actor, import: &Import, report: &Report) -> Result<()> {
    let status = report.status(import);
    let shown = &report.errors[..report.errors.len().min(SHOWN)];
    store::user_imports::finish(tx, import.id, status, report.counts, shown, report.errors.len()).await?;
    let Counts { rows, created, changed, .. } = report.counts;
    let payload =
        json!({"import": import.id, "status": status, "rows": rows, "created": created, "changed": changed});
    events::record(tx, actor, "users.imported", None, payload).await?;
    Ok(())
}

/// Writes down a table that was worked without a job, by the command line: what became of it stands where that of others does. After a refused or dry
/// one in a transaction of its own.
pub async fn record(
    tx: &mut Tx,
    actor: &Actor,
    is_dry_run: bool,
    creates_missing: bool,
    report: &Report,
) -> Result<Import> {
    let id = UserImportId::new();
    let new = NewImport { id, is_dry_run, creates_missing, requested_by: actor.user_id(), csv: &[] };
    store::user_imports::insert(tx, &new).await?;
    let import = store::user_imports::get(tx, id).await?;
    finish(tx, actor, &import, report).await?;
    Ok(store::user_imports::get(tx, id).await?)
}

/// Takes all lines in. With errors in the report the caller rolls back.
pub async fn apply(tx: &mut Tx, actor: &Actor, creates_missing: bool, rows: &[PersonRow]) -> Result<Report> {
    permission::check(actor, Permission::PeopleManage)?;
    let mut work = work::Work::new(actor, creates_missing);
    for lines in rows.chunks(AT_ONCE) {
        work.lines(tx, lines).await?;
    }
    work.join_teams(tx).await?;
    // A manager may stand further down.
    work.set_managers(tx).await?;
    Ok(work.report(rows.len()))
}
