//! Raw input, kept before it is understood. Payloads are found again here by people, and replayed after a fix.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, field};
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::permission::Reach;
use domain::{InboxId, OrganizationId, TicketId};
use serde_json::Value;
use sqlx::{FromRow, Postgres, QueryBuilder};
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Kept, its job has not ended.
    Pending,
    /// It became a ticket, a comment, an alert.
    Processed,
    /// Understood, and there was nothing to do; `reason` says why.
    Ignored,
    /// Not understood; `reason` says why. Can be replayed.
    Failed,
}

impl Status {
    pub const ALL: [Status; 4] = [Status::Pending, Status::Processed, Status::Ignored, Status::Failed];

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Processed => "processed",
            Status::Ignored => "ignored",
            Status::Failed => "failed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = String;
    fn from_str(s: &str) -> std::result::Result<Self, String> {
        Status::ALL
            .into_iter()
            .find(|status| status.as_str() == s)
            .ok_or_else(|| format!("unknown status {s:?}: expected pending, processed, ignored or failed"))
    }
}

#[derive(Debug)]
pub struct NewInbox<'a> {
    pub id: InboxId,
    /// `mail`, `alertmanager`, `generic` …
    pub source: &'a str,
    /// The mailbox or alert source through which it came.
    pub channel_id: Uuid,
    /// What makes it the same input when it arrives again; at most 200 characters, so usually a hash.
    pub unique_key: &'a str,
    pub content_type: &'a str,
    pub raw: &'a [u8],
    /// What was said around it: SMTP envelope, HTTP headers. Never a credential.
    pub headers: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    New(InboxId),
    /// It is there already, under this id.
    Duplicate(InboxId),
}

impl Kept {
    pub fn id(self) -> InboxId {
        match self {
            Kept::New(id) | Kept::Duplicate(id) => id,
        }
    }
}

/// An inbox row without its bytes.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: InboxId,
    pub source: String,
    pub channel_id: Uuid,
    pub unique_key: String,
    pub content_type: String,
    pub headers: Value,
    pub size_bytes: i64,
    pub received_at: DateTime<Utc>,
    pub status: Status,
    pub reason: Option<String>,
    pub ticket: Option<TicketId>,
    pub processed_at: Option<DateTime<Utc>>,
    pub replays: i32,
}

/// An inbox row with its bytes.
#[derive(Clone, Debug)]
pub struct Inbox {
    pub entry: Entry,
    pub raw: Vec<u8>,
}

/// Keeps raw input once: the second time it answers the first row.
pub async fn keep(tx: &mut Tx, new: &NewInbox<'_>) -> Result<Kept> {
    let (organization, now) = (tx.organization(), tx.now());
    let inserted = sqlx::query_scalar!(
        "insert into inbox (id, organization_id, source, channel_id, unique_key, content_type, headers, raw, received_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict on constraint inbox_unique_key do nothing
         returning id",
        new.id.0,
        organization.0,
        new.source,
        new.channel_id,
        new.unique_key,
        new.content_type,
        new.headers,
        new.raw,
        now,
    )
    .fetch_optional(&mut **tx)
    .await?;
    if let Some(id) = inserted {
        return Ok(Kept::New(id.into()));
    }
    let id = sqlx::query_scalar!(
        "select id from inbox where organization_id = $1 and source = $2 and channel_id = $3 and unique_key = $4",
        organization.0,
        new.source,
        new.channel_id,
        new.unique_key,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(Kept::Duplicate(id.into()))
}

/// Input that was accepted before the database could be asked.
#[derive(Debug)]
pub struct Accepted<'a> {
    pub new: NewInbox<'a>,
    pub received_at: DateTime<Utc>,
    /// Why it is of no use: kept as failed.
    pub refused: Option<&'a str>,
}

