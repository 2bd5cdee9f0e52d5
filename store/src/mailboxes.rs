//! The addresses under which an organization takes mail. An address exists once in the whole installation.

use crate::listing::{self, Field, Key, Kind, List, Placed, Wanted, field};
use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{EmailAddress, MailboxId, OrganizationId, TeamId, TicketId};
use sqlx::{FromRow, Postgres, QueryBuilder};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq)]
pub struct Mailbox {
    pub id: MailboxId,
    pub address: EmailAddress,
    /// The display name in From.
    pub name: String,
    /// Takes the tickets of this mailbox.
    pub team: Option<TeamId>,
    /// The beginning of the hook's token, to tell tokens apart.
    pub hook_token_prefix: String,
    pub is_active: bool,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    address: String,
    name: String,
    team_id: Option<Uuid>,
    hook_token_prefix: String,
    is_active: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Mailbox {
    type Error = Error;
    fn try_from(row: Row) -> Result<Mailbox> {
        Ok(Mailbox {
            id: row.id.into(),
            address: EmailAddress::parse(&row.address).map_err(|error| Error::Corrupt(error.to_string()))?,
            name: row.name,
            team: row.team_id.map(Into::into),
            hook_token_prefix: row.hook_token_prefix,
            is_active: row.is_active,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// Where mail for a presented address or hook token goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub organization: OrganizationId,
    pub mailbox: MailboxId,
}

/// The active mailbox with this address. Needs a transaction that presents the address.
pub async fn by_address(tx: &mut Tx, address: &EmailAddress) -> Result<Option<Found>> {
    let row = sqlx::query!(
        "select organization_id, id from mailboxes where address = $1 and is_active",
        address.as_str()
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Found { organization: row.organization_id.into(), mailbox: row.id.into() }))
}

/// The active mailbox with this hook token. Needs a transaction that presents the hash.
pub async fn by_hook_token_hash(tx: &mut Tx, hash: &str) -> Result<Option<Found>> {
    let row = sqlx::query!(
        "select organization_id, id from mailboxes where hook_token_hash = $1 and is_active",
        hash
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Found { organization: row.organization_id.into(), mailbox: row.id.into() }))
}

/// Which of these mailboxes are active and have these hook tokens still.
pub async fn entitled(tx: &mut Tx, claims: &[(MailboxId, &str)]) -> Result<Vec<(MailboxId, String)>> {
    let ids: Vec<Uuid> = claims.iter().map(|(id, _)| id.0).collect();
    let hashes: Vec<String> = claims.iter().map(|(_, hash)| (*hash).to_owned()).collect();
    let entitled = sqlx::query!(
        "select m.id, m.hook_token_hash from mailboxes m join unnest($1::uuid[], $2::text[]) as u(id, hook_token_hash)
                on m.id = u.id and m.hook_token_hash = u.hook_token_hash
          where m.is_active",
        &ids,
        &hashes,
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(entitled.into_iter().map(|row| (row.id.into(), row.hook_token_hash)).collect())
}

pub async fn insert(tx: &mut Tx, mailbox: &Mailbox, hook_token_hash: &str) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!(
        "insert into mailboxes (id, organization_id, address, name, team_id, hook_token_hash, hook_token_prefix, is_active,
                                created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        mailbox.id.0,
        organization.0,
        mailbox.address.as_str(),
        mailbox.name,
        mailbox.team.map(|t| t.0),
        hook_token_hash,
        mailbox.hook_token_prefix,
        mailbox.is_active,
        mailbox.created_at,
        mailbox.updated_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: MailboxId) -> Result<Mailbox> {
    sqlx::query_as!(
        Row,
        "select id, address, name, team_id, hook_token_prefix, is_active, created_at, updated_at from mailboxes where id = $1",
        id.0,
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}

/// As [`get`], held until the end of the transaction.
pub async fn lock(tx: &mut Tx, id: MailboxId) -> Result<Mailbox> {
    sqlx::query_scalar!("select id from mailboxes where id = $1 for update", id.0)
        .fetch_optional(&mut **tx)
        .await?
        .ok_or(Error::NotFound)?;
    get(tx, id).await
}

/// What mailboxes can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "m.id"),
    field("address", Kind::LowerText, "lower(m.address)").by("m.address", "text"),
    field("name", Kind::LowerText, "lower(m.name)").by("lower(m.name)", "text"),
    field("team", Kind::Id, "m.team_id").or_null(),
    field("is_active", Kind::Flag, "m.is_active"),
    field("created_at", Kind::Time, "m.created_at").by("m.created_at", "timestamptz"),
    field("updated_at", Kind::Time, "m.updated_at").by("m.updated_at", "timestamptz"),
];

/// `q` is a part of the name or of the address.
pub const LIST: List =
    List { from: "mailboxes m", fields: FIELDS, usual: "created_at", id: Key::uuid("m.id") };

pub async fn list(tx: &mut Tx, wanted: &Wanted) -> Result<Vec<Placed<Mailbox>>> {
    let more = |sql: &mut QueryBuilder<Postgres>| {
        listing::contains(sql, wanted.q.as_deref(), "m.name || ' ' || m.address");
    };
    let columns = "select m.id, m.address, m.name, m.team_id, m.hook_token_prefix, m.is_active, m.created_at, m.updated_at";
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}

/// All addresses of the organization, the inactive ones too: how own mail is recognised.
pub async fn addresses(tx: &mut Tx) -> Result<Vec<EmailAddress>> {
    let organization = tx.organization();
    let rows =
        sqlx::query_scalar!("select address from mailboxes where organization_id = $1", organization.0)
            .fetch_all(&mut **tx)
            .await?;
    rows.iter()
        .map(|row| EmailAddress::parse(row).map_err(|error| Error::Corrupt(error.to_string())))
        .collect()
}

/// The mailbox that speaks for a ticket: the one through which its first mail came, else the oldest active one.
pub async fn for_ticket(tx: &mut Tx, ticket: TicketId) -> Result<Option<Mailbox>> {
    let row = sqlx::query_as!(
        Row,
        "select b.id, b.address, b.name, b.team_id, b.hook_token_prefix, b.is_active, b.created_at, b.updated_at
         from mailboxes b
         where b.organization_id = (select current_organization()) and b.is_active
         order by b.id = (select i.channel_id from mail_messages m join inbox i on i.id = m.inbox_id
                          where m.ticket_id = $1 and m.direction = 'in' order by m.created_at limit 1) desc nulls last,
                  b.created_at, b.id
         limit 1",
        ticket.0,
    )
    .fetch_optional(&mut **tx)
    .await?;
    row.map(TryInto::try_into).transpose()
}

pub async fn update(tx: &mut Tx, mailbox: &Mailbox) -> Result<()> {
    let now = tx.now();
    let done = sqlx::query!(
        "update mailboxes set address = $2, name = $3, team_id = $4, is_active = $5, updated_at = $6 where id = $1",
        mailbox.id.0,
        mailbox.address.as_str(),
        mailbox.name,
        mailbox.team.map(|t| t.0),
        mailbox.is_active,
        now,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
}

pub async fn set_hook_token(tx: &mut Tx, id: MailboxId, hash: &str, prefix: &str) -> Result<()> {
    let now = tx.now();
    let done = sqlx::query!(
        "update mailboxes set hook_token_hash = $2, hook_token_prefix = $3, updated_at = $4 where id = $1",
        id.0,
        hash,
        prefix,
        now,
    )
    .execute(&mut **tx)
    .await?;
    if done.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
}

pub async fn delete(tx: &mut Tx, id: MailboxId) -> Result<()> {
    let done = sqlx::query!("delete from mailboxes where id = $1", id.0).execute(&mut **tx).await?;
    if done.rows_affected() == 0 { Err(Error::NotFound) } else { Ok(()) }
}
