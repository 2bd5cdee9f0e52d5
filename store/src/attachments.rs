//! Attachments: what they are called and to what they belong. Their bytes lie in [`crate::blobs`].

use crate::{Error, Result, Tx};
use chrono::{DateTime, Utc};
use domain::{AttachmentId, CommentId, TicketId, UserId};

#[derive(Clone, Debug, PartialEq)]
pub struct Attachment {
    pub id: AttachmentId,
    pub ticket: TicketId,
    /// The comment it came with; nothing: with the ticket's description.
    pub comment: Option<CommentId>,
    pub file_name: String,
    pub media_type: String,
    pub size_bytes: i64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// The MIME part's Content-ID, by which HTML mail refers to it.
    pub content_id: Option<String>,
    pub created_by: Option<UserId>,
    pub created_at: DateTime<Utc>,
}

struct Row {
    id: uuid::Uuid,
    ticket_id: uuid::Uuid,
    comment_id: Option<uuid::Uuid>,
    file_name: String,
    media_type: String,
    size_bytes: i64,
    sha256: String,
    content_id: Option<String>,
    created_by: Option<uuid::Uuid>,
    created_at: DateTime<Utc>,
}

impl From<Row> for Attachment {
    fn from(row: Row) -> Attachment {
        Attachment {
            id: row.id.into(),
            ticket: row.ticket_id.into(),
            comment: row.comment_id.map(Into::into),
            file_name: row.file_name,
            media_type: row.media_type,
            size_bytes: row.size_bytes,
            sha256: row.sha256,
            content_id: row.content_id,
            created_by: row.created_by.map(Into::into),
            created_at: row.created_at,
        }
    }
}

pub async fn insert(tx: &mut Tx, attachment: &Attachment) -> Result<()> {
    let organization = tx.organization();
    sqlx::query!(
        "insert into attachments (id, organization_id, ticket_id, comment_id, file_name, media_type, size_bytes, sha256,
                                  content_id, created_by, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        attachment.id.0,
        organization.0,
        attachment.ticket.0,
        attachment.comment.map(|c| c.0),
        attachment.file_name,
        attachment.media_type,
        attachment.size_bytes,
        attachment.sha256,
        attachment.content_id,
        attachment.created_by.map(|u| u.0),
        attachment.created_at,
    )
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The attachments of a ticket, oldest first; those of internal comments only when asked for.
pub async fn list(tx: &mut Tx, ticket: TicketId, with_internal: bool) -> Result<Vec<Attachment>> {
    let rows = sqlx::query_as!(
        Row,
        "select a.id, a.ticket_id, comment_id, file_name, media_type, size_bytes, sha256, content_id, created_by, a.created_at
           from attachments a left join ticket_comments c on c.id = a.comment_id
          where a.ticket_id = $1 and ($2 or c.id is null or c.visibility = 'public')
          order by a.created_at, a.id",
        ticket.0,
        with_internal
    )
    .fetch_all(&mut **tx)
    .await?;
    Ok(rows.into_iter().map(Attachment::from).collect())
}

/// One attachment of a ticket, under the same condition.
pub async fn get(tx: &mut Tx, ticket: TicketId, id: AttachmentId, with_internal: bool) -> Result<Attachment> {
    let row = sqlx::query_as!(
        Row,
        "select a.id, a.ticket_id, comment_id, file_name, media_type, size_bytes, sha256, content_id, created_by, a.created_at
           from attachments a left join ticket_comments c on c.id = a.comment_id
          where a.id = $1 and a.ticket_id = $2 and ($3 or c.id is null or c.visibility = 'public')",
        id.0,
        ticket.0,
        with_internal
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.ok_or(Error::NotFound)?.into())
}
