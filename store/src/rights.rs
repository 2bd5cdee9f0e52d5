//! What people may, read from their roles: the one look-up of each request.

use crate::{Error, Result, Tx};
use domain::permission::{HeldRole, Permissions};
use domain::{Rights, RoleId, TeamId, UserId};
use serde::Deserialize;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A person with all that they may.
#[derive(Clone, Debug)]
pub struct Holder {
    pub id: UserId,
    pub name: String,
    /// Active and not locked.
    pub may_enter: bool,
    /// Somebody else knows their password.
    pub must_change_password: bool,
    /// Why those who run the installation have stopped the organization, if they have.
    pub suspended_for: Option<String>,
    pub rights: Rights,
}

#[derive(Deserialize)]
struct Held {
    id: RoleId,
    name: String,
    team: Option<TeamId>,
    permissions: BTreeMap<String, String>,
}

/// The stored form: words that this program does not know grant nothing.
pub(crate) fn permissions(stored: &BTreeMap<String, String>) -> Permissions {
    stored.iter().filter_map(|(name, scope)| Some((name.parse().ok()?, scope.parse().ok()?))).collect()
}

/// In one statement. `None` when there is no such person in the organization.
pub async fn of(tx: &mut Tx, user: UserId) -> Result<Option<Holder>> {
    let row = sqlx::query!(
        r#"select u.name, u.role, u.is_active and u.locked_at is null as "may_enter!", u.credential_is_shared, o.suspended_for, held.roles as "roles?",
                  array(select m.team_id from team_members m join teams t on t.id = m.team_id and t.deleted_at is null
                         where m.user_id = u.id) as "teams!",
                  case when u.department_id is not null
                        and held.roles @? '$[*].permissions.* ? (@ == "department")'
                       then array(with recursive below (id) as (
                                    select u.department_id
                                    union select d.id from departments d join below on d.parent_id = below.id)
                                  select id from below) end as "departments?: Vec<Uuid>"
             from users u join organizations o on o.id = u.organization_id
             left join lateral (
                  select jsonb_agg(jsonb_build_object('id', r.id, 'name', r.name, 'team', g.team_id,
                                                      'permissions', r.permissions) order by r.name, g.team_id nulls first) as roles
                    from (select role_id, null::uuid as team_id from role_grants where user_id = $1
                          union all
                          select g.role_id, g.team_id from team_members m join role_grants g on g.team_id = m.team_id
                            join teams t on t.id = m.team_id and t.deleted_at is null
                           where m.user_id = $1) g
                    join roles r on r.id = g.role_id) held on true
            where u.id = $1"#,
        user.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let held: Vec<Held> = match row.roles {
        Some(roles) => serde_json::from_value(roles).map_err(|error| Error::Corrupt(error.to_string()))?,
        None => Vec::new(),
    };
    let custom = held.into_iter().map(|held| HeldRole {
        id: held.id,
        name: held.name,
        team: held.team,
        permissions: permissions(&held.permissions),
    });
    let rights = Rights {
        user,
        role: row.role.parse().map_err(Error::Corrupt)?,
        custom: custom.collect(),
        teams: row.teams.into_iter().map(Into::into).collect(),
        departments: row.departments.unwrap_or_default().into_iter().map(Into::into).collect(),
        limits: None,
    };
    Ok(Some(Holder {
        id: user,
        name: row.name,
        may_enter: row.may_enter,
        must_change_password: row.credential_is_shared,
        suspended_for: row.suspended_for,
        rights,
    }))
}
