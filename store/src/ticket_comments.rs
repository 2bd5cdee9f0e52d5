//! Comments on tickets, public and internal.

use crate::listing::{Field, Key, Kind, List, Placed, Wanted, field};
use crate::{Error, Result, Tx, words::word};
use chrono::{DateTime, Utc};
use domain::ticket::{Source, Visibility};
use domain::{CommentId, TicketId, UserId};
use sqlx::{Postgres, QueryBuilder};

#[derive(Clone, Debug, PartialEq)]
pub struct Comment {
    pub id: CommentId,
    pub ticket: TicketId,
    /// Nobody: written by Relaydesk itself.
    pub author: Option<UserId>,
    /// The author's name as it is now.
    pub author_name: Option<String>,
    pub visibility: Visibility,
    pub body: String,
    /// Sanitized; only from mail.
    pub body_html: Option<String>,
    pub source: Source,
    pub created_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: uuid::Uuid,
    ticket_id: uuid::Uuid,
    author_id: Option<uuid::Uuid>,
    author_name: Option<String>,
    visibility: String,
    body: String,
    body_html: Option<String>,
    source: String,
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for Comment {
    type Error = Error;
    fn try_from(row: Row) -> Result<Comment> {
        Ok(Comment {
            id: row.id.into(),
            ticket: row.ticket_id.into(),
            author: row.author_id.map(Into::into),
            author_name: row.author_name,
            visibility: word(&row.visibility)?,
            body: row.body,
            body_html: row.body_html,
            source: word(&row.source)?,
            created_at: row.created_at,
        })
    }
}

/// Stores it; `author_name` is not a column of comments and ignored.
pub async fn insert(tx: &mut Tx, comment: &Comment) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!(
        "insert into ticket_comments (id, organization_id, ticket_id, author_id, visibility, body, body_html, source, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        comment.id.0,
        organization.0,
        comment.ticket.0,
        comment.author.map(|a| a.0),
        comment.visibility.as_str(),
        comment.body,
        comment.body_html,
        comment.source.as_str(),
        comment.created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub async fn get(tx: &mut Tx, id: CommentId) -> Result<Comment> {
    sqlx::query_as!(
        Row,
        r#"select c.id, ticket_id, author_id, u.name as "author_name?", visibility, body, body_html, source, c.created_at
             from ticket_comments c left join users u on u.id = c.author_id where c.id = $1"#,
        id.0
    )
    .fetch_optional(&mut **tx)
    .await?
    .ok_or(Error::NotFound)?
    .try_into()
}

/// What the comments of a ticket can be filtered and sorted by.
pub const FIELDS: &[Field] = &[
    field("id", Kind::Id, "c.id"),
    field("author", Kind::Id, "c.author_id").or_null(),
    field("visibility", Kind::Words(Visibility::WORDS), "c.visibility"),
    field("source", Kind::Words(Source::WORDS), "c.source"),
    field("created_at", Kind::Time, "c.created_at").by("c.created_at", "timestamptz"),
];

pub const LIST: List =
    List { from: "ticket_comments c", fields: FIELDS, usual: "created_at", id: Key::uuid("c.id") };

/// Those of a ticket. Internal ones only when asked for.
pub async fn list(
    tx: &mut Tx,
    ticket: TicketId,
    with_internal: bool,
    wanted: &Wanted,
) -> Result<Vec<Placed<Comment>>> {
    let columns = "select c.id, c.ticket_id, c.author_id, (select u.name from users u where u.id = c.author_id) as author_name, \
                   c.visibility, c.body, c.body_html, c.source, c.created_at";
    let more = |sql: &mut QueryBuilder<Postgres>| {
        sql.push(" and c.ticket_id = ").push_bind(ticket.0);
        sql.push(if with_internal { "" } else { " and c.visibility = 'public'" });
    };
    LIST.rows::<Row, _>(tx, wanted, columns, more).await
}
