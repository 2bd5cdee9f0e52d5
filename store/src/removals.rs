//! Deleted people and what is still there. What is deleted keeps its row, for others name it; so whoever begins to name something asks here
//! whether it is still there, under a lock that its deletion waits for.

use crate::{Result, Tx};
use domain::{DepartmentId, TeamId, TicketId, UserId};
use std::collections::HashSet;
use uuid::Uuid;

/// Whether a person is there and not deleted; they are not deleted before the transaction is over.
pub async fn has_user(tx: &mut Tx, id: UserId) -> Result<bool> {
    let found = sqlx::query!("select id from users where id = $1 and deleted_at is null for key share", id.0)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.is_some())
}

/// Those of these people who are there, as [`has_user`] tells of one; in one order, so that nobody waits for each other for ever.
pub async fn living_users(tx: &mut Tx, ids: &[UserId]) -> Result<HashSet<UserId>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let found = sqlx::query_scalar!(
        "select id from users where id = any($1) and deleted_at is null order by id for key share",
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(found.into_iter().map(UserId).collect())
}

pub async fn has_team(tx: &mut Tx, id: TeamId) -> Result<bool> {
    let found = sqlx::query!("select id from teams where id = $1 and deleted_at is null for key share", id.0)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(found.is_some())
}

pub async fn has_department(tx: &mut Tx, id: DepartmentId) -> Result<bool> {
    let found =
        sqlx::query!("select id from departments where id = $1 and deleted_at is null for key share", id.0)
            .fetch_optional(&mut **tx)
            .await?;
    Ok(found.is_some())
}

/// Marks a person as deleted; whoever names them meanwhile waits. They are locked with the admins already.
pub async fn delete_user(tx: &mut Tx, id: UserId) -> Result<()> {
    let now = tx.now();
    sqlx::query!("select id from users where id = $1 for update", id.0).fetch_optional(&mut **tx).await?;
    sqlx::query!(
        "update users set deleted_at = $2, was_active = is_active, is_active = false, updated_at = $2 where id = $1",
        id.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// As active as they were, and in no department that is deleted by now.
pub async fn restore_user(tx: &mut Tx, id: UserId) -> Result<()> {
    let now = tx.now();
    sqlx::query!(
        "update users u set deleted_at = null, is_active = was_active, was_active = null, updated_at = $2,
                department_id = (select d.id from departments d where d.id = u.department_id and d.deleted_at is null for key share)
          where id = $1",
        id.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Those of the addresses that belong to people who were deleted or are not active, and to nobody who is there; with whose they are. An
/// address that nobody has is not among them.
pub async fn addresses_of_the_gone(tx: &mut Tx, addresses: &[String]) -> Result<Vec<(String, UserId)>> {
    let rows = sqlx::query!(
        r#"with held as (
             select u.email as address, u.id, u.is_active from users u where u.email = any($1)
             union all
             select w.value, u.id, u.is_active from contact_ways w join users u on u.id = w.user_id
              where w.kind = 'email' and w.value = any($1))
           select h.address as "address!", (array_agg(h.id order by h.id desc))[1] as "id!" from held h
            group by h.address having not bool_or(h.is_active) order by h.address"#,
        addresses
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.address, row.id.into())).collect())
}

/// Whether they answer for service accounts.
pub async fn owns_services(tx: &mut Tx, id: UserId) -> Result<bool> {
    let found = sqlx::query_scalar!(
        r#"select exists (select from users where owner_id = $1 and deleted_at is null) as "found!""#,
        id.0
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(found)
}

/// The tickets that somebody works on and that are not over, in the order in which they are to be locked.
pub async fn tickets_assigned_to(tx: &mut Tx, id: UserId) -> Result<Vec<TicketId>> {
    let organization = tx.organization();
    let ids = sqlx::query_scalar!(
        "select id from tickets where organization_id = $1 and assignee_id = $2 and status not in ('closed', 'cancelled') order by id",
        organization.0,
        id.0
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(ids.into_iter().map(Into::into).collect())
}
