//! Teams and who is in them.

use crate::listing::{self, Field, Is, Key, Kind, List, Placed, Wanted, field, within};
use crate::lock::lock;
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{DepartmentId, Role, TeamId, UserId};
use serde_json::Value;
use sqlx::{FromRow, Postgres, QueryBuilder};
use std::collections::{BTreeMap, HashSet};
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
    pub deleted_at: Option<DateTime<Utc>>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    name: String,
    email: Option<String>,
    manager_id: Option<Uuid>,
    department_id: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    deleted_at: Option<DateTime<Utc>>,
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
            deleted_at: row.deleted_at,
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
        "select id, name, email, manager_id, department_id, created_at, updated_at, deleted_at from teams where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(Into::into).ok_or(Error::NotFound)
}

lock!(TeamId => Team, "select id from teams where id = $1 for update");

/// What teams can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "t.id"),
    field("name", Kind::LowerText, "lower(t.name)").by("t.name", "text"),
    field("email", Kind::LowerText, "lower(t.email)").or_null(),
    field("manager", Kind::Id, "t.manager_id").or_null(),
    field("department", Kind::Id, "t.department_id").or_null(),
    within("member", Kind::Id, "exists (select from team_members m where m.team_id = t.id and m.user_id")
        .says("With any of these people."),
    field("deleted", Kind::Flag, "(t.deleted_at is not null)")
        .says("Not asked for, it is false: the deleted ones are not in the list."),
    field("created_at", Kind::Time, "t.created_at").by_id(),
    field("updated_at", Kind::Time, "t.updated_at"),
];

/// `q` is a part of the name or of the address.
pub const LIST: List = List { from: "teams t", fields: FIELDS, usual: "name", id: Key::uuid("t.id") };

/// Those that are there, unless the deleted ones are asked for.
pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<Team>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "t.name || ' ' || coalesce(t.email, '')");
    };
    let columns = "select t.id, t.name, t.email, t.manager_id, t.department_id, t.created_at, t.updated_at, t.deleted_at";
    let mut living = wanted.clone();
    living.unless_asked(&LIST, "deleted", Is::Flag(false));
    LIST.rows::<Row, _>(tx, &living, columns, more).await
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