/// Keeps several in one statement, each once: of an id or a key that is there already, nothing. Answers the ids of the new rows.
pub async fn keep_all(tx: &mut Tx, all: &[Accepted<'_>]) -> Result<Vec<InboxId>> {
    fn column<'a, T>(all: &'a [Accepted<'_>], value: impl Fn(&'a Accepted<'_>) -> T) -> Vec<T> {
        all.iter().map(value).collect()
    }
    let (organization, now) = (tx.organization(), tx.now());
    let kept = sqlx::query_scalar!(
        "insert into inbox (id, organization_id, source, channel_id, unique_key, content_type, headers, raw, received_at, status,
                            reason, processed_at)
         select u.id, $1, u.source, u.channel_id, u.unique_key, u.content_type, u.headers, u.raw, least(u.received_at, $2),
                case when u.reason is null then 'pending' else 'failed' end, u.reason, case when u.reason is not null then $2 end
           from unnest($3::uuid[], $4::text[], $5::uuid[], $6::text[], $7::text[], $8::jsonb[], $9::bytea[], $10::timestamptz[],
                       $11::text[])
             as u(id, source, channel_id, unique_key, content_type, headers, raw, received_at, reason)
         on conflict do nothing returning id",
        organization.0,
        now,
        &column(all, |one| one.new.id.0),
        &column(all, |one| one.new.source.to_owned()),
        &column(all, |one| one.new.channel_id),
        &column(all, |one| one.new.unique_key.to_owned()),
        &column(all, |one| one.new.content_type.to_owned()),
        &column(all, |one| one.new.headers.clone()),
        &column(all, |one| one.new.raw) as &[&[u8]],
        &column(all, |one| one.received_at),
        &column(all, |one| one.refused) as &[Option<&str>],
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(kept.into_iter().map(Into::into).collect())
}

/// A row of the table as the macros read it.
#[derive(FromRow)]
struct Row {
    id: Uuid,
    source: String,
    channel_id: Uuid,
    unique_key: String,
    content_type: String,
    headers: Value,
    size_bytes: i32,
    received_at: DateTime<Utc>,
    status: String,
    reason: Option<String>,
    ticket_id: Option<Uuid>,
    processed_at: Option<DateTime<Utc>>,
    replays: i32,
}

impl TryFrom<Row> for Entry {
    type Error = Error;
    fn try_from(row: Row) -> Result<Entry> {
        Ok(Entry {
            id: row.id.into(),
            source: row.source,
            channel_id: row.channel_id,
            unique_key: row.unique_key,
            content_type: row.content_type,
            headers: row.headers,
            size_bytes: row.size_bytes.into(),
            received_at: row.received_at,
            status: row.status.parse().map_err(Error::Corrupt)?,
            reason: row.reason,
            ticket: row.ticket_id.map(Into::into),
            processed_at: row.processed_at,
            replays: row.replays,
        })
    }
}

/// The row without its bytes.
pub async fn entry(tx: &mut Tx, id: InboxId) -> Result<Entry> {
    sqlx::query_as!(
        Row,
        r#"select id, source, channel_id, unique_key, content_type, headers, octet_length(raw) as "size_bytes!",
                  received_at, status, reason, ticket_id, processed_at, replays
           from inbox where id = $1"#,
        id.0,
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}

/// A row of the table with its bytes.
struct WholeRow {
    id: Uuid,
    source: String,
    channel_id: Uuid,
    unique_key: String,
    content_type: String,
    headers: Value,
    raw: Vec<u8>,
    received_at: DateTime<Utc>,
    status: String,
    reason: Option<String>,
    ticket_id: Option<Uuid>,
    processed_at: Option<DateTime<Utc>>,
    replays: i32,
}

impl TryFrom<WholeRow> for Inbox {
    type Error = Error;
    fn try_from(row: WholeRow) -> Result<Inbox> {
        let entry = Entry {
            id: row.id.into(),
            source: row.source,
            channel_id: row.channel_id,
            unique_key: row.unique_key,
            content_type: row.content_type,
            headers: row.headers,
            size_bytes: row.raw.len() as i64,
            received_at: row.received_at,
            status: row.status.parse().map_err(Error::Corrupt)?,
            reason: row.reason,
            ticket: row.ticket_id.map(Into::into),
            processed_at: row.processed_at,
            replays: row.replays,
        };
        Ok(Inbox { entry, raw: row.raw })
    }
}

macro_rules! select_whole {
    ($tail:literal, $id:expr) => {
        sqlx::query_as!(
            WholeRow,
            "select id, source, channel_id, unique_key, content_type, headers, raw, received_at, status, reason, ticket_id,
                    processed_at, replays
               from inbox " + $tail,
            $id
        )
    };
}

/// The row with its bytes.
pub async fn get(tx: &mut Tx, id: InboxId) -> Result<Inbox> {
    select_whole!("where id = $1", id.0).fetch_optional(&mut **tx).await?.ok_or(Error::NotFound)?.try_into()
}

/// How many bytes were kept; none for a row that is not there.
pub async fn size(tx: &mut Tx, id: InboxId) -> Result<usize> {
    let size = sqlx::query_scalar!(r#"select octet_length(raw) as "size!" from inbox where id = $1"#, id.0)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(size.and_then(|size| usize::try_from(size).ok()).unwrap_or_default())
}

/// Holds the row until the end of the transaction, so that two runs for one row work one after the other; says where
/// it stands now.
pub async fn lock(tx: &mut Tx, id: InboxId) -> Result<Status> {
    let status = sqlx::query_scalar!("select status from inbox where id = $1 for update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?;
    status.parse().map_err(Error::Corrupt)
}

/// Which of these rows of a channel are pending, oldest first, as many as have `most` bytes together.
pub async fn waiting(tx: &mut Tx, channel: Uuid, ids: &[InboxId], most: i64) -> Result<Vec<InboxId>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let waiting = sqlx::query_scalar!(
        r#"select id from (select id, sum(octet_length(raw)) over (order by id) as so_far from inbox
             where id = any($1) and channel_id = $2 and status = 'pending') as w where so_far <= $3 order by id"#,
        &ids,
        channel,
        most,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(waiting.into_iter().map(Into::into).collect())
}

/// The row with its bytes, held as with [`lock`].
pub async fn get_for_update(tx: &mut Tx, id: InboxId) -> Result<Inbox> {
    get_all_for_update(tx, &[id]).await?.pop().ok_or(Error::NotFound)
}

/// Several, in the order of their ids; those that are gone are left out.
pub async fn get_all_for_update(tx: &mut Tx, ids: &[InboxId]) -> Result<Vec<Inbox>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    select_whole!("where id = any($1) order by id for update", &ids)
        .fetch_all(&mut **tx)
        .await?
        .into_iter()
        .map(TryInto::try_into)
        .collect()
}

/// What came in can be filtered and sorted by this.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "i.id"),
    field("status", Kind::Words(&["pending", "processed", "ignored", "failed"]), "i.status"),
    field("source", Kind::Text, "i.source").says("For example mail or alertmanager."),
    field("channel", Kind::Id, "i.channel_id").says("The mailbox or alert source."),
    field("ticket", Kind::Ticket, "i.ticket_id").or_null(),
    field("replays", Kind::Number, "i.replays"),
    field("received_at", Kind::Time, "i.received_at").by("i.received_at", "timestamptz"),
    field("processed_at", Kind::Time, "i.processed_at").or_null(),
];

pub const LIST: List = List { from: "inbox i", fields: FIELDS, usual: "-received_at", id: Key::uuid("i.id") };

/// What became of tickets within reach, or of none.
pub async fn list(tx: &mut Tx, reach: &Reach, wanted: &Wanted) -> Result<Vec<Placed<Entry>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        crate::reach::condition_on(sql, "i.ticket_id", reach);
    };
    let columns = "select i.id, i.source, i.channel_id, i.unique_key, i.content_type, i.headers, octet_length(i.raw) as size_bytes, \
                   i.received_at, i.status, i.reason, i.ticket_id, i.processed_at, i.replays";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}

