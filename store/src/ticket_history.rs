//! Who changed what on a ticket, when, and in which trace. Only ever added to.

use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::ticket::{Changes, Status};
use domain::{Actor, HistoryId, TicketId, UserId};

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub id: HistoryId,
    pub at: DateTime<Utc>,
    /// `user` or `system`.
    pub actor_kind: String,
    pub actor: Option<UserId>,
    /// The name as it was then, or the job kind.
    pub actor_label: String,
    /// `opened`, `updated`, `commented`, `assigned`, `escalated` …
    pub action: String,
    pub changes: Changes,
    pub trace_id: Option<String>,
    /// For staff only: tells of an internal comment, an escalation, a link.
    pub is_internal: bool,
}

/// What happened. Who and when come from the actor and the transaction.
#[derive(Debug)]
pub struct NewEntry<'a> {
    pub ticket: TicketId,
    pub action: &'a str,
    pub changes: &'a Changes,
    pub is_internal: bool,
    pub trace_id: Option<String>,
}

/// New entries, in one statement.
pub async fn insert(tx: &mut Tx, actor: &Actor, entries: &[NewEntry<'_>]) -> Result<()> {
    fn column<T>(entries: &[NewEntry<'_>], value: impl Fn(&NewEntry<'_>) -> T) -> Vec<T> {
        entries.iter().map(value).collect()
    }
    let (organization, now) = (tx.organization(), tx.now());
    let changes = entries
        .iter()
        .map(|entry| serde_json::to_value(entry.changes).map_err(|error| Error::Corrupt(error.to_string())))
        .collect::<Result<Vec<_>>>()?;
    sqlx::query!(
        "insert into ticket_history (id, organization_id, ticket_id, at, actor_kind, actor_id, actor_label, action, changes, trace_id, is_internal)
         select u.id, $1, u.ticket_id, $2, $3, $4, $5, u.action, u.changes, u.trace_id, u.is_internal
           from unnest($6::uuid[], $7::uuid[], $8::text[], $9::jsonb[], $10::text[], $11::bool[])
             as u(id, ticket_id, action, changes, trace_id, is_internal)",
        organization.0,
        now,
        actor.kind(),
        actor.user_id().map(|u| u.0),
        actor.label(),
        &column(entries, |_| HistoryId::new().0),
        &column(entries, |entry| entry.ticket.0),
        &column(entries, |entry| entry.action.to_owned()),
        &changes,
        &column(entries, |entry| entry.trace_id.clone()) as &[Option<String>],
        &column(entries, |entry| entry.is_internal),
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Oldest first, from the entry after `after`. What is for staff only when asked for.
pub async fn list(
    tx: &mut Tx,
    ticket: TicketId,
    with_internal: bool,
    after: Option<HistoryId>,
    limit: i64,
) -> Result<Vec<Entry>> {
    let rows = sqlx::query!(
        "select id, at, actor_kind, actor_id, actor_label, action, changes, trace_id, is_internal from ticket_history
          where ticket_id = $1 and ($4 or not is_internal)
            and ($2::uuid is null or (at, id) > (select a.at, a.id from ticket_history a where a.id = $2))
          order by at, id limit $3",
        ticket.0,
        after.map(|a| a.0),
        limit,
        with_internal
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Entry {
                id: row.id.into(),
                at: row.at,
                actor_kind: row.actor_kind,
                actor: row.actor_id.map(Into::into),
                actor_label: row.actor_label,
                action: row.action,
                changes: serde_json::from_value(row.changes)
                    .map_err(|error| Error::Corrupt(error.to_string()))?,
                trace_id: row.trace_id,
                is_internal: row.is_internal,
            })
        })
        .collect()
}

/// The statuses to which the ticket was moved, and when, oldest first.
pub async fn statuses(tx: &mut Tx, ticket: TicketId) -> Result<Vec<(DateTime<Utc>, Status)>> {
    let rows = sqlx::query!(
        r#"select h.at, c ->> 'to' as "status!" from ticket_history h, jsonb_array_elements(h.changes) c
            where h.ticket_id = $1 and c ->> 'field' = 'status' and c ->> 'to' is not null order by h.at, h.id"#,
        ticket.0
    )
    .fetch_all(&mut **tx)
    .await?;
    rows.into_iter().map(|row| Ok((row.at, word(&row.status)?))).collect()
}
