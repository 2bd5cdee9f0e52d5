//! What a verb on a ticket must know of the people it names.

use crate::{Result, Tx, words::word};
use domain::{Role, TeamId, UserId};
use std::collections::HashMap;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub role: Role,
    pub is_active: bool,
}

/// `None` when there is no such person in the organization.
pub async fn standing(tx: &mut Tx, user: UserId) -> Result<Option<Standing>> {
    let row = sqlx::query!("select role, is_active from users where id = $1", user.0)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| Ok(Standing { role: word(&row.role)?, is_active: row.is_active })).transpose()
}

pub async fn team_exists(tx: &mut Tx, team: TeamId) -> Result<bool> {
    let found = sqlx::query_scalar!(r#"select exists (select from teams where id = $1) as "found!""#, team.0)
        .fetch_one(&mut **tx)
        .await?;
    Ok(found)
}

pub async fn is_member(tx: &mut Tx, team: TeamId, user: UserId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from team_members where team_id = $1 and user_id = $2) as "found!""#,
        team.0,
        user.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersonName {
    pub name: String,
    pub email: String,
}

/// What people are called, for showing tickets.
pub async fn names(tx: &mut Tx, users: &[UserId]) -> Result<HashMap<UserId, PersonName>> {
    let ids: Vec<Uuid> = users.iter().map(|id| id.0).collect();
    let rows = sqlx::query!("select id, name, email from users where id = any($1)", &ids)
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), PersonName { name: row.name, email: row.email })).collect())
}

pub async fn team_names(tx: &mut Tx, teams: &[TeamId]) -> Result<HashMap<TeamId, String>> {
    let ids: Vec<Uuid> = teams.iter().map(|id| id.0).collect();
    let rows =
        sqlx::query!("select id, name from teams where id = any($1)", &ids).fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), row.name)).collect())
}
