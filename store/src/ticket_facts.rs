//! A ticket with the names of its people: what messages say and rules ask.

use crate::tickets::Ticket;
use crate::{Error, Result, Tx};
use domain::{TicketId, UserId};

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
    let ticket = crate::tickets::get(tx, id).await?;
    let tags = crate::ticket_tags::of(tx, id).await?;
    let row = sqlx::query!(
        r#"select r.name as "requester_name?", r.email as "requester_email?", a.name as "assignee_name?",
                  a.email as "assignee_email?", m.name as "team_name?"
             from tickets t
             left join users r on r.id = t.requester_id
             left join users a on a.id = t.assignee_id
             left join teams m on m.id = t.team_id
            where t.id = $1"#,
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?;
    let person = |id: Option<UserId>, name: Option<String>, email: Option<String>| {
        Some(Person { id: id?, name: name?, email: email? })
    };
    Ok(TicketFacts {
        requester: person(ticket.requester, row.requester_name, row.requester_email),
        assignee: person(ticket.assignee, row.assignee_name, row.assignee_email),
        team: row.team_name,
        tags,
        ticket,
    })
}

/// The name of a person, or nothing when there is no such person.
pub async fn name_of(tx: &mut Tx, user: UserId) -> Result<Option<String>> {
    Ok(sqlx::query_scalar!("select name from users where id = $1", user.0).fetch_optional(&mut **tx).await?)
}
