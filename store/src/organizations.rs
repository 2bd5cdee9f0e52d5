//! Tenants.

use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::OrganizationId;
use domain::mail::SenderPolicy;
use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Organization {
    pub id: OrganizationId,
    pub slug: String,
    pub name: String,
    pub time_zone: String,
    pub settings: Value,
    /// Roles whose people must have a second factor.
    pub mfa_required_roles: Vec<String>,
    /// How long a login lasts at most, and how long unless it is refreshed.
    pub login_hours: i32,
    pub login_idle_hours: i32,
    /// Who becomes known by writing a mail.
    pub sender_policy: SenderPolicy,
    pub sender_domains: Vec<String>,
    /// The organization of those who run the installation: the first one.
    pub is_operator: bool,
    /// Since when nobody gets in, and why.
    pub suspended_at: Option<DateTime<Utc>>,
    pub suspended_for: Option<String>,
    pub deleted_at: Option<DateTime<Utc>>,
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

/// An organization from a row with its columns.
macro_rules! organization {
    ($row:expr) => {
        Organization {
            id: $row.id.into(),
            slug: $row.slug,
            name: $row.name,
            time_zone: $row.time_zone,
            settings: $row.settings,
            mfa_required_roles: $row.mfa_required_roles,
            login_hours: $row.login_hours,
            login_idle_hours: $row.login_idle_hours,
            sender_policy: word(&$row.sender_policy)?,
            sender_domains: $row.sender_domains,
            is_operator: $row.is_operator,
            suspended_at: $row.suspended_at,
            suspended_for: $row.suspended_for,
            deleted_at: $row.deleted_at,
            created_at: $row.created_at,
            updated_at: $row.updated_at,
        }
    };
}

pub async fn find(tx: &mut Tx, id: OrganizationId) -> Result<Option<Organization>> {
    let row = sqlx::query!(
        "select id, slug, name, time_zone, settings, mfa_required_roles, login_hours, login_idle_hours, sender_policy, sender_domains, is_operator, suspended_at, suspended_for,
                deleted_at, created_at, updated_at from organizations where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(|row| Ok(organization!(row))).transpose()
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
        "select id, slug, name, time_zone, settings, mfa_required_roles, login_hours, login_idle_hours, sender_policy, sender_domains, is_operator, suspended_at, suspended_for,
                deleted_at, created_at, updated_at from organizations order by slug"
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(|row| Ok(organization!(row))).collect()
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
    pub mfa_required_roles: Option<&'a [String]>,
    pub login_hours: Option<i32>,
    pub login_idle_hours: Option<i32>,
    pub sender_policy: Option<SenderPolicy>,
    pub sender_domains: Option<&'a [String]>,
}

pub async fn update(tx: &mut Tx, changes: &Changes<'_>) -> Result<()> {
    let (id, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "update organizations set name = coalesce($2, name), time_zone = coalesce($3, time_zone),
                                  mfa_required_roles = coalesce($5, mfa_required_roles),
                                  sender_policy = coalesce($6, sender_policy), sender_domains = coalesce($7, sender_domains),
                                  login_hours = coalesce($8, login_hours), login_idle_hours = coalesce($9, login_idle_hours),
                                  updated_at = $4
          where id = $1",
        id.0,
        changes.name,
        changes.time_zone,
        now,
        changes.mfa_required_roles,
        changes.sender_policy.map(SenderPolicy::as_str),
        changes.sender_domains,
        changes.login_hours,
        changes.login_idle_hours,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Why the organization of the transaction is suspended, if it is.
pub async fn suspended_for(tx: &mut Tx) -> Result<Option<String>> {
    let id = tx.organization();
    let reason = sqlx::query_scalar!("select suspended_for from organizations where id = $1", id.0)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(reason.flatten())
}

pub async fn suspend(tx: &mut Tx, reason: &str) -> Result<()> {
    let (id, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "update organizations set suspended_at = $2, suspended_for = $3, updated_at = $2 where id = $1",
        id.0,
        now,
        reason
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn delete(tx: &mut Tx) -> Result<()> {
    let (id, now) = (tx.organization(), tx.now());
    sqlx::query!("update organizations set deleted_at = $2, updated_at = $2 where id = $1", id.0, now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Neither suspended nor deleted any more.
pub async fn resume(tx: &mut Tx) -> Result<()> {
    let (id, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "update organizations set suspended_at = null, suspended_for = null, deleted_at = null, updated_at = $2 where id = $1",
        id.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}
