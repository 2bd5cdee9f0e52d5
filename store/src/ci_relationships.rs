//! How configuration items hang together: directed, with a kind.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, either, field};
use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::cmdb::CiRelationKind;
use domain::{CiId, CiRelationshipId};
use sqlx::FromRow;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CiRelationship {
    pub id: CiRelationshipId,
    pub from: CiId,
    pub to: CiId,
    pub kind: CiRelationKind,
    pub created_at: DateTime<Utc>,
}

#[derive(FromRow)]
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

/// What relationships can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "r.id"),
    either("item", Kind::Id, "r.from_id", "r.to_id").says("A configuration item at either end."),
    field("from", Kind::Id, "r.from_id"),
    field("to", Kind::Id, "r.to_id"),
    field("kind", Kind::Words(CiRelationKind::WORDS), "r.kind"),
    field("created_at", Kind::Time, "r.created_at").by_id(),
];

pub const LIST: List =
    List { from: "ci_relationships r", fields: FIELDS, usual: "-created_at", id: Key::uuid("r.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<CiRelationship>>> {
    let columns = "select r.id, r.from_id, r.to_id, r.kind, r.created_at";
    LIST.rows::<Row, _>(tx, wanted, columns, |_| {}).await
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
