//! What people may, read from their roles: the one look-up of each request, with what the request shows of them.

use crate::{Error, Result, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use domain::permission::{HeldRole, Permissions};
use domain::{ApiTokenId, Rights, RoleId, TeamId, UserId};
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

/// An API token, at a request.
#[derive(Clone, Debug)]
pub struct Presented {
    pub id: ApiTokenId,
    pub scopes: Option<Vec<String>>,
    /// Its use was noted less than a minute ago.
    pub is_noted: bool,
}

/// A login that stands, at a request.
#[derive(Clone, Copy, Debug)]
pub struct Used {
    pub session: Uuid,
    /// When somebody showed who they are: as it began, or at the provider before that.
    pub proven_at: DateTime<Utc>,
    /// At an identity provider.
    pub is_external: bool,
    /// Its use was noted less than a minute ago.
    pub is_noted: bool,
}

/// Uses are noted at most once in this time, so that what is busy does not write at every request.
pub(crate) const NOTED: TimeDelta = TimeDelta::minutes(1);

#[derive(Deserialize)]
struct Held {
    id: RoleId,
    name: String,
    team: Option<TeamId>,
    permissions: BTreeMap<String, String>,
}

impl From<Held> for HeldRole {
    fn from(held: Held) -> Self {
        HeldRole {
            id: held.id,
            name: held.name,
            team: held.team,
            permissions: permissions(&held.permissions),
        }
    }
}

/// The stored form: words that this program does not know grant nothing.
pub(crate) fn permissions(stored: &BTreeMap<String, String>) -> Permissions {
    stored.iter().filter_map(|(name, scope)| Some((name.parse().ok()?, scope.parse().ok()?))).collect()
}

/// A row with the columns of `holder`, in one statement.
macro_rules! held {
    ($before:literal, $after:literal, $($argument:expr),*) => {
        sqlx::query!(
            "select " + $before + r#" h.name as "name!", h.role as "role!", h.may_enter as "may_enter!",
                    h.credential_is_shared as "credential_is_shared!", h.suspended_for, h.roles, h.teams as "teams!", h.departments from "# + $after,
            $($argument),*
        )
    };
}

macro_rules! holder {
    ($user:expr, $row:expr) => {{
        let roles: Vec<Held> = match $row.roles {
            Some(roles) => {
                serde_json::from_value(roles).map_err(|error| Error::Corrupt(error.to_string()))?
            }
            None => Vec::new(),
        };
        Holder {
            id: $user,
            name: $row.name,
            may_enter: $row.may_enter,
            must_change_password: $row.credential_is_shared,
            suspended_for: $row.suspended_for,
            rights: Rights {
                user: $user,
                role: $row.role.parse().map_err(Error::Corrupt)?,
                custom: roles.into_iter().map(Into::into).collect(),
                teams: $row.teams.into_iter().map(Into::into).collect(),
                departments: $row.departments.unwrap_or_default().into_iter().map(Into::into).collect(),
                limits: None,
            },
        }
    }};
}

/// `None` when there is no such person in the organization.
pub async fn of(tx: &mut Tx, user: UserId) -> Result<Option<Holder>> {
    let row = held!("", "holder($1) h", user.0).fetch_optional(&mut **tx).await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(holder!(user, row)))
}

/// Whose API token this is the hash of. Revoked and expired ones do not exist.
pub async fn of_token(tx: &mut Tx, hash: &str) -> Result<Option<(Presented, Holder)>> {
    let now = tx.now();
    let row = held!(
        r#"t.id, t.user_id, t.scopes, coalesce(t.last_used_at > $3, false) as "is_noted!","#,
        "api_tokens t cross join lateral holder(t.user_id) h
          where t.token_hash = $1 and t.revoked_at is null and (t.expires_at is null or t.expires_at > $2)",
        hash,
        now,
        now - NOTED
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let presented = Presented { id: row.id.into(), scopes: row.scopes, is_noted: row.is_noted };
    Ok(Some((presented, holder!(row.user_id.into(), row))))
}

/// Of who is logged in, if the login still stands.
pub async fn of_login(tx: &mut Tx, family: Uuid, user: UserId) -> Result<Option<(Used, Holder)>> {
    let now = tx.now();
    let row = held!(
        r#"s.id, least(s.login_at, s.proven_at) as "proven_at!", s.provider_id, s.last_used_at > $4 as "is_noted!","#,
        "sessions s cross join lateral holder(s.user_id) h
          where s.family_id = $1 and s.user_id = $2 and s.rotated_at is null and s.revoked_at is null and s.expires_at > $3",
        family,
        user.0,
        now,
        now - NOTED
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let used = Used {
        session: row.id,
        proven_at: row.proven_at,
        is_external: row.provider_id.is_some(),
        is_noted: row.is_noted,
    };
    Ok(Some((used, holder!(user, row))))
}
