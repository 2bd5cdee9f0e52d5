//! What a verb on a ticket must know of the people it names.

use crate::{Result, Tx};
use domain::{TeamId, UserId};
use std::collections::HashMap;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// May be assigned tickets, by whatever role.
    pub is_staff: bool,
    pub is_active: bool,
}

/// `None` when there is no such person in the organization, or when they were deleted; they are not deleted before the transaction is over.
pub async fn standing(tx: &mut Tx, user: UserId) -> Result<Option<Standing>> {
    let row = sqlx::query!(
        r#"select u.is_active, (u.role <> 'end_user' or exists (
                  select from role_grants g join roles r on r.id = g.role_id
                   where (g.user_id = $1 or g.team_id in (select m.team_id from team_members m join teams t on t.id = m.team_id and t.deleted_at is null
                                                                   where m.user_id = $1))
                     and r.permissions ? 'tickets.work')) as "is_staff!"
             from users u where u.id = $1 and u.deleted_at is null for key share of u"#,
        user.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Standing { is_staff: row.is_staff, is_active: row.is_active }))
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
