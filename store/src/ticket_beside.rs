//! What a list of tickets shows beside their rows, in one round trip.

use crate::ticket_people::PersonName;
use crate::tickets::Ticket;
use crate::{Result, Tx};
use domain::{CiId, TeamId, TicketId, UserId};
use sqlx::types::Json;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// What people and teams are called, and what hangs on each ticket.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    pub people: HashMap<UserId, PersonName>,
    pub teams: HashMap<TeamId, String>,
    /// In the order of the alphabet.
    pub tags: HashMap<TicketId, Vec<String>>,
    /// Configuration items, in the order in which they came.
    pub items: HashMap<TicketId, Vec<CiId>>,
}

/// Of these tickets; tags and configuration items only where they are wanted.
pub async fn of(tx: &mut Tx, tickets: &[Ticket], tags: bool, items: bool) -> Result<Beside> {
    if tickets.is_empty() {
        return Ok(Beside::default());
    }
    let people: HashSet<Uuid> = tickets
        .iter()
        .flat_map(|ticket| [ticket.requester, ticket.assignee])
        .flatten()
        .map(|id| id.0)
        .collect();
    let teams: HashSet<Uuid> = tickets.iter().filter_map(|ticket| ticket.team).map(|id| id.0).collect();
    let ids: Vec<Uuid> = tickets.iter().map(|ticket| ticket.id.0).collect();
    let ids_if = |wanted: bool| if wanted { ids.as_slice() } else { &[] };
    let row = sqlx::query!(
        r#"select (select json_agg(json_build_array(id, name, email)) from users where id = any((select $1::uuid[])::uuid[])) as "people: Json<Vec<(Uuid, String, String)>>",
                  (select json_agg(json_build_array(id, name)) from teams where id = any((select $2::uuid[])::uuid[])) as "teams: Json<Vec<(Uuid, String)>>",
                  (select json_agg(json_build_array(ticket_id, tag) order by tag) from ticket_tags where ticket_id = any((select $3::uuid[])::uuid[]))
                      as "tags: Json<Vec<(Uuid, String)>>",
                  (select json_agg(json_build_array(ticket_id, ci_id) order by created_at, ci_id) from ticket_configuration_items where ticket_id = any((select $4::uuid[])::uuid[]))
                      as "items: Json<Vec<(Uuid, Uuid)>>""#,
        &Vec::from_iter(people),
        &Vec::from_iter(teams),
        ids_if(tags),
        ids_if(items),
    )
    .fetch_one(&mut **tx)
    .await?;
    let mut beside = Beside::default();
    for (id, name, email) in all(row.people) {
        beside.people.insert(id.into(), PersonName { name, email });
    }
    beside.teams.extend(all(row.teams).into_iter().map(|(id, name)| (id.into(), name)));
    for (ticket, tag) in all(row.tags) {
        beside.tags.entry(ticket.into()).or_default().push(tag);
    }
    for (ticket, item) in all(row.items) {
        beside.items.entry(ticket.into()).or_default().push(item.into());
    }
    Ok(beside)
}

fn all<T>(column: Option<Json<Vec<T>>>) -> Vec<T> {
    column.map(|column| column.0).unwrap_or_default()
}
