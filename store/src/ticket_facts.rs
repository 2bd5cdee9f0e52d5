//! A ticket with the names of its people: what messages say and rules ask.

use crate::tickets::Ticket;
use crate::{Error, Result, Tx};
use domain::{TicketId, UserId};
use std::collections::HashMap;
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct TicketFacts {
    pub ticket: Ticket,
    pub requester: Option<Person>,
    pub assignee: Option<Person>,
    pub team: Option<String>,
    pub tags: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    pub id: UserId,
    pub name: String,
    pub email: String,
}

pub async fn of(tx: &mut Tx, id: TicketId) -> Result<TicketFacts> {
    of_all(tx, &[id]).await?.remove(&id).ok_or(Error::NotFound)
}

/// Those of several tickets; tickets that are gone are left out.
pub async fn of_all(tx: &mut Tx, ids: &[TicketId]) -> Result<HashMap<TicketId, TicketFacts>> {
    let uuids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query!(
        r#"select t.id as "id!", r.name as "requester_name?", r.email as "requester_email?", a.name as "assignee_name?",
                  a.email as "assignee_email?", m.name as "team_name?"
             from tickets t
             left join users r on r.id = t.requester_id
             left join users a on a.id = t.assignee_id
             left join teams m on m.id = t.team_id
            where t.id = any((select $1::uuid[])::uuid[])"#,
        &uuids
    )
    .fetch_all(&mut **tx)
    .await?;
    let mut rows: HashMap<TicketId, _> = rows.into_iter().map(|row| (row.id.into(), row)).collect();
    let mut tags = crate::ticket_tags::of_all(tx, ids).await?;
    let person = |id: Option<UserId>, name: Option<String>, email: Option<String>| {
        Some(Person { id: id?, name: name?, email: email? })
    };
    let mut facts = HashMap::new();
    for ticket in crate::tickets::get_all(tx, ids).await? {
        let Some(row) = rows.remove(&ticket.id) else { continue };
        facts.insert(
            ticket.id,
            TicketFacts {
                requester: person(ticket.requester, row.requester_name, row.requester_email),
                assignee: person(ticket.assignee, row.assignee_name, row.assignee_email),
                team: row.team_name,
                tags: tags.remove(&ticket.id).unwrap_or_default(),
                ticket,
            },
        );
    }
    Ok(facts)
}

/// The name of a person, or nothing when there is no such person.
pub async fn name_of(tx: &mut Tx, user: UserId) -> Result<Option<String>> {
    Ok(sqlx::query_scalar!("select name from users where id = $1", user.0).fetch_optional(&mut **tx).await?)
}