/// What became of an input.
#[derive(Clone, Debug)]
pub struct Finish {
    pub id: InboxId,
    pub status: Status,
    pub reason: Option<String>,
    pub ticket: Option<TicketId>,
}

/// Says what became of the input.
pub async fn finish(
    tx: &mut Tx,
    id: InboxId,
    status: Status,
    reason: Option<&str>,
    ticket: Option<TicketId>,
) -> Result<()> {
    finish_all(tx, &[Finish { id, status, reason: reason.map(str::to_owned), ticket }]).await
}

/// Says what became of several, in one statement. [`Error::NotFound`] when one of them is gone.
pub async fn finish_all(tx: &mut Tx, finishes: &[Finish]) -> Result<()> {
    let now = tx.now();
    fn column<T>(finishes: &[Finish], value: impl Fn(&Finish) -> T) -> Vec<T> {
        finishes.iter().map(value).collect()
    }
    let done = sqlx::query!(
        "update inbox i set status = u.status, reason = u.reason, ticket_id = u.ticket_id, processed_at = $1
           from unnest($2::uuid[], $3::text[], $4::text[], $5::uuid[]) as u(id, status, reason, ticket_id)
          where i.id = u.id",
        now,
        &column(finishes, |f| f.id.0),
        &column(finishes, |f| f.status.as_str().to_owned()),
        &column(finishes, |f| f.reason.clone()) as &[Option<String>],
        &column(finishes, |f| f.ticket.map(|t| t.0)) as &[Option<Uuid>],
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == finishes.len() as u64 { Ok(()) } else { Err(Error::NotFound) }
}

/// Pending since before `before`, and no job that will work on them: it was cancelled, or given up. Oldest first, at most
/// `limit`, over all organizations: needs a system transaction. With the number of times they were found so before.
pub async fn stranded(
    tx: &mut Tx,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<(OrganizationId, InboxId, i32)>> {
    // With statistics from quieter times a backlog would be compared row by row with the jobs that are to work it off.
    sqlx::query("set local enable_nestloop = off").execute(&mut **tx).await?;
    let rows = sqlx::query!(
        "select i.organization_id, i.id, i.rescues from inbox i
          where i.status = 'pending' and i.received_at < $1 and (i.rescued_at is null or i.rescued_at < $1)
            and not exists (select from queue.jobs j
                             where j.kind in ('ingest_mail', 'ingest_alert') and j.state <> 'dead'
                               and j.args->>'inbox' = i.id::text)
          order by i.received_at limit $2",
        before,
        limit,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(|row| (row.organization_id.into(), row.id.into(), row.rescues)).collect())
}

/// Counts that its job is enqueued once more because the last one was lost.
pub async fn count_rescue(tx: &mut Tx, id: InboxId) -> Result<()> {
    let now = tx.now();
    sqlx::query!("update inbox set rescues = rescues + 1, rescued_at = $2 where id = $1", id.0, now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Says of a row that stays pending what it waits for.
pub async fn note(tx: &mut Tx, id: InboxId, reason: &str) -> Result<()> {
    sqlx::query!("update inbox set reason = $2 where id = $1 and status = 'pending'", id.0, reason)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Makes the row pending again and counts it. The caller enqueues its job.
pub async fn reset(tx: &mut Tx, id: InboxId) -> Result<()> {
    let done = sqlx::query!(
        "update inbox set status = 'pending', reason = null, ticket_id = null, processed_at = null, replays = replays + 1, rescues = 0
         where id = $1",
        id.0,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
}
