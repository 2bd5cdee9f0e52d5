//! Categories of configuration items, a tree for people to sort them by.

use crate::lock::lock;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::CiCategoryId;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CiCategory {
    pub id: CiCategoryId,
    pub name: String,
    pub description: String,
    pub parent: Option<CiCategoryId>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

struct Row {
    id: Uuid,
    name: String,
    description: String,
    parent_id: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for CiCategory {
    fn from(row: Row) -> Self {
        CiCategory {
            id: row.id.into(),
            name: row.name,
            description: row.description,
            parent: row.parent_id.map(Into::into),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

pub async fn get(tx: &mut Tx, id: CiCategoryId) -> Result<CiCategory> {
    let row = sqlx::query_as!(
        Row,
        "select id, name, description, parent_id, created_at, updated_at from ci_categories where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Into::into).ok_or(Error::NotFound)
}

lock!(CiCategoryId => CiCategory, "select id from ci_categories where id = $1 for no key update");

/// Newest first, at most `limit`, after the given one.
pub async fn list(
    tx: &mut Tx,
    q: Option<&str>,
    after: Option<CiCategoryId>,
    limit: i64,
) -> Result<Vec<CiCategory>> {
    let organization = tx.organization();
    let rows = sqlx::query_as!(
        Row,
        "select id, name, description, parent_id, created_at, updated_at from ci_categories
          where organization_id = $1 and ($2::uuid is null or id < $2)
            and ($4::text is null or position(lower($4) in lower(name || ' ' || description)) > 0)
          order by id desc limit $3",
        organization.0,
        after.map(|id| id.0),
        limit,
        q
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

pub async fn insert(tx: &mut Tx, category: &CiCategory) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!(
        "insert into ci_categories (id, organization_id, name, description, parent_id, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $6)",
        category.id.0,
        organization.0,
        category.name,
        category.description,
        category.parent.map(|id| id.0),
        category.created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn update(tx: &mut Tx, category: &CiCategory) -> Result<()> {
    let done = sqlx::query!(
        "update ci_categories set name = $2, description = $3, parent_id = $4, updated_at = $5 where id = $1",
        category.id.0,
        category.name,
        category.description,
        category.parent.map(|id| id.0),
        category.updated_at,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}

pub async fn delete(tx: &mut Tx, id: CiCategoryId) -> Result<()> {
    let done = sqlx::query!("delete from ci_categories where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}

/// Whether `id` is `above` or lies below it.
pub async fn is_within(tx: &mut Tx, id: CiCategoryId, above: CiCategoryId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"with recursive up(id, parent_id) as (
               select id, parent_id from ci_categories where id = $1
               union
               select c.id, c.parent_id from ci_categories c join up on c.id = up.parent_id)
           select exists (select from up where id = $2) as "found!""#,
        id.0,
        above.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}
