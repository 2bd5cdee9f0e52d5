//! Many people at once, from a table. All lines or none: what is half in would have to be found and finished by hand, and a dry run is the same
//! work, given up at its end, so that it tells exactly what the real one would. Each line does what its author could do by hand, and no more.

use crate::departments::DepartmentFields;
use crate::jobs::ImportUsers;
use crate::teams::TeamFields;
use crate::users::{NewPerson, PersonChanges};
use crate::{Error, Result, departments, events, teams, users};
use domain::people_sheet::{Column, Counts, ImportStatus, PersonRow, RowError};
use domain::{Actor, DepartmentId, EmailAddress, Permission, Role, TeamId, UserId, UserImportId, permission};
use queue::{JobId, NewJob};
use serde_json::json;
use std::collections::HashMap;
use store::Tx;
use store::user_imports::{Import, NewImport};

/// Errors that are kept; all are counted.
pub const SHOWN: usize = 1000;

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
    let mut work = Work {
        actor,
        creates_missing,
        departments: HashMap::new(),
        teams: HashMap::new(),
        emails: HashMap::new(),
        external_ids: HashMap::new(),
        people: Vec::with_capacity(rows.len()),
        errors: Vec::new(),
    };
    let mut counts = Counts { rows: i32::try_from(rows.len()).unwrap_or(i32::MAX), ..Counts::default() };
    for row in rows {
        match work.person(tx, row).await {
            Ok(Some(done)) => work.people.push((row, done)),
            Ok(None) => {}
            Err(error) => work.told(row, error)?,
        }
    }
    // A manager may stand further down.
    for (row, mut done) in std::mem::take(&mut work.people) {
        match work.manager(tx, row, done.user).await {
            Ok(changed) => done.changed |= changed,
            Err(error) => work.told(row, error)?,
        }
        match done {
            Person { created: true, .. } => counts.created += 1,
            Person { changed: true, .. } => counts.changed += 1,
            Person { .. } => counts.unchanged += 1,
        }
    }
    work.errors.sort_by_key(|error| error.line);
    Ok(Report { counts, errors: work.errors })
}

#[derive(Clone, Copy)]
struct Person {
    user: UserId,
    created: bool,
    changed: bool,
}

struct Work<'a> {
    actor: &'a Actor,
    creates_missing: bool,
    departments: HashMap<String, DepartmentId>,
    teams: HashMap<String, TeamId>,
    /// The line in which each stood first.
    emails: HashMap<String, u64>,
    external_ids: HashMap<String, u64>,
    people: Vec<(&'a PersonRow, Person)>,
    errors: Vec<RowError>,
}

impl<'a> Work<'a> {
    /// What is wrong with a line is told with it; only when the database fails is the whole given up.
    fn told(&mut self, row: &PersonRow, error: Error) -> Result<()> {
        match error {
            Error::Invalid(fields) => self.errors.extend(fields.into_iter().map(|field| {
                let column = field.pointer.trim_start_matches('/').to_owned();
                RowError {
                    line: row.line,
                    column: (!column.is_empty()).then_some(column),
                    detail: field.detail,
                }
            })),
            Error::Forbidden(detail) | Error::Conflict(detail) => {
                self.errors.push(RowError::of_line(row.line, detail));
            }
            Error::NotFound => self.errors.push(RowError::of_line(row.line, "somebody deleted it meanwhile")),
            other => return Err(other),
        }
        Ok(())
    }

    /// Makes or changes one person. `None`: the line is wrong, and it was told.
    async fn person(&mut self, tx: &mut Tx, row: &'a PersonRow) -> Result<Option<Person>> {
        let given = row.get(Column::Email).ok_or_else(|| Error::invalid("/email", "is required"))?;
        let email = crate::check::email("/email", given)?;
        self.once(row, &email)?;
        let role: Option<Role> = match row.get(Column::Role) {
            Some(word) => {
                Some(word.to_lowercase().parse().map_err(|error: String| Error::invalid("/role", error))?)
            }
            None => None,
        };
        let department = match row.get(Column::Department) {
            Some(name) => Some(self.department(tx, name).await?),
            None => None,
        };
        let known = find(tx, &email, row.get(Column::ExternalId)).await?;
        let mut done = match known {
            Some(user) => {
                let changed = change(tx, self.actor, row, user, role, department).await?;
                Person { user, created: false, changed }
            }
            None => {
                let new = NewPerson {
                    name: row.get(Column::Name).unwrap_or_else(|| email.local_part()).to_owned(),
                    email: email.to_string(),
                    role: role.unwrap_or(Role::EndUser),
                    password_hash: None,
                    department,
                    manager: None,
                    time_zone: row.get(Column::TimeZone).map(str::to_owned),
                    locale: row.get(Column::Locale).map(str::to_owned),
                    phone: row.get(Column::Phone).map(str::to_owned),
                };
                let user = users::create(tx, self.actor, new).await?.id;
                if let Some(external_id) = row.get(Column::ExternalId) {
                    store::user_imports::set_external_id(tx, user, external_id).await?;
                }
                Person { user, created: true, changed: false }
            }
        };
        for name in row.teams() {
            let team = self.team(tx, name).await?;
            if !store::ticket_people::is_member(tx, team, done.user).await? {
                teams::add_member(tx, self.actor, team, done.user)
                    .await
                    .map_err(|error| under_column(error, "/teams"))?;
                done.changed = true;
            }
        }
        Ok(Some(done))
    }

