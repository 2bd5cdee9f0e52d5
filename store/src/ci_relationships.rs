//! How configuration items hang together: directed, with a kind.

use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::cmdb::CiRelationKind;
use domain::{CiId, CiRelationshipId};
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CiRelationship {
    pub id: CiRelationshipId,
    pub from: CiId,
    pub to: CiId,
    pub kind: CiRelationKind,
    pub created_at: DateTime<Utc>,
}

struct Row {
    id: Uuid,
    from_id: Uuid,
    to_id: Uuid,
    kind: String,
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for CiRelationship {
    type Error = Error;
    fn try_from(row: Row) -> Result<CiRelationship> {
        Ok(CiRelationship {
            id: row.id.into(),
            from: row.from_id.into(),
            to: row.to_id.into(),
            kind: word(&row.kind)?,
            created_at: row.created_at,
        })
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct RelationFilter {
    /// At either end.
    pub item: Option<CiId>,
    pub kind: Option<CiRelationKind>,
}

/// Newest first, at most `limit`, after the given one.
pub async fn list(
    tx: &mut Tx,
    filter: RelationFilter,
    after: Option<CiRelationshipId>,
    limit: i64,
) -> Result<Vec<CiRelationship>> {
    let organization = tx.organization();
    sqlx::query_as!(
        Row,
        "select id, from_id, to_id, kind, created_at from ci_relationships
          where organization_id = $1 and ($2::uuid is null or from_id = $2 or to_id = $2)
            and ($3::text is null or kind = $3) and ($4::uuid is null or id < $4)
          order by id desc limit $5",
        organization.0,
        filter.item.map(|id| id.0),
        filter.kind.map(CiRelationKind::as_str),
        after.map(|id| id.0),
        limit
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .map(TryInto::try_into)
    .collect()
}

pub async fn get(tx: &mut Tx, id: CiRelationshipId) -> Result<CiRelationship> {
    sqlx::query_as!(
        Row,
        "select id, from_id, to_id, kind, created_at from ci_relationships where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}

pub async fn insert(tx: &mut Tx, relationship: &CiRelationship) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!(
        "insert into ci_relationships (id, organization_id, from_id, to_id, kind, created_at) values ($1, $2, $3, $4, $5, $6)",
        relationship.id.0,
        organization.0,
        relationship.from.0,
        relationship.to.0,
        relationship.kind.as_str(),
        relationship.created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn delete(tx: &mut Tx, id: CiRelationshipId) -> Result<()> {
    let done = sqlx::query!("delete from ci_relationships where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(Error::NotFound) }
}
