//! People and teams as SCIM lists them: by number of the first and how many, with the count of all.

use crate::{Result, Tx, users};
use chrono::{DateTime, Utc};
use domain::{TeamId, UserId};
use std::collections::BTreeMap;
use uuid::Uuid;

/// All that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct PersonFilter {
    pub id: Option<UserId>,
    /// In lower case.
    pub email: Option<String>,
    pub external_id: Option<String>,
    pub name: Option<String>,
    pub is_active: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub offset: i64,
    pub limit: i64,
}

/// People (no service accounts, nobody deleted), the oldest first, and how many there are.
pub async fn people(tx: &mut Tx, filter: &PersonFilter, window: Window) -> Result<(Vec<users::User>, i64)> {
    let organization = tx.organization().0;
    let id = filter.id.map(|id| id.0);
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from users
            where organization_id = $1 and kind = 'person' and deleted_at is null and ($2::uuid is null or id = $2)
              and ($3::text is null or email = $3) and ($4::text is null or external_id = $4)
              and ($5::text is null or name = $5) and ($6::boolean is null or is_active = $6)"#,
        organization,
        id,
        filter.email,
        filter.external_id,
        filter.name,
        filter.is_active
    )
    .fetch_one(&mut **tx)
    .await?;
    let ids = sqlx::query_scalar!(
        "select id from users
          where organization_id = $1 and kind = 'person' and deleted_at is null and ($2::uuid is null or id = $2)
            and ($3::text is null or email = $3) and ($4::text is null or external_id = $4)
            and ($5::text is null or name = $5) and ($6::boolean is null or is_active = $6)
          order by created_at, id offset $7 limit $8",
        organization,
        id,
        filter.email,
        filter.external_id,
        filter.name,
        filter.is_active,
        window.offset,
        window.limit
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut read = users::among(tx, &ids).await?;
    Ok((ids.into_iter().filter_map(|id| read.remove(&UserId(id))).collect(), total))
}

/// The teams of each of these people, by name.
pub async fn teams_of(tx: &mut Tx, people: &[UserId]) -> Result<BTreeMap<UserId, Vec<(TeamId, String)>>> {
    let ids: Vec<Uuid> = people.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        "select m.user_id, t.id, t.name from team_members m join teams t on t.id = m.team_id
          where m.user_id = any($1) and t.deleted_at is null order by t.name, t.id",
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut teams: BTreeMap<UserId, Vec<(TeamId, String)>> = BTreeMap::new();
    for row in rows {
        teams.entry(row.user_id.into()).or_default().push((row.id.into(), row.name));
    }
    Ok(teams)
}

/// `None`: another system does not call them anything any more.
pub async fn set_person_external_id(tx: &mut Tx, id: UserId, external_id: Option<&str>) -> Result<()> {
    let now = tx.now();
    sqlx::query!("update users set external_id = $2, updated_at = $3 where id = $1", id.0, external_id, now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A team, as another system knows it.
#[derive(Clone, Debug)]
pub struct Group {
    pub id: TeamId,
    pub name: String,
    pub external_id: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// Changes when somebody comes or goes; known also where the members are not read.
    pub membership: String,
    /// People who are not deleted, by name; none where they were not asked for. Service accounts are no Users: they are in a team or not, whatever
    /// a provider says of its members.
    pub members: Vec<(UserId, String)>,
}

#[derive(Clone, Debug, Default)]
pub struct GroupFilter {
    pub id: Option<TeamId>,
    pub name: Option<String>,
    pub external_id: Option<String>,
    pub member: Option<UserId>,
}

/// Whether those who are in a team come with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Members {
    Read,
    LeftOut,
}

/// Teams that are there, the oldest first, and how many there are.
pub async fn groups(
    tx: &mut Tx,
    filter: &GroupFilter,
    window: Window,
    with: Members,
) -> Result<(Vec<Group>, i64)> {
    let organization = tx.organization().0;
    let (id, member) = (filter.id.map(|id| id.0), filter.member.map(|id| id.0));
    let total = sqlx::query_scalar!(
        r#"select count(*) as "count!" from teams t
            where organization_id = $1 and deleted_at is null and ($2::uuid is null or id = $2)
              and ($3::text is null or lower(name) = lower($3)) and ($4::text is null or external_id = $4)
              and ($5::uuid is null or exists (select from team_members m join users u on u.id = m.user_id
                                                where m.team_id = t.id and m.user_id = $5 and u.kind = 'person'))"#,
        organization,
        id,
        filter.name,
        filter.external_id,
        member
    )
    .fetch_one(&mut **tx)
    .await?;
    let rows = sqlx::query!(
        // Of the members of those that are shown only: the window is cut inside.
        r#"select t.id, t.name, t.external_id, t.created_at, t.updated_at,
                  (select coalesce(encode(sha256(string_agg(uuid_send(u.id), '' order by u.id)), 'hex'), '')
                     from team_members m join users u on u.id = m.user_id
                    where m.team_id = t.id and u.kind = 'person' and u.deleted_at is null) as "membership!"
             from (select id, name, external_id, created_at, updated_at from teams t
                    where organization_id = $1 and deleted_at is null and ($2::uuid is null or id = $2)
                      and ($3::text is null or lower(name) = lower($3)) and ($4::text is null or external_id = $4)
                      and ($5::uuid is null or exists (select from team_members m join users u on u.id = m.user_id
                                                        where m.team_id = t.id and m.user_id = $5 and u.kind = 'person'))
                    order by created_at, id offset $6 limit $7) t
            order by t.created_at, t.id"#,
        organization,
        id,
        filter.name,
        filter.external_id,
        member,
        window.offset,
        window.limit
    )
    .fetch_all(&mut **tx)
    .await?;
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let mut members = match with {
        Members::Read => members_of(tx, &ids).await?,
        Members::LeftOut => BTreeMap::new(),
    };
    let groups = rows.into_iter().map(|row| Group {
        id: row.id.into(),
        name: row.name,
        external_id: row.external_id,
        created_at: row.created_at,
        updated_at: row.updated_at,
        membership: row.membership,
        members: members.remove(&row.id).unwrap_or_default(),
    });
    Ok((groups.collect(), total))
}

async fn members_of(tx: &mut Tx, teams: &[Uuid]) -> Result<BTreeMap<Uuid, Vec<(UserId, String)>>> {
    let rows = sqlx::query!(
        "select m.team_id, u.id, u.name from team_members m join users u on u.id = m.user_id
          where m.team_id = any($1) and u.kind = 'person' and u.deleted_at is null order by u.name, u.id",
        teams
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut members: BTreeMap<Uuid, Vec<(UserId, String)>> = BTreeMap::new();
    for row in rows {
        members.entry(row.team_id).or_default().push((row.id.into(), row.name));
    }
    Ok(members)
}

/// `None`: there is no such team, or it is deleted.
pub async fn group(tx: &mut Tx, id: TeamId, with: Members) -> Result<Option<Group>> {
    let filter = GroupFilter { id: Some(id), ..GroupFilter::default() };
    Ok(groups(tx, &filter, Window { offset: 0, limit: 1 }, with).await?.0.pop())
}

pub async fn set_team_external_id(tx: &mut Tx, id: TeamId, external_id: Option<&str>) -> Result<()> {
    let now = tx.now();
    sqlx::query!("update teams set external_id = $2, updated_at = $3 where id = $1", id.0, external_id, now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