/// Whether tickets that are not over are the team's. To be asked under [`lock`].
pub async fn has_open_tickets(tx: &mut Tx, id: TeamId) -> Result<bool> {
    let organization = tx.organization();
    let found = sqlx::query_scalar!(
        r#"select exists (select from tickets where organization_id = $1 and team_id = $2 and status not in ('closed', 'cancelled')) as "found!""#,
        organization.0,
        id.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}

/// What arrives goes to nobody from now on: mailboxes and alert sources forget the team.
pub async fn let_go(tx: &mut Tx, id: TeamId) -> Result<()> {
    let now = tx.now();
    sqlx::query!("update mailboxes set team_id = null, updated_at = $2 where team_id = $1", id.0, now)
        .execute(&mut **tx)
        .await?;
    sqlx::query!("update alert_sources set team_id = null, updated_at = $2 where team_id = $1", id.0, now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The row stays; the name is free.
pub async fn delete(tx: &mut Tx, id: TeamId) -> Result<()> {
    let now = tx.now();
    sqlx::query!("update teams set deleted_at = $2, updated_at = $2 where id = $1", id.0, now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub async fn restore(tx: &mut Tx, id: TeamId) -> Result<()> {
    let now = tx.now();
    sqlx::query!("update teams set deleted_at = null, updated_at = $2 where id = $1", id.0, now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[derive(Clone, Debug)]
pub struct Member {
    pub user: UserId,
    pub name: String,
    pub email: String,
    pub role: Role,
    pub is_active: bool,
    pub is_lead: bool,
    /// With a level from 1 to 5.
    pub skills: BTreeMap<String, u8>,
    pub since: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct MemberRow {
    id: Uuid,
    name: String,
    email: String,
    role: String,
    is_active: bool,
    is_lead: bool,
    skills: Value,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<MemberRow> for Member {
    type Error = Error;
    fn try_from(row: MemberRow) -> Result<Member> {
        Ok(Member {
            user: row.id.into(),
            name: row.name,
            email: row.email,
            role: row.role.parse().map_err(Error::Corrupt)?,
            is_active: row.is_active,
            is_lead: row.is_lead,
            skills: serde_json::from_value(row.skills).map_err(|error| Error::Corrupt(error.to_string()))?,
            since: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// What the members of a team can be filtered and sorted by.
pub const MEMBER_FIELDS: &[Field] = &[
    field("user", Kind::Id, "m.user_id"),
    field("name", Kind::LowerText, "lower(u.name)").by("lower(u.name)", "text"),
    field("email", Kind::LowerText, "lower(u.email)").by("lower(u.email)", "text"),
    field("role", Kind::Words(crate::users::ROLES), "u.role"),
    field("is_active", Kind::Flag, "u.is_active"),
    field("is_lead", Kind::Flag, "m.is_lead"),
    within("skill", Kind::LowerText, "exists (select from jsonb_object_keys(m.skills) k where k")
        .says("Members who have it only."),
    field("since", Kind::Time, "m.created_at").by("m.created_at", "timestamptz"),
];

/// Their people come beside them: those who are not deleted.
pub const MEMBERS: List = List {
    from: "users u cross join team_members m",
    fields: MEMBER_FIELDS,
    usual: "name",
    id: Key::uuid("m.user_id"),
};

pub async fn members(tx: &mut Tx, team: TeamId, wanted: &Wanted) -> Result<Vec<Placed<Member>>> {
    let columns =
        "select u.id, u.name, u.email, u.role, u.is_active, m.is_lead, m.skills, m.created_at, m.updated_at";
    let more = |sql: &mut QueryBuilder<Postgres>| {
        sql.push(" and m.team_id = ").push_bind(team.0);
        sql.push(" and u.id = m.user_id and u.deleted_at is null");
        listing::contains(sql, wanted.q.as_deref(), "u.name || ' ' || u.email");
    };
    MEMBERS.rows::<MemberRow, _>(tx, wanted, columns, more).await
}

pub async fn member(tx: &mut Tx, team: TeamId, user: UserId) -> Result<Member> {
    sqlx::query_as!(
        MemberRow,
        "select u.id, u.name, u.email, u.role, u.is_active, m.is_lead, m.skills, m.created_at, m.updated_at
         from team_members m join users u on u.id = m.user_id
         where m.team_id = $1 and m.user_id = $2 and u.deleted_at is null",
        team.0,
        user.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}

/// Answers who of them was not a member before.
pub async fn add_members(tx: &mut Tx, team: TeamId, users: &[UserId]) -> Result<HashSet<UserId>> {
    let (organization, now) = (tx.organization(), tx.now());
    let users: Vec<Uuid> = users.iter().map(|id| id.0).collect();
    let added = sqlx::query_scalar!(
        "insert into team_members (organization_id, team_id, user_id, created_at, updated_at)
         select $1, $2, u.id, $4, $4 from unnest($3::uuid[]) with ordinality as u(id, place) order by u.place
         on conflict on constraint team_members_pkey do nothing returning user_id",
        organization.0,
        team.0,
        &users,
        now
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(added.into_iter().map(UserId).collect())
}

/// What they are and can do there. To be asked under [`lock`].
pub async fn update_member(
    tx: &mut Tx,
    team: TeamId,
    user: UserId,
    is_lead: bool,
    skills: &BTreeMap<String, u8>,
) -> Result<()> {
    let now = tx.now();
    let skills: Value = skills.iter().map(|(skill, level)| (skill.clone(), Value::from(*level))).collect();
    sqlx::query!(
        "update team_members set is_lead = $3, skills = $4, updated_at = $5 where team_id = $1 and user_id = $2",
        team.0,
        user.0,
        is_lead,
        skills,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Answers whether the user was a member.
pub async fn remove_member(tx: &mut Tx, team: TeamId, user: UserId) -> Result<bool> {
    let done = sqlx::query!("delete from team_members where team_id = $1 and user_id = $2", team.0, user.0)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}
