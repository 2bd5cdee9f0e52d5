//! People.

use crate::listing::{self, Field, Is, Key, Kind, List, Placed, Wanted, field, within};
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{Absence, DepartmentId, EmailAddress, OrganizationId, Role, UserId};
use sqlx::{FromRow, Postgres, QueryBuilder};
use std::collections::{HashMap, HashSet};
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
    /// As another system calls them.
    pub external_id: Option<String>,
    /// Out of office, past or to come.
    pub away: Option<Absence>,
    /// Of a service account: who answers for it. People have none.
    pub owner: Option<UserId>,
    /// Locked by an admin since then.
    pub locked_at: Option<DateTime<Utc>>,
    pub last_login_at: Option<DateTime<Utc>>,
    /// Deleted since then; such a person is not active.
    pub deleted_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl User {
    /// Active and not locked: logins and tokens work.
    pub fn may_enter(&self) -> bool {
        self.is_active && self.locked_at.is_none()
    }
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
    external_id: Option<String>,
    away_from: Option<DateTime<Utc>>,
    away_until: Option<DateTime<Utc>>,
    away_note: Option<String>,
    substitute_id: Option<Uuid>,
    owner_id: Option<Uuid>,
    locked_at: Option<DateTime<Utc>>,
    last_login_at: Option<DateTime<Utc>>,
    deleted_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<UserRow> for User {
    type Error = Error;
    fn try_from(row: UserRow) -> Result<User> {
        let away = row.away_from.zip(row.away_until).map(|(from, until)| Absence {
            from,
            until,
            substitute: row.substitute_id.map(Into::into),
            note: row.away_note,
        });
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
            external_id: row.external_id,
            away,
            owner: row.owner_id.map(Into::into),
            locked_at: row.locked_at,
            last_login_at: row.last_login_at,
            deleted_at: row.deleted_at,
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
    /// As another system calls them.
    pub external_id: Option<&'a str>,
    /// Given: it is a service account, and this person answers for it.
    pub owner: Option<UserId>,
}

/// `None` when the address is taken: unlike a violated constraint this leaves the transaction usable.
pub async fn insert(tx: &mut Tx, new: &NewUser<'_>) -> Result<Option<UserId>> {
    Ok(insert_all(tx, std::slice::from_ref(new)).await?.pop().flatten())
}

/// Many in one statement, each as by [`insert`] and in its order.
pub async fn insert_all(tx: &mut Tx, new: &[NewUser<'_>]) -> Result<Vec<Option<UserId>>> {
    fn column<'a, 'n, T>(new: &'a [NewUser<'n>], value: impl Fn(&'a NewUser<'n>) -> T) -> Vec<T> {
        new.iter().map(value).collect()
    }
    let text = |value: Option<&str>| value.map(str::to_owned);
    let (organization, now) = (tx.organization(), tx.now());
    let ids: Vec<Uuid> = new.iter().map(|_| UserId::new().0).collect();
    let made: HashSet<Uuid> = sqlx::query_scalar!(
        "insert into users (id, organization_id, email, name, role, password_hash, department_id, manager_id, time_zone,
                            locale, phone, external_id, created_at, updated_at, owner_id, kind)
         select u.id, $1, u.email, u.name, u.role, u.password_hash, u.department_id, u.manager_id, u.time_zone, u.locale, u.phone,
                u.external_id, $2, $2, u.owner_id, case when u.owner_id is null then 'person' else 'service' end
           from unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::uuid[], $9::uuid[], $10::text[], $11::text[],
                       $12::text[], $13::text[], $14::uuid[]) with ordinality
             as u(id, email, name, role, password_hash, department_id, manager_id, time_zone, locale, phone, external_id, owner_id, place)
          order by u.place
         on conflict (organization_id, email) where deleted_at is null do nothing returning id",
        organization.0,
        now,
        &ids,
        &column(new, |user| user.email.as_str().to_owned()),
        &column(new, |user| user.name.to_owned()),
        &column(new, |user| user.role.as_str().to_owned()),
        &column(new, |user| text(user.password_hash)) as &[Option<String>],
        &column(new, |user| user.department.map(|d| d.0)) as &[Option<Uuid>],
        &column(new, |user| user.manager.map(|m| m.0)) as &[Option<Uuid>],
        &column(new, |user| text(user.time_zone)) as &[Option<String>],
        &column(new, |user| text(user.locale)) as &[Option<String>],
        &column(new, |user| text(user.phone)) as &[Option<String>],
        &column(new, |user| text(user.external_id)) as &[Option<String>],
        &column(new, |user| user.owner.map(|owner| owner.0)) as &[Option<Uuid>],
    )
    .fetch_all(&mut **tx)
    .await?
    .into_iter()
    .collect();
    Ok(ids.into_iter().map(|id| made.contains(&id).then_some(UserId(id))).collect())
}

