//! Departments: where people belong, as a tree.

use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{DepartmentId, UserId};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Department {
    pub id: DepartmentId,
    pub name: String,
    pub parent: Option<DepartmentId>,
    pub manager: Option<UserId>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

struct Row {
    id: Uuid,
    name: String,
    parent_id: Option<Uuid>,
    manager_id: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
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
        "select id, name, parent_id, manager_id, created_at, updated_at from departments where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Into::into).ok_or(Error::NotFound)
}

/// Like [`get`], and nobody else changes it until the end of the transaction.
pub async fn lock(tx: &mut Tx, id: DepartmentId) -> Result<Department> {
    sqlx::query!("select id from departments where id = $1 for update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?;
    get(tx, id).await
}

/// By name. `after`: name and id of the last one of the page before.
pub async fn list(
    tx: &mut Tx,
    q: Option<&str>,
    after: Option<(String, Uuid)>,
    limit: i64,
) -> Result<Vec<Department>> {
    let (name, id) = after.unzip();
    let rows = sqlx::query_as!(
        Row,
        "select id, name, parent_id, manager_id, created_at, updated_at from departments
         where ($1::text is null or (name, id) > ($1, $2::uuid))
           and ($4::text is null or position(lower($4) in lower(name)) > 0)
         order by name, id limit $3",
        name,
        id,
        limit,
        q
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
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

pub async fn delete(tx: &mut Tx, id: DepartmentId) -> Result<()> {
    let done = sqlx::query!("delete from departments where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
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
