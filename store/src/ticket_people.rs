//! What a verb on a ticket must know of the people it names.

use crate::{Result, Tx, words::word};
use domain::{Role, TeamId, UserId};

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
    row.map(|row| {
        Ok(Standing {
            role: word(&row.role)?,
            is_active: row.is_active,
        })
    })
    .transpose()
}

pub async fn team_exists(tx: &mut Tx, team: TeamId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from teams where id = $1) as "found!""#,
        team.0
    )
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
