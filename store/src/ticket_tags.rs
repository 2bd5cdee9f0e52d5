//! Free words on tickets, in lower case.

use crate::{Result, Tx};
use domain::TicketId;
use std::collections::HashMap;

/// False when the ticket had it already.
pub async fn add(tx: &mut Tx, ticket: TicketId, tag: &str) -> Result<bool> {
    let organization = tx.organization();
    let done = sqlx::query!(
        "insert into ticket_tags (organization_id, ticket_id, tag) values ($1, $2, $3)
         on conflict on constraint ticket_tags_pkey do nothing",
        organization.0,
        ticket.0,
        tag
    )
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// False when the ticket did not have it.
pub async fn remove(tx: &mut Tx, ticket: TicketId, tag: &str) -> Result<bool> {
    let done = sqlx::query!("delete from ticket_tags where ticket_id = $1 and tag = $2", ticket.0, tag)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn of(tx: &mut Tx, ticket: TicketId) -> Result<Vec<String>> {
    let tags = sqlx::query_scalar!("select tag from ticket_tags where ticket_id = $1 order by tag", ticket.0)
        .fetch_all(&mut **tx)
        .await?;
    Ok(tags)
}

/// The tags of many tickets at once, for lists.
pub async fn of_all(tx: &mut Tx, tickets: &[TicketId]) -> Result<HashMap<TicketId, Vec<String>>> {
    if tickets.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<uuid::Uuid> = tickets.iter().map(|id| id.0).collect();
    let rows =
        sqlx::query!("select ticket_id, tag from ticket_tags where ticket_id = any((select $1::uuid[])::uuid[]) order by tag", &ids)
            .fetch_all(&mut **tx)
            .await?;
    let mut tags: HashMap<TicketId, Vec<String>> = HashMap::new();
    for row in rows {
        tags.entry(row.ticket_id.into()).or_default().push(row.tag);
    }
    Ok(tags)
}