pub async fn find(tx: &mut Tx, id: UserId) -> Result<Option<User>> {
    sqlx::query_as!(
        UserRow,
        "select id, email, name, role, is_active, department_id, manager_id, time_zone, locale, phone, owner_id, locked_at, last_login_at,
                external_id, away_from, away_until, away_note, substitute_id, deleted_at, created_at, updated_at
         from users where id = $1",
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .map(User::try_from)
    .transpose()
}

/// Those with these ids, in one statement; who is not there is left out.
pub async fn among(tx: &mut Tx, ids: &[Uuid]) -> Result<HashMap<UserId, User>> {
    let rows = sqlx::query_as!(
        UserRow,
        "select id, email, name, role, is_active, department_id, manager_id, time_zone, locale, phone, owner_id, locked_at, last_login_at,
                external_id, away_from, away_until, away_note, substitute_id, deleted_at, created_at, updated_at
         from users where id = any($1)",
        ids
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(|row| Ok((row.id.into(), row.try_into()?))).collect()
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

/// The same of many, in one order, so that nobody waits for each other for ever.
pub async fn lock_all(tx: &mut Tx, ids: &[UserId]) -> Result<HashMap<UserId, User>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    sqlx::query!("select id from users where id = any($1) order by id for no key update", &ids)
        .fetch_all(&mut **tx)
        .await?;
    among(tx, &ids).await
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

/// Of those who are not deleted: an address that somebody has given up may be somebody else's by now.
pub async fn find_by_email(tx: &mut Tx, email: &EmailAddress) -> Result<Option<User>> {
    sqlx::query_as!(
        UserRow,
        "select id, email, name, role, is_active, department_id, manager_id, time_zone, locale, phone, owner_id, locked_at, last_login_at,
                external_id, away_from, away_until, away_note, substitute_id, deleted_at, created_at, updated_at
         from users where email = $1 and deleted_at is null",
        email.as_str()
    )
    .fetch_optional(&mut **tx)
    .await?
    .map(User::try_from)
    .transpose()
}

/// Whether only people who are deleted have this address.
pub async fn is_deleted_address(tx: &mut Tx, email: &EmailAddress) -> Result<bool> {
    let organization = tx.organization();
    let found = sqlx::query_scalar!(
        r#"select coalesce(bool_and(deleted_at is not null), false) as "found!" from users where organization_id = $1 and email = $2"#,
        organization.0,
        email.as_str()
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
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
        "select organization_id, id, password_hash from users where email = $1 and is_active and locked_at is null order by created_at limit 20",
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

/// The password before goes to the former ones, of which the last few are kept.
pub async fn set_password_hash(tx: &mut Tx, id: UserId, hash: &str) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    sqlx::query!(
        "insert into former_passwords (id, organization_id, user_id, password_hash, replaced_at)
         select $1, organization_id, id, password_hash, $3 from users where id = $2 and password_hash is not null",
        Uuid::now_v7(),
        id.0,
        now,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "delete from former_passwords where organization_id = $1 and user_id = $2 and id not in
           (select id from former_passwords where organization_id = $1 and user_id = $2
             order by replaced_at desc, id desc limit $3)",
        organization.0,
        id.0,
        domain::password::REMEMBERED as i64 - 1,
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "update users set password_hash = $2, credential_is_shared = false, updated_at = $3 where id = $1",
        id.0,
        hash,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Another hash of the same password.
pub async fn renew_password_hash(tx: &mut Tx, id: UserId, hash: &str) -> Result<()> {
    sqlx::query!("update users set password_hash = $2 where id = $1", id.0, hash).execute(&mut **tx).await?;
    Ok(())
}

/// Whether somebody else knows the password: who logs in with it has to change it then. A new password takes that back.
pub async fn set_must_change_password(tx: &mut Tx, id: UserId, must: bool) -> Result<()> {
    sqlx::query!("update users set credential_is_shared = $2 where id = $1", id.0, must)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The passwords before the present one, the latest first.
pub async fn former_passwords(tx: &mut Tx, id: UserId) -> Result<Vec<String>> {
    let organization = tx.organization();
    let hashes = sqlx::query_scalar!(
        "select password_hash from former_passwords where organization_id = $1 and user_id = $2
          order by replaced_at desc, id desc",
        organization.0,
        id.0
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(hashes)
}

/// Hands a service account over.
pub async fn set_owner(tx: &mut Tx, id: UserId, owner: UserId) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update users set owner_id = $2, updated_at = $3 where id = $1 and kind = 'service'",
        id.0,
        owner.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Locks a person out, or lets them in again. `false`: they were (or were not) already.
pub async fn set_locked(tx: &mut Tx, id: UserId, locked: bool) -> Result<bool> {
    let now = tx.now();
    let done = sqlx::query!(
        "update users set locked_at = case when $2 then $3::timestamptz end, updated_at = $3
          where id = $1 and (locked_at is null) = $2",
        id.0,
        locked,
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn note_login(tx: &mut Tx, id: UserId) -> Result<()> {
    let now = tx.now();
    sqlx::query!("update users set last_login_at = $2 where id = $1", id.0, now).execute(&mut **tx).await?;
    Ok(())
}

/// Writes all editable columns as they stand in `user`.
pub async fn update(tx: &mut Tx, user: &User) -> Result<()> {
    let (now, away) = (tx.now(), user.away.as_ref());
    let done = sqlx::query!(
        "update users set name = $2, role = $3, is_active = $4, department_id = $5, manager_id = $6, time_zone = $7,
                          locale = $8, phone = $9, updated_at = $10, away_from = $11, away_until = $12, substitute_id = $13, away_note = $14
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
        away.map(|away| away.from),
        away.map(|away| away.until),
        away.and_then(|away| away.substitute).map(|substitute| substitute.0),
        away.and_then(|away| away.note.as_deref()),
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
}

/// Writes what is plain of each as it stands there: name, department, time zone, language, telephone.
pub async fn update_plainly(tx: &mut Tx, users: &[User]) -> Result<()> {
    fn column<T>(users: &[User], value: impl Fn(&User) -> T) -> Vec<T> {
        users.iter().map(value).collect()
    }
    if users.is_empty() {
        return Ok(());
    }
    let now = tx.now();
    sqlx::query!(
        "update users u set name = v.name, department_id = v.department_id, time_zone = v.time_zone, locale = v.locale, phone = v.phone,
                            updated_at = $7
           from unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[])
             as v(id, name, department_id, time_zone, locale, phone)
          where u.id = v.id",
        &column(users, |user| user.id.0),
        &column(users, |user| user.name.clone()),
        &column(users, |user| user.department.map(|d| d.0)) as &[Option<Uuid>],
        &column(users, |user| user.time_zone.clone()) as &[Option<String>],
        &column(users, |user| user.locale.clone()) as &[Option<String>],
        &column(users, |user| user.phone.clone()) as &[Option<String>],
        now,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// A person: an account of a program lets nobody in. To be asked after [`lock_with_admins`], so that of two last admins who leave at once one stays.
pub async fn has_other_active_admin(tx: &mut Tx, than: UserId) -> Result<bool> {
    let organization = tx.organization();
    let found = sqlx::query_scalar!(
        r#"select exists (select from users where organization_id = $2 and kind = 'person' and role = 'admin' and is_active and locked_at is null and id <> $1)
                  as "found!""#,
        than.0,
        organization.0,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}

/// The shipped roles.
pub const ROLES: &[&str] = &["admin", "manager", "agent", "end_user"];

/// What people can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "u.id"),
    field("email", Kind::LowerText, "u.email").says("The exact address."),
    field("name", Kind::LowerText, "lower(u.name)").by("lower(u.name)", "text"),
    field("role", Kind::Words(ROLES), "u.role"),
    field("kind", Kind::Words(&["person", "service"]), "u.kind"),
    field("is_active", Kind::Flag, "u.is_active"),
    field("locked", Kind::Flag, "(u.locked_at is not null)").says("By an admin, until unlocked."),
    field("department", Kind::Id, "u.department_id").or_null(),
    field("manager", Kind::Id, "u.manager_id").or_null(),
    field("owner", Kind::Id, "u.owner_id").or_null().says("Who answers for a service account."),
    within("team", Kind::Id, "exists (select from team_members m where m.user_id = u.id and m.team_id")
        .says("Members of any of these."),
    field("external_id", Kind::Text, "u.external_id").or_null(),
    field("time_zone", Kind::Text, "u.time_zone").or_null(),
    field("locale", Kind::Text, "u.locale").or_null(),
    field("deleted", Kind::Flag, "(u.deleted_at is not null)")
        .says("Not asked for, it is false: the deleted ones are not in the list."),
    field("last_login_at", Kind::Time, "u.last_login_at").or_null(),
    field("created_at", Kind::Time, "u.created_at").by_id(),
    field("updated_at", Kind::Time, "u.updated_at"),
];

/// `q` is a part of the name or of the address.
pub const LIST: List = List { from: "users u", fields: FIELDS, usual: "-created_at", id: Key::uuid("u.id") };

/// Those that are there, unless the deleted ones are asked for.
pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<User>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "u.name || ' ' || u.email");
    };
    let columns = "select u.id, u.email, u.name, u.role, u.is_active, u.department_id, u.manager_id, u.time_zone, u.locale, u.phone, \
                   u.owner_id, u.locked_at, u.last_login_at, u.external_id, u.away_from, u.away_until, u.away_note, \
                   u.substitute_id, u.deleted_at, u.created_at, u.updated_at";
    let mut living = wanted.clone();
    living.unless_asked(&LIST, "deleted", Is::Flag(false));
    LIST.rows::<UserRow, _>(tx, &living, columns, more).await
}
