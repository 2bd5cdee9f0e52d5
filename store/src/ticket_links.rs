//! Relations between tickets.

use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::permission::Reach;
use domain::ticket::{LinkKind, Status};
use domain::{LinkId, TicketId, UserId};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

/// A relation as seen from one of its two ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub id: LinkId,
    pub kind: LinkKind,
    /// True: from this ticket to the other, so that "this blocks the other".
    pub outgoing: bool,
    pub other: TicketId,
    pub other_number: String,
    pub other_title: String,
    pub other_status: Status,
    pub created_at: DateTime<Utc>,
}

/// `None` when the two are linked in this way already.
pub async fn insert(
    tx: &mut Tx,
    from: TicketId,
    kind: LinkKind,
    to: TicketId,
    created_by: Option<UserId>,
) -> Result<Option<LinkId>> {
    let (organization, now, id) = (tx.organization(), tx.now(), LinkId::new());
    let done = sqlx::query!(
        "insert into ticket_links (id, organization_id, from_id, to_id, kind, created_by, created_at)
         values ($1, $2, $3, $4, $5, $6, $7) on conflict on constraint ticket_links_pair_key do nothing",
        id.0,
        organization.0,
        from.0,
        to.0,
        kind.as_str(),
        created_by.map(|u| u.0),
        now
    )
    .execute(&mut **tx)
    .await?;
    Ok((done.rows_affected() == 1).then_some(id))
}

/// Removes a link of this ticket, from whichever end; says what it was.
pub async fn remove(tx: &mut Tx, ticket: TicketId, id: LinkId) -> Result<(TicketId, LinkKind, TicketId)> {
    let row = sqlx::query!(
        "delete from ticket_links where id = $1 and (from_id = $2 or to_id = $2) returning from_id, kind, to_id",
        id.0,
        ticket.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?;
    Ok((row.from_id.into(), word(&row.kind)?, row.to_id.into()))
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    kind: String,
    outgoing: bool,
    other: Uuid,
    number: String,
    title: String,
    status: String,
    created_at: DateTime<Utc>,
}

/// Those that lead to tickets within reach.
pub async fn list(tx: &mut Tx, reach: &Reach, ticket: TicketId) -> Result<Vec<Link>> {
    let mut sql = QueryBuilder::new("select l.id, l.kind, l.from_id = ");
    sql.push_bind(ticket.0).push(
        " as outgoing, t.id as other, t.number, t.title, t.status, l.created_at
            from ticket_links l join tickets t on t.id = case when l.from_id = ",
    );
    sql.push_bind(ticket.0).push(" then l.to_id else l.from_id end where (l.from_id = ").push_bind(ticket.0);
    sql.push(" or l.to_id = ").push_bind(ticket.0).push(")");
    crate::reach::condition(&mut sql, reach);
    sql.push(" order by l.created_at, l.id");
    let rows: Vec<Row> = sql.build_query_as().fetch_all(&mut **tx).await?;
    rows.into_iter()
        .map(|row| {
            Ok(Link {
                id: row.id.into(),
                kind: word(&row.kind)?,
                outgoing: row.outgoing,
                other: row.other.into(),
                other_number: row.number,
                other_title: row.title,
                other_status: word(&row.status)?,
                created_at: row.created_at,
            })
        })
        .collect()
}
