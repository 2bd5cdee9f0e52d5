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
    Ok(standings(tx, &[user]).await?.remove(&user))
}

/// The same of many.
pub async fn standings(tx: &mut Tx, users: &[UserId]) -> Result<HashMap<UserId, Standing>> {
    let users: Vec<Uuid> = users.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"select u.id, u.is_active, (u.role <> 'end_user' or exists (
                  select from role_grants g join roles r on r.id = g.role_id
                   where (g.user_id = u.id or g.team_id in (select m.team_id from team_members m join teams t on t.id = m.team_id and t.deleted_at is null
                                                             where m.user_id = u.id))
                     and r.permissions ? 'tickets.work')) as "is_staff!"
             from users u where u.id = any($1) and u.deleted_at is null order by u.id for key share of u"#,
        &users
    )
    .fetch_all(&mut **tx)
    .await?;
    let standing = |is_staff, is_active| Standing { is_staff, is_active };
    Ok(rows.into_iter().map(|row| (row.id.into(), standing(row.is_staff, row.is_active))).collect())
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
    let rows =
        sqlx::query!("select id, name, email from users where id = any((select $1::uuid[])::uuid[])", &ids)
            .fetch_all(&mut **tx)
            .await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), PersonName { name: row.name, email: row.email })).collect())
}

pub async fn team_names(tx: &mut Tx, teams: &[TeamId]) -> Result<HashMap<TeamId, String>> {
    let ids: Vec<Uuid> = teams.iter().map(|id| id.0).collect();
    let rows = sqlx::query!("select id, name from teams where id = any((select $1::uuid[])::uuid[])", &ids)
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id.into(), row.name)).collect())
}
