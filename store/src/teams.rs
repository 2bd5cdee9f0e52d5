//! Teams and who is in them.

use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{DepartmentId, Role, TeamId, UserId};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Team {
    pub id: TeamId,
    pub name: String,
    /// Where mail for the whole team goes.
    pub email: Option<String>,
    pub manager: Option<UserId>,
    pub department: Option<DepartmentId>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

struct Row {
    id: Uuid,
    name: String,
    email: Option<String>,
    manager_id: Option<Uuid>,
    department_id: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<Row> for Team {
    fn from(row: Row) -> Self {
        Team {
            id: row.id.into(),
            name: row.name,
            email: row.email,
            manager: row.manager_id.map(Into::into),
            department: row.department_id.map(Into::into),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Writes all columns as they stand in `team`, except the times, which are now.
pub async fn insert(tx: &mut Tx, team: &Team) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into teams (id, organization_id, name, email, manager_id, department_id, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $7)",
        team.id.0,
        organization.0,
        team.name,
        team.email,
        team.manager.map(|m| m.0),
        team.department.map(|d| d.0),
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: TeamId) -> Result<Team> {
    let row = sqlx::query_as!(
        Row,
        "select id, name, email, manager_id, department_id, created_at, updated_at from teams where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Into::into).ok_or(Error::NotFound)
}

/// Like [`get`], and nobody else changes it until the end of the transaction.
pub async fn lock(tx: &mut Tx, id: TeamId) -> Result<Team> {
    sqlx::query!("select id from teams where id = $1 for update", id.0)
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
) -> Result<Vec<Team>> {
    let (name, id) = after.unzip();
    let rows = sqlx::query_as!(
        Row,
        "select id, name, email, manager_id, department_id, created_at, updated_at from teams
         where ($1::text is null or (name, id) > ($1, $2::uuid))
           and ($4::text is null or position(lower($4) in lower(name || ' ' || coalesce(email, ''))) > 0)
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

pub async fn update(tx: &mut Tx, team: &Team) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update teams set name = $2, email = $3, manager_id = $4, department_id = $5, updated_at = $6 where id = $1",
        team.id.0,
        team.name,
        team.email,
        team.manager.map(|m| m.0),
        team.department.map(|d| d.0),
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn delete(tx: &mut Tx, id: TeamId) -> Result<()> {
    let done = sqlx::query!("delete from teams where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
}

#[derive(Clone, Debug)]
pub struct Member {
    pub user: UserId,
    pub name: String,
    pub email: String,
    pub role: Role,
    pub is_active: bool,
    pub since: DateTime<Utc>,
}

/// All members, by name.
pub async fn members(tx: &mut Tx, team: TeamId) -> Result<Vec<Member>> {
    let rows = sqlx::query!(
        "select u.id, u.name, u.email, u.role, u.is_active, m.created_at
         from team_members m join users u on u.id = m.user_id
         where m.team_id = $1 order by u.name, u.id",
        team.0
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Member {
                user: row.id.into(),
                name: row.name,
                email: row.email,
                role: row.role.parse().map_err(Error::Corrupt)?,
                is_active: row.is_active,
                since: row.created_at,
            })
        })
        .collect()
}

/// Answers whether the user was not a member before.
pub async fn add_member(tx: &mut Tx, team: TeamId, user: UserId) -> Result<bool> {
    let (organization, now) = (tx.organization(), tx.now());
    let done = sqlx::query!(
        "insert into team_members (organization_id, team_id, user_id, created_at) values ($1, $2, $3, $4)
         on conflict on constraint team_members_pkey do nothing",
        organization.0,
        team.0,
        user.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Answers whether the user was a member.
pub async fn remove_member(tx: &mut Tx, team: TeamId, user: UserId) -> Result<bool> {
    let done = sqlx::query!("delete from team_members where team_id = $1 and user_id = $2", team.0, user.0)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}
