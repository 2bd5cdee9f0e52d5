//! People.

use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{DepartmentId, EmailAddress, OrganizationId, Role, UserId};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct User {
    pub id: UserId,
    pub email: String,
    pub name: String,
    pub role: Role,
    pub is_active: bool,
    pub department: Option<DepartmentId>,
    pub manager: Option<UserId>,
    pub time_zone: Option<String>,
    pub locale: Option<String>,
    pub phone: Option<String>,
    pub last_login_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct UserRow {
    id: Uuid,
    email: String,
    name: String,
    role: String,
    is_active: bool,
    department_id: Option<Uuid>,
    manager_id: Option<Uuid>,
    time_zone: Option<String>,
    locale: Option<String>,
    phone: Option<String>,
    last_login_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<UserRow> for User {
    type Error = Error;
    fn try_from(row: UserRow) -> Result<User> {
        Ok(User {
            id: row.id.into(),
            email: row.email,
            name: row.name,
            role: row.role.parse().map_err(Error::Corrupt)?,
            is_active: row.is_active,
            department: row.department_id.map(Into::into),
            manager: row.manager_id.map(Into::into),
            time_zone: row.time_zone,
            locale: row.locale,
            phone: row.phone,
            last_login_at: row.last_login_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

#[derive(Debug)]
pub struct NewUser<'a> {
    pub email: &'a EmailAddress,
    pub name: &'a str,
    pub role: Role,
    pub password_hash: Option<&'a str>,
    pub department: Option<DepartmentId>,
    pub manager: Option<UserId>,
    pub time_zone: Option<&'a str>,
    pub locale: Option<&'a str>,
    pub phone: Option<&'a str>,
}

/// `None` when the address is taken: unlike a violated constraint this leaves the transaction usable.
pub async fn insert(tx: &mut Tx, new: &NewUser<'_>) -> Result<Option<UserId>> {
    let (organization, now, id) = (tx.organization(), tx.now(), UserId::new());
    let done = sqlx::query!(
        "insert into users (id, organization_id, email, name, role, password_hash, department_id, manager_id, time_zone,
                            locale, phone, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)
         on conflict on constraint users_email_key do nothing",
        id.0,
        organization.0,
        new.email.as_str(),
        new.name,
        new.role.as_str(),
        new.password_hash,
        new.department.map(|d| d.0),
        new.manager.map(|m| m.0),
        new.time_zone,
        new.locale,
        new.phone,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok((done.rows_affected() == 1).then_some(id))
}

pub async fn find(tx: &mut Tx, id: UserId) -> Result<Option<User>> {
    sqlx::query_as!(
        UserRow,
        "select id, email, name, role, is_active, department_id, manager_id, time_zone, locale, phone, last_login_at,
                created_at, updated_at
         from users where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .map(User::try_from)
    .transpose()
}

pub async fn get(tx: &mut Tx, id: UserId) -> Result<User> {
    find(tx, id).await?.ok_or(Error::NotFound)
}

/// Keeps others from changing the user until the end of the transaction; rows that name the user can still be written.
pub async fn lock(tx: &mut Tx, id: UserId) -> Result<User> {
    sqlx::query!("select id from users where id = $1 for no key update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?;
    get(tx, id).await
}

/// Like [`lock`], and no active admin changes either. All in one order, so that two admins who change each other at once
/// wait for one another instead of blocking each other for ever.
pub async fn lock_with_admins(tx: &mut Tx, id: UserId) -> Result<User> {
    let organization = tx.organization();
    sqlx::query!(
        "select id from users
          where organization_id = $2 and (id = $1 or (role = 'admin' and is_active)) order by id for no key update",
        id.0,
        organization.0,
    )
    .fetch_all(&mut **tx)
    .await?;
    get(tx, id).await
}

pub async fn find_by_email(tx: &mut Tx, email: &EmailAddress) -> Result<Option<User>> {
    sqlx::query_as!(
        UserRow,
        "select id, email, name, role, is_active, department_id, manager_id, time_zone, locale, phone, last_login_at,
                created_at, updated_at
         from users where email = $1",
        email.as_str()
    )
    .fetch_optional(&mut **tx)
    .await?
    .map(User::try_from)
    .transpose()
}

/// What a login attempt is compared with.
#[derive(Clone)]
pub struct LoginCandidate {
    pub organization: OrganizationId,
    pub user: UserId,
    pub password_hash: Option<String>,
}

/// Active users with this address in all organizations, in a transaction that presents the address.
pub async fn login_candidates(tx: &mut Tx, email: &EmailAddress) -> Result<Vec<LoginCandidate>> {
    let rows = sqlx::query!(
        "select organization_id, id, password_hash from users where email = $1 and is_active order by created_at limit 20",
        email.as_str()
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| LoginCandidate {
            organization: row.organization_id.into(),
            user: row.id.into(),
            password_hash: row.password_hash,
        })
        .collect())
}

pub async fn password_hash(tx: &mut Tx, id: UserId) -> Result<Option<String>> {
    sqlx::query_scalar!("select password_hash from users where id = $1", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)
}

pub async fn set_password_hash(tx: &mut Tx, id: UserId, hash: &str) -> Result<()> {
    let now = tx.now();
    sqlx::query!("update users set password_hash = $2, updated_at = $3 where id = $1", id.0, hash, now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

pub async fn note_login(tx: &mut Tx, id: UserId) -> Result<()> {
    let now = tx.now();
    sqlx::query!("update users set last_login_at = $2 where id = $1", id.0, now).execute(&mut **tx).await?;
    Ok(())
}

/// Writes all editable columns as they stand in `user`.
pub async fn update(tx: &mut Tx, user: &User) -> Result<()> {
    let now = tx.now();
    let done = sqlx::query!(
        "update users set name = $2, role = $3, is_active = $4, department_id = $5, manager_id = $6, time_zone = $7,
                          locale = $8, phone = $9, updated_at = $10
         where id = $1",
        user.id.0,
        user.name,
        user.role.as_str(),
        user.is_active,
        user.department.map(|d| d.0),
        user.manager.map(|m| m.0),
        user.time_zone,
        user.locale,
        user.phone,
        now,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// To be asked after [`lock_with_admins`], so that of two last admins who leave at once one stays.
pub async fn has_other_active_admin(tx: &mut Tx, than: UserId) -> Result<bool> {
    let organization = tx.organization();
    let found = sqlx::query_scalar!(
        r#"select exists (select from users where organization_id = $2 and role = 'admin' and is_active and id <> $1)
                  as "found!""#,
        than.0,
        organization.0,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}

/// Which users a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub role: Option<Role>,
    pub is_active: Option<bool>,
    pub department: Option<DepartmentId>,
    pub email: Option<String>,
    /// Part of the name or of the address.
    pub q: Option<String>,
}

/// Newest first. `after`: creation time and id of the last one of the page before.
pub async fn list(
    tx: &mut Tx,
    filter: &Filter,
    after: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> Result<Vec<User>> {
    let mut query = QueryBuilder::new(
        "select id, email, name, role, is_active, department_id, manager_id, time_zone, locale, phone, last_login_at,
                created_at, updated_at
         from users where organization_id = ",
    );
    query.push_bind(tx.organization().0);
    if let Some(role) = filter.role {
        query.push(" and role = ").push_bind(role.as_str());
    }
    if let Some(active) = filter.is_active {
        query.push(" and is_active = ").push_bind(active);
    }
    if let Some(department) = filter.department {
        query.push(" and department_id = ").push_bind(department.0);
    }
    if let Some(email) = &filter.email {
        query.push(" and email = ").push_bind(email.to_lowercase());
    }
    if let Some(q) = &filter.q {
        let pattern = format!("%{}%", q.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        query
            .push(" and (name ilike ")
            .push_bind(pattern.clone())
            .push(" or email ilike ")
            .push_bind(pattern)
            .push(")");
    }
    if let Some((at, id)) = after {
        query.push(" and (created_at, id) < (").push_bind(at).push(", ").push_bind(id).push(")");
    }
    query.push(" order by created_at desc, id desc limit ").push_bind(limit);
    let rows: Vec<UserRow> = query.build_query_as().fetch_all(&mut **tx).await?;
    rows.into_iter().map(User::try_from).collect()
}
