//! Departments: where people belong, as a tree.

use crate::listing::{self, Field, Is, Key, Kind, List, Placed, Wanted, field};
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{DepartmentId, UserId};
use sqlx::{FromRow, Postgres, QueryBuilder};
use std::collections::HashMap;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Department {
    pub id: DepartmentId,
    pub name: String,
    pub parent: Option<DepartmentId>,
    pub manager: Option<UserId>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub deleted_at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    name: String,
    parent_id: Option<Uuid>,
    manager_id: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    deleted_at: Option<DateTime<Utc>>,
}

impl From<Row> for Department {
    fn from(row: Row) -> Self {
        Department {
            id: row.id.into(),
            name: row.name,
            parent: row.parent_id.map(Into::into),
            manager: row.manager_id.map(Into::into),
            created_at: row.created_at,
            updated_at: row.updated_at,
            deleted_at: row.deleted_at,
        }
    }
}

/// Writes all columns as they stand in `department`, except the times, which are now.
pub async fn insert(tx: &mut Tx, department: &Department) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into departments (id, organization_id, name, parent_id, manager_id, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $6)",
        department.id.0,
        organization.0,
        department.name,
        department.parent.map(|d| d.0),
        department.manager.map(|m| m.0),
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: DepartmentId) -> Result<Department> {
    let row = sqlx::query_as!(
        Row,
        "select id, name, parent_id, manager_id, created_at, updated_at, deleted_at from departments where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Into::into).ok_or(Error::NotFound)
}

/// Nobody else moves or deletes a department of the organization until the end of the transaction: what is a tree before is one
/// afterwards. Taken before rows are locked.
pub async fn lock_tree(tx: &mut Tx) -> Result<()> {
    let organization = tx.organization().0.to_string();
    sqlx::query!("select pg_advisory_xact_lock(hashtext('departments'), hashtext($1))", organization)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Like [`get`], and nobody else changes it until the end of the transaction; what names it can still be written.
pub async fn lock(tx: &mut Tx, id: DepartmentId) -> Result<Department> {
    sqlx::query!("select id from departments where id = $1 for no key update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?;
    get(tx, id).await
}

/// Like [`lock`], and nobody begins to name it either.
pub async fn lock_whole(tx: &mut Tx, id: DepartmentId) -> Result<Department> {
    sqlx::query!("select id from departments where id = $1 for update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?;
    get(tx, id).await
}

/// What departments can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "d.id"),
    field("name", Kind::LowerText, "lower(d.name)").by("d.name", "text"),
    field("parent", Kind::Id, "d.parent_id").or_null(),
    field("manager", Kind::Id, "d.manager_id").or_null(),
    field("deleted", Kind::Flag, "(d.deleted_at is not null)")
        .says("Not asked for, it is false: the deleted ones are not in the list."),
    field("created_at", Kind::Time, "d.created_at").by_id(),
    field("updated_at", Kind::Time, "d.updated_at"),
];

/// `q` is a part of the name.
pub const LIST: List = List { from: "departments d", fields: FIELDS, usual: "name", id: Key::uuid("d.id") };

/// Those that are there, unless the deleted ones are asked for.
pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<Department>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "d.name");
    };
    let columns = "select d.id, d.name, d.parent_id, d.manager_id, d.created_at, d.updated_at, d.deleted_at";
    let mut living = wanted.clone();
    living.unless_asked(&LIST, "deleted", Is::Flag(false));
    LIST.rows::<Row, _>(tx, &living, columns, more).await
}

/// What departments are called, for showing what belongs to them.
pub async fn names(tx: &mut Tx, ids: &[DepartmentId]) -> Result<HashMap<DepartmentId, String>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!("select id, name from departments where id = any($1)", &ids)
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), row.name)).collect())
}

pub async fn update(tx: &mut Tx, department: &Department) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update departments set name = $2, parent_id = $3, manager_id = $4, updated_at = $5 where id = $1",
        department.id.0,
        department.name,
        department.parent.map(|d| d.0),
        department.manager.map(|m| m.0),
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Whether people, teams or departments that are not deleted belong to it. To be asked under [`lock_whole`].
pub async fn is_in_use(tx: &mut Tx, id: DepartmentId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from users where department_id = $1 and deleted_at is null)
               or exists (select from teams where department_id = $1 and deleted_at is null)
               or exists (select from departments where parent_id = $1 and deleted_at is null) as "found!""#,
        id.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}

/// The row stays; the name is free.
pub async fn delete(tx: &mut Tx, id: DepartmentId) -> Result<()> {
    let now = tx.now();
    sqlx::query!("update departments set deleted_at = $2, updated_at = $2 where id = $1", id.0, now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub async fn restore(tx: &mut Tx, id: DepartmentId) -> Result<()> {
    let now = tx.now();
    sqlx::query!("update departments set deleted_at = null, updated_at = $2 where id = $1", id.0, now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Whether `id` is `above` or lies below it.
pub async fn is_within(tx: &mut Tx, id: DepartmentId, above: DepartmentId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"with recursive up as (
               select id, parent_id from departments where id = $1
               union
               select d.id, d.parent_id from departments d join up on d.id = up.parent_id)
           select exists (select from up where id = $2) as "found!""#,
        id.0,
        above.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}
