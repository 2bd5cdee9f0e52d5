//! Who changed what on a ticket, when, and in which trace. Only ever added to.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, field};
use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::ticket::{Changes, Status};
use domain::{Actor, HistoryId, TicketId, UserId};
use serde_json::Value;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

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

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    at: DateTime<Utc>,
    actor_kind: String,
    actor_id: Option<Uuid>,
    actor_label: String,
    action: String,
    changes: Value,
    trace_id: Option<String>,
    is_internal: bool,
}

impl TryFrom<Row> for Entry {
    type Error = Error;
    fn try_from(row: Row) -> Result<Entry> {
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
    }
}

/// What the history of a ticket can be filtered and sorted by. Not what the changes say: some of it is not for everybody.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "h.id"),
    field("actor", Kind::Id, "h.actor_id").or_null(),
    field("actor_kind", Kind::Words(&["user", "system"]), "h.actor_kind"),
    field("action", Kind::Text, "h.action"),
    field("trace_id", Kind::Text, "h.trace_id").or_null(),
    field("at", Kind::Time, "h.at").by("h.at", "timestamptz"),
];

pub const LIST: List = List { from: "ticket_history h", fields: FIELDS, usual: "at", id: Key::uuid("h.id") };

/// That of a ticket. What is for staff only when asked for.
pub async fn list(
    tx: &mut Tx,
    ticket: TicketId,
    with_internal: bool,
    wanted: &Wanted,
) -> Result<Vec<Placed<Entry>>> {
    let columns = "select h.id, h.at, h.actor_kind, h.actor_id, h.actor_label, h.action, h.changes, h.trace_id, h.is_internal";
    let more = |sql: &mut QueryBuilder<Postgres>| {
        sql.push(" and h.ticket_id = ").push_bind(ticket.0);
        sql.push(if with_internal { "" } else { " and not h.is_internal" });
    };
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
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
