//! Which configuration items a ticket is about.

use crate::{Result, Tx};
use domain::{CiId, TicketId};
use std::collections::HashMap;
use uuid::Uuid;

/// Those that the ticket has already stay. An item that does not exist violates
/// `ticket_configuration_items_ci_fkey`.
pub async fn add(tx: &mut Tx, ticket: TicketId, items: &[CiId]) -> Result<()> {
    let (organization, now) = (tx.organization(), tx.now());
    let ids: Vec<Uuid> = items.iter().map(|id| id.0).collect();
    sqlx::query!(
        "insert into ticket_configuration_items (organization_id, ticket_id, ci_id, created_at)
         select $1, $2, ci, $4 from unnest($3::uuid[]) ci
         on conflict on constraint ticket_configuration_items_pkey do nothing",
        organization.0,
        ticket.0,
        &ids,
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn remove(tx: &mut Tx, ticket: TicketId, items: &[CiId]) -> Result<u64> {
    let ids: Vec<Uuid> = items.iter().map(|id| id.0).collect();
    let done = sqlx::query!(
        "delete from ticket_configuration_items where ticket_id = $1 and ci_id = any($2)",
        ticket.0,
        &ids
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected())
}

/// The items of many tickets at once.
pub async fn of_all(tx: &mut Tx, tickets: &[TicketId]) -> Result<HashMap<TicketId, Vec<CiId>>> {
    if tickets.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Uuid> = tickets.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        "select ticket_id, ci_id from ticket_configuration_items where ticket_id = any($1) order by created_at, ci_id",
        &ids
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut items: HashMap<TicketId, Vec<CiId>> = HashMap::new();
    for row in rows {
        items.entry(row.ticket_id.into()).or_default().push(row.ci_id.into());
    }
    Ok(items)
}
