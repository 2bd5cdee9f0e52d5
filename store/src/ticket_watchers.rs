//! People who follow a ticket without being its requester or assignee.

use crate::{Result, Tx};
use chrono::{DateTime, Utc};
use domain::{TicketId, UserId};

#[derive(Clone, Debug, PartialEq)]
pub struct Watcher {
    pub user: UserId,
    pub name: String,
    pub email: String,
    pub since: DateTime<Utc>,
}

/// False when they watched it already.
pub async fn add(tx: &mut Tx, ticket: TicketId, user: UserId) -> Result<bool> {
    let (organization, now) = (tx.organization(), tx.now());
    let done = sqlx::query!(
        "insert into ticket_watchers (organization_id, ticket_id, user_id, created_at) values ($1, $2, $3, $4)
         on conflict on constraint ticket_watchers_pkey do nothing",
        organization.0,
        ticket.0,
        user.0,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// False when they did not watch it.
pub async fn remove(tx: &mut Tx, ticket: TicketId, user: UserId) -> Result<bool> {
    let done =
        sqlx::query!("delete from ticket_watchers where ticket_id = $1 and user_id = $2", ticket.0, user.0)
            .execute(&mut **tx)
            .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn list(tx: &mut Tx, ticket: TicketId) -> Result<Vec<Watcher>> {
    let rows = sqlx::query!(
        "select u.id, u.name, u.email, w.created_at from ticket_watchers w join users u on u.id = w.user_id
          where w.ticket_id = $1 order by w.created_at, u.id",
        ticket.0
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Watcher { user: row.id.into(), name: row.name, email: row.email, since: row.created_at })
        .collect())
}
