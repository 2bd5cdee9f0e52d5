//! Categories of configuration items, a tree for people to sort them by.

use crate::listing::{self, Field, Key, Kind, List, Placed, Wanted, field};
use crate::lock::lock;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::CiCategoryId;
use sqlx::{FromRow, Postgres, QueryBuilder};
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

#[derive(FromRow)]
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

/// What categories can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "c.id"),
    field("name", Kind::LowerText, "lower(c.name)").by("lower(c.name)", "text"),
    field("parent", Kind::Id, "c.parent_id").or_null(),
    field("created_at", Kind::Time, "c.created_at").by_id(),
    field("updated_at", Kind::Time, "c.updated_at").by("c.updated_at", "timestamptz"),
];

/// `q` is a part of the name or of the description.
pub const LIST: List =
    List { from: "ci_categories c", fields: FIELDS, usual: "-created_at", id: Key::uuid("c.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<CiCategory>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "c.name || ' ' || c.description");
    };
    let columns = "select c.id, c.name, c.description, c.parent_id, c.created_at, c.updated_at";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
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
