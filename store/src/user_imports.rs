//! Tables of people that were handed in, and what became of them.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, field};
use crate::users::User;
use crate::words::word;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::people_sheet::{Counts, ImportStatus, RowError};
use domain::{TeamId, UserId, UserImportId};
use serde_json::Value;
use sqlx::FromRow;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Import {
    pub id: UserImportId,
    pub status: ImportStatus,
    /// Changes nothing, and says what it would do.
    pub is_dry_run: bool,
    /// Departments and teams that are not there are made.
    pub creates_missing: bool,
    /// Nobody: the command line.
    pub requested_by: Option<UserId>,
    pub counts: Counts,
    /// The first ones; `error_count` says how many there were.
    pub errors: Vec<RowError>,
    pub error_count: i32,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    status: String,
    is_dry_run: bool,
    creates_missing: bool,
    requested_by: Option<Uuid>,
    row_count: i32,
    created_count: i32,
    changed_count: i32,
    unchanged_count: i32,
    errors: Value,
    error_count: i32,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for Import {
    type Error = Error;
    fn try_from(row: Row) -> Result<Import> {
        Ok(Import {
            id: row.id.into(),
            status: word(&row.status)?,
            is_dry_run: row.is_dry_run,
            creates_missing: row.creates_missing,
            requested_by: row.requested_by.map(Into::into),
            counts: Counts {
                rows: row.row_count,
                created: row.created_count,
                changed: row.changed_count,
                unchanged: row.unchanged_count,
            },
            errors: serde_json::from_value(row.errors).map_err(|error| Error::Corrupt(error.to_string()))?,
            error_count: row.error_count,
            created_at: row.created_at,
            finished_at: row.finished_at,
        })
    }
}

#[derive(Debug)]
pub struct NewImport<'a> {
    pub id: UserImportId,
    pub is_dry_run: bool,
    pub creates_missing: bool,
    pub requested_by: Option<UserId>,
    pub csv: &'a [u8],
}

pub async fn insert(tx: &mut Tx, new: &NewImport<'_>) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into user_imports (id, organization_id, is_dry_run, creates_missing, requested_by, csv, created_at)
         values ($1, $2, $3, $4, $5, $6, $7)",
        new.id.0,
        organization.0,
        new.is_dry_run,
        new.creates_missing,
        new.requested_by.map(|user| user.0),
        new.csv,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: UserImportId) -> Result<Import> {
    sqlx::query_as!(
        Row,
        "select id, status, is_dry_run, creates_missing, requested_by, row_count, created_count, changed_count, unchanged_count,
                errors, error_count, created_at, finished_at from user_imports where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}

/// Like [`get`], and nobody else works it until the end of the transaction.
pub async fn lock(tx: &mut Tx, id: UserImportId) -> Result<Import> {
    sqlx::query!("select id from user_imports where id = $1 for no key update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?;
    get(tx, id).await
}

/// The table itself: there until it was worked.
pub async fn csv(tx: &mut Tx, id: UserImportId) -> Result<Vec<u8>> {
    let csv = sqlx::query_scalar!("select csv from user_imports where id = $1", id.0)
        .fetch_optional(&mut **tx)
        .await?;
    csv.flatten().ok_or(Error::NotFound)
}

/// What imports can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "i.id"),
    field("status", Kind::Words(ImportStatus::WORDS), "i.status"),
    field("dry_run", Kind::Flag, "i.is_dry_run"),
    field("requested_by", Kind::Id, "i.requested_by").or_null(),
    field("rows", Kind::Number, "i.row_count"),
    field("error_count", Kind::Number, "i.error_count"),
    field("created_at", Kind::Time, "i.created_at").by("i.created_at", "timestamptz"),
    field("finished_at", Kind::Time, "i.finished_at").or_null(),
];

pub const LIST: List =
    List { from: "user_imports i", fields: FIELDS, usual: "-created_at", id: Key::uuid("i.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<Import>>> {
    let columns = "select i.id, i.status, i.is_dry_run, i.creates_missing, i.requested_by, i.row_count, i.created_count, i.changed_count, \
                   i.unchanged_count, i.errors, i.error_count, i.created_at, i.finished_at";
    LIST.rows::<Row, _>(tx, wanted, columns, |_| {}).await
}

/// What became of it. The table goes: it is nobody's record of people.
pub async fn finish(
    tx: &mut Tx,
    id: UserImportId,
    status: ImportStatus,
    counts: Counts,
    errors: &[RowError],
    error_count: usize,
) -> Result<()> {
    let now = tx.now();
    let errors = serde_json::to_value(errors).map_err(|error| Error::Corrupt(error.to_string()))?;
    sqlx::query!(
        "update user_imports set status = $2, row_count = $3, created_count = $4, changed_count = $5, unchanged_count = $6,
                errors = $7, error_count = $8, finished_at = $9, csv = null where id = $1",
        id.0,
        status.as_str(),
        counts.rows,
        counts.created,
        counts.changed,
        counts.unchanged,
        errors,
        i32::try_from(error_count).unwrap_or(i32::MAX),
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What an import looks people, departments and teams up by.
pub async fn find_by_external_id(tx: &mut Tx, external_id: &str) -> Result<Option<UserId>> {
    let id = sqlx::query_scalar!(
        "select id from users where external_id = $1 and deleted_at is null",
        external_id
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(id.map(Into::into))
}

/// The same of many, by their addresses or by what another system calls them.
pub async fn known(tx: &mut Tx, emails: &[String], external_ids: &[String]) -> Result<Vec<User>> {
    let organization = tx.organization();
    let ids = sqlx::query_scalar!(
        r#"select id as "id!" from users where organization_id = $1 and email = any($2) and deleted_at is null
           union select id from users where organization_id = $1 and external_id = any($3) and deleted_at is null"#,
        organization.0,
        emails,
        external_ids
    )
    .fetch_all(&mut **tx)
    .await?;
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(crate::users::among(tx, &ids).await?.into_values().collect())
}

/// The teams that these people are in.
pub async fn memberships(tx: &mut Tx, people: &[UserId]) -> Result<Vec<(TeamId, UserId)>> {
    let people: Vec<Uuid> = people.iter().map(|id| id.0).collect();
    let rows = sqlx::query!("select team_id, user_id from team_members where user_id = any($1)", &people)
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows.into_iter().map(|row| (row.team_id.into(), row.user_id.into())).collect())
}

/// To be called after [`crate::users::lock_all`].
pub async fn set_managers(tx: &mut Tx, changes: &[(UserId, UserId)]) -> Result<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let now = tx.now();
    let (people, managers): (Vec<Uuid>, Vec<Uuid>) =
        changes.iter().map(|(person, manager)| (person.0, manager.0)).unzip();
    sqlx::query!(
        "update users u set manager_id = v.manager_id, updated_at = $3
           from unnest($1::uuid[], $2::uuid[]) as v(id, manager_id) where u.id = v.id",
        &people,
        &managers,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// As another system calls them.
pub async fn set_external_id(tx: &mut Tx, user: UserId, external_id: &str) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update users set external_id = $2, updated_at = $3 where id = $1",
        user.0,
        external_id,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn department_named(tx: &mut Tx, name: &str) -> Result<Option<domain::DepartmentId>> {
    let id = sqlx::query_scalar!(
        "select id from departments where name = $1 and deleted_at is null for key share",
        name
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(id.map(Into::into))
}

pub async fn team_named(tx: &mut Tx, name: &str) -> Result<Option<TeamId>> {
    let id = sqlx::query_scalar!(
        "select id from teams where name = $1 and deleted_at is null for key share",
        name
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(id.map(Into::into))
}
