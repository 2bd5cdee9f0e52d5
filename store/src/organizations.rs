//! Tenants.

use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::OrganizationId;
use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Organization {
    pub id: OrganizationId,
    pub slug: String,
    pub name: String,
    pub time_zone: String,
    pub settings: Value,
    /// The organization of those who run the installation: the first one.
    pub is_operator: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Debug)]
pub struct NewOrganization<'a> {
    pub slug: &'a str,
    pub name: &'a str,
    pub time_zone: &'a str,
}

/// Goes on in the new organization. The first one of an installation becomes the operator's.
pub async fn insert(tx: &mut Tx, new: &NewOrganization<'_>) -> Result<OrganizationId> {
    // Two first ones at once would both find none; the lock ends with the transaction.
    sqlx::query!("select pg_advisory_xact_lock(hashtext('organizations'))").execute(&mut **tx).await?;
    let first = sqlx::query_scalar!(r#"select not exists(select from organizations) as "first!""#)
        .fetch_one(&mut **tx)
        .await?;
    let (id, now) = (OrganizationId::new(), tx.now());
    sqlx::query!(
        "insert into organizations (id, slug, name, time_zone, is_operator, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $6)",
        id.0,
        new.slug,
        new.name,
        new.time_zone,
        first,
        now,
    )
    .execute(&mut **tx)
    .await?;
    tx.enter(id).await?;
    Ok(id)
}

/// The organization of the transaction.
pub async fn current(tx: &mut Tx) -> Result<Organization> {
    let id = tx.organization();
    find(tx, id).await?.ok_or(Error::NotFound)
}

/// Keeps others from changing it until the end of the transaction. Its change and the changes of what it has no row of its own
/// for (the priority matrix) begin with it.
pub async fn lock(tx: &mut Tx) -> Result<Organization> {
    let id = tx.organization();
    sqlx::query!("select id from organizations where id = $1 for no key update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?;
    current(tx).await
}

pub async fn find(tx: &mut Tx, id: OrganizationId) -> Result<Option<Organization>> {
    let row = sqlx::query!(
        "select id, slug, name, time_zone, settings, is_operator, created_at, updated_at from organizations where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Organization {
        id: row.id.into(),
        slug: row.slug,
        name: row.name,
        time_zone: row.time_zone,
        settings: row.settings,
        is_operator: row.is_operator,
        created_at: row.created_at,
        updated_at: row.updated_at,
    }))
}

/// Needs a system transaction, like [`ids`].
pub async fn find_by_slug(tx: &mut Tx, slug: &str) -> Result<Option<OrganizationId>> {
    let id = sqlx::query_scalar!("select id from organizations where slug = $1", slug)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(id.map(Into::into))
}

/// All organizations by their slugs, for administration: needs a system transaction.
pub async fn all(tx: &mut Tx) -> Result<Vec<Organization>> {
    let rows = sqlx::query!(
        "select id, slug, name, time_zone, settings, is_operator, created_at, updated_at from organizations order by slug"
    )
    .fetch_all(&mut **tx)
    .await?;
    let organizations = rows.into_iter().map(|row| Organization {
        id: row.id.into(),
        slug: row.slug,
        name: row.name,
        time_zone: row.time_zone,
        settings: row.settings,
        is_operator: row.is_operator,
        created_at: row.created_at,
        updated_at: row.updated_at,
    });
    Ok(organizations.collect())
}

/// The ids of all organizations, for sweeps and administration: needs a system transaction.
pub async fn ids(tx: &mut Tx) -> Result<Vec<OrganizationId>> {
    let ids = sqlx::query_scalar!("select id from organizations order by id").fetch_all(&mut **tx).await?;
    Ok(ids.into_iter().map(Into::into).collect())
}

#[derive(Debug, Default)]
pub struct Changes<'a> {
    pub name: Option<&'a str>,
    pub time_zone: Option<&'a str>,
}

pub async fn update(tx: &mut Tx, changes: &Changes<'_>) -> Result<()> {
    let (id, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "update organizations set name = coalesce($2, name), time_zone = coalesce($3, time_zone), updated_at = $4 where id = $1",
        id.0,
        changes.name,
        changes.time_zone,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
