//! The roles that an organization made for itself, and who has them.

use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::permission::Permissions;
use domain::{RoleGrantId, RoleId, TeamId, UserId};
use serde_json::Value;
use std::collections::BTreeMap;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
pub struct CustomRole {
    pub id: RoleId,
    pub name: String,
    pub description: String,
    pub permissions: Permissions,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

struct Row {
    id: Uuid,
    name: String,
    description: String,
    permissions: Value,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for CustomRole {
    type Error = Error;
    fn try_from(row: Row) -> Result<Self> {
        let stored: BTreeMap<String, String> =
            serde_json::from_value(row.permissions).map_err(|error| Error::Corrupt(error.to_string()))?;
        Ok(CustomRole {
            id: row.id.into(),
            name: row.name,
            description: row.description,
            permissions: crate::rights::permissions(&stored),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

fn stored(permissions: &Permissions) -> Value {
    permissions.iter().map(|(permission, scope)| (permission.as_str(), scope.as_str())).collect()
}

/// Writes all columns as they stand in `role`, except the times, which are now.
pub async fn insert(tx: &mut Tx, role: &CustomRole) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into roles (id, organization_id, name, description, permissions, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $6)",
        role.id.0,
        organization.0,
        role.name,
        role.description,
        stored(&role.permissions),
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: RoleId) -> Result<CustomRole> {
    sqlx::query_as!(
        Row,
        "select id, name, description, permissions, created_at, updated_at from roles where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}

/// Like [`get`], and nobody else changes or grants it until the end of the transaction.
pub async fn lock(tx: &mut Tx, id: RoleId) -> Result<CustomRole> {
    sqlx::query!("select id from roles where id = $1 for no key update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?;
    get(tx, id).await
}

/// All, by name: there are as many as an administrator keeps in mind.
pub async fn all(tx: &mut Tx) -> Result<Vec<CustomRole>> {
    let rows = sqlx::query_as!(
        Row,
        "select id, name, description, permissions, created_at, updated_at from roles order by name, id"
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

pub async fn count(tx: &mut Tx) -> Result<i64> {
    let organization = tx.organization();
    Ok(sqlx::query_scalar!(
        r#"select count(*) as "count!" from roles where organization_id = $1"#,
        organization.0
    )
    .fetch_one(&mut **tx)
    .await?)
}

pub async fn update(tx: &mut Tx, role: &CustomRole) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update roles set name = $2, description = $3, permissions = $4, updated_at = $5 where id = $1",
        role.id.0,
        role.name,
        role.description,
        stored(&role.permissions),
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// And with it who had it.
pub async fn delete(tx: &mut Tx, id: RoleId) -> Result<()> {
    let done = sqlx::query!("delete from roles where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Who gets a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    User(UserId),
    /// Everybody who is in it.
    Team(TeamId),
}

impl Holder {
    fn ids(self) -> (Option<Uuid>, Option<Uuid>) {
        match self {
            Holder::User(user) => (Some(user.0), None),
            Holder::Team(team) => (None, Some(team.0)),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    pub id: RoleGrantId,
    pub holder: Holder,
    /// What the person or the team is called.
    pub name: String,
    pub granted_by: Option<UserId>,
    pub created_at: DateTime<Utc>,
}

/// `None`: they have it already.
pub async fn grant(tx: &mut Tx, role: RoleId, to: Holder, by: Option<UserId>) -> Result<Option<RoleGrantId>> {
    let (organization, now, id) = (tx.organization(), tx.now(), RoleGrantId::new());
    let (user, team) = to.ids();
    let done = sqlx::query!(
        "insert into role_grants (id, organization_id, role_id, user_id, team_id, granted_by, created_at)
         values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
        id.0,
        organization.0,
        role.0,
        user,
        team,
        by.map(|user| user.0),
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok((done.rows_affected() == 1).then_some(id))
}

/// Says who had it.
pub async fn revoke(tx: &mut Tx, role: RoleId, grant: RoleGrantId) -> Result<Holder> {
    let row = sqlx::query!(
        "delete from role_grants where role_id = $1 and id = $2 returning user_id, team_id",
        role.0,
        grant.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?;
    holder(row.user_id, row.team_id)
}

fn holder(user: Option<Uuid>, team: Option<Uuid>) -> Result<Holder> {
    match (user, team) {
        (Some(user), _) => Ok(Holder::User(user.into())),
        (None, Some(team)) => Ok(Holder::Team(team.into())),
        (None, None) => Err(Error::Corrupt("a role that nobody has".into())),
    }
}

/// Who has the role, in the order in which they got it.
pub async fn grants(tx: &mut Tx, role: RoleId) -> Result<Vec<Grant>> {
    let rows = sqlx::query!(
        r#"select g.id, g.user_id, g.team_id, coalesce(u.name, t.name) as "name!", g.granted_by, g.created_at
             from role_grants g left join users u on u.id = g.user_id left join teams t on t.id = g.team_id
            where g.role_id = $1 order by g.created_at, g.id"#,
        role.0
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Grant {
                id: row.id.into(),
                holder: holder(row.user_id, row.team_id)?,
                name: row.name,
                granted_by: row.granted_by.map(Into::into),
                created_at: row.created_at,
            })
        })
        .collect()
}

/// What whoever joins the team gets with it.
pub async fn of_team(tx: &mut Tx, team: TeamId) -> Result<Vec<CustomRole>> {
    let rows = sqlx::query_as!(
        Row,
        "select r.id, r.name, r.description, r.permissions, r.created_at, r.updated_at
           from role_grants g join roles r on r.id = g.role_id where g.team_id = $1 order by r.name",
        team.0
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// Whether the team has tickets that only its members see.
pub async fn has_confidential_tickets(tx: &mut Tx, team: TeamId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from tickets where team_id = $1 and is_confidential) as "found!""#,
        team.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}