    /// One line a person.
    fn once(&mut self, row: &PersonRow, email: &EmailAddress) -> Result<()> {
        if let Some(first) = self.emails.insert(email.to_string(), row.line) {
            return Err(Error::invalid("/email", format!("stands in line {first} already")));
        }
        if let Some(external_id) = row.get(Column::ExternalId) {
            if external_id.chars().count() > 200 || external_id.chars().any(char::is_control) {
                return Err(Error::invalid("/external_id", "must be one line of at most 200 characters"));
            }
            if let Some(first) = self.external_ids.insert(external_id.to_owned(), row.line) {
                return Err(Error::invalid("/external_id", format!("stands in line {first} already")));
            }
        }
        Ok(())
    }

    async fn department(&mut self, tx: &mut Tx, name: &str) -> Result<DepartmentId> {
        if let Some(known) = self.departments.get(name) {
            return Ok(*known);
        }
        let id = match store::user_imports::department_named(tx, name).await? {
            Some(id) => id,
            None if self.creates_missing => {
                let fields = DepartmentFields { name: name.to_owned(), parent: None, manager: None };
                departments::create(tx, self.actor, fields)
                    .await
                    .map_err(|error| under_column(error, "/department"))?
                    .id
            }
            None => return Err(Error::invalid("/department", "there is no such department")),
        };
        self.departments.insert(name.to_owned(), id);
        Ok(id)
    }

    async fn team(&mut self, tx: &mut Tx, name: &str) -> Result<TeamId> {
        if let Some(known) = self.teams.get(name) {
            return Ok(*known);
        }
        let id = match store::user_imports::team_named(tx, name).await? {
            Some(id) => id,
            None if self.creates_missing => {
                let fields =
                    TeamFields { name: name.to_owned(), email: None, manager: None, department: None };
                teams::create(tx, self.actor, fields).await.map_err(|error| under_column(error, "/teams"))?.id
            }
            None => return Err(Error::invalid("/teams", format!("there is no team {name:?}"))),
        };
        self.teams.insert(name.to_owned(), id);
        Ok(id)
    }

    async fn manager(&self, tx: &mut Tx, row: &PersonRow, user: UserId) -> Result<bool> {
        let Some(given) = row.get(Column::Manager) else { return Ok(false) };
        let email = crate::check::email("/manager", given)?;
        let manager = store::users::find_by_email(tx, &email).await?;
        let manager =
            manager.ok_or_else(|| Error::invalid("/manager", "there is no user with this address"))?.id;
        let changes = PersonChanges { manager: Some(Some(manager)), ..PersonChanges::default() };
        let before = users::lock(tx, user, &changes).await?;
        if before.manager == Some(manager) {
            return Ok(false);
        }
        users::update(tx, self.actor, before, changes).await?;
        Ok(true)
    }
}

/// What a verb says about a name belongs to the column that held it.
fn under_column(error: Error, pointer: &str) -> Error {
    match error {
        Error::Invalid(fields) => Error::invalid(
            pointer,
            fields.into_iter().map(|field| field.detail).collect::<Vec<_>>().join("; "),
        ),
        Error::Conflict(detail) => Error::invalid(pointer, detail),
        other => other,
    }
}

/// By the id that another system gave, else by the address; both lead to the same person or the line is wrong.
async fn find(tx: &mut Tx, email: &EmailAddress, external_id: Option<&str>) -> Result<Option<UserId>> {
    let by_email = store::users::find_by_email(tx, email).await?.map(|user| user.id);
    let by_id = match external_id {
        Some(external_id) => store::user_imports::find_by_external_id(tx, external_id).await?,
        None => None,
    };
    match (by_id, by_email) {
        (Some(one), Some(other)) if one != other => {
            Err(Error::invalid("/external_id", "is somebody else's: the address belongs to another person"))
        }
        // Whoever has the address gets the links to a new password.
        (Some(_), None) => {
            Err(Error::invalid("/email", "this person has another address: an import changes no addresses"))
        }
        (_, by_email) => Ok(by_email),
    }
}

/// Only what differs: a table that is handed in again changes nothing.
async fn change(
    tx: &mut Tx,
    actor: &Actor,
    row: &PersonRow,
    id: UserId,
    role: Option<Role>,
    department: Option<DepartmentId>,
) -> Result<bool> {
    let now = store::users::get(tx, id).await?;
    if now.owner.is_some() {
        return Err(Error::invalid("/email", "is a service account"));
    }
    let text = |column: Column, current: &Option<String>| {
        row.get(column)
            .filter(|wanted| current.as_deref() != Some(*wanted))
            .map(|wanted| Some(wanted.to_owned()))
    };
    let changes = PersonChanges {
        name: row.get(Column::Name).filter(|name| *name != now.name).map(str::to_owned),
        role: role.filter(|role| *role != now.role),
        department: department.filter(|department| now.department != Some(*department)).map(Some),
        time_zone: text(Column::TimeZone, &now.time_zone),
        locale: text(Column::Locale, &now.locale).filter(|locale| {
            // Taken in another spelling, it is the same.
            locale.as_deref().and_then(domain::language_tag) != now.locale
        }),
        phone: text(Column::Phone, &now.phone),
        ..PersonChanges::default()
    };
    let mut changed = !changes.is_empty();
    if changed {
        let before = users::lock(tx, id, &changes).await?;
        users::update(tx, actor, before, changes).await?;
    }
    if let Some(external_id) =
        row.get(Column::ExternalId).filter(|wanted| now.external_id.as_deref() != Some(*wanted))
    {
        crate::roles::may_govern(tx, actor, id).await?;
        store::user_imports::set_external_id(tx, id, external_id).await?;
        changed = true;
    }
    Ok(changed)
}
