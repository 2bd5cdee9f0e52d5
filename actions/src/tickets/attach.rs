//! Files on tickets and comments.

use super::change::{self, Note};
use super::see;
use crate::{Error, Result};
use domain::permission::{self, Permission};
use domain::ticket::{Visibility, text};
use domain::{Actor, AttachmentId, CommentId, TicketId};
use serde_json::{Value, json};
use store::Tx;
use store::attachments::Attachment;
use store::blobs::Stored;

/// A file whose bytes are on disk already: they are put there before the transaction begins.
#[derive(Clone, Debug)]
pub struct StoredAttachment {
    /// As it was sent; only its last part is kept, and never used as a path.
    pub file_name: String,
    pub media_type: String,
    pub content_id: Option<String>,
    pub stored: Stored,
}

pub async fn attach_stored(
    tx: &mut Tx,
    actor: &Actor,
    ticket: TicketId,
    comment: Option<CommentId>,
    new: StoredAttachment,
) -> Result<Attachment> {
    permission::check(actor, Permission::TicketsCommentPublic)?;
    let row = see::lock(tx, actor, Permission::TicketsCommentPublic, ticket).await?;
    let mut is_internal = false;
    if let Some(comment) = comment {
        let none = || Error::invalid("/comment", "the ticket has no such comment");
        let comment = store::ticket_comments::get(tx, comment).await.map_err(|error| match error {
            store::Error::NotFound => none(),
            other => other.into(),
        })?;
        is_internal = comment.visibility == Visibility::Internal;
        if comment.ticket != ticket || (is_internal && !see::sees_internal(tx, actor, &row).await?) {
            return Err(none());
        }
    }
    let attachment = Attachment {
        id: AttachmentId::new(),
        ticket,
        comment,
        file_name: text::file_name(&new.file_name),
        media_type: text::media_type(&new.media_type),
        size_bytes: new.stored.size_bytes,
        sha256: new.stored.sha256,
        content_id: new.content_id,
        created_by: actor.user_id(),
        created_at: tx.now(),
    };
    store::attachments::insert(tx, &attachment).await?;
    store::tickets::touch(tx, ticket, false).await?;
    let shown =
        json!({"id": attachment.id, "file_name": attachment.file_name, "size_bytes": attachment.size_bytes});
    let mut note = Note::one("attached", "attachments", &Value::Null, &shown);
    note.is_internal = is_internal;
    // What comes with a comment or with the ticket itself is told with it.
    if comment.is_some() || row.created_at == tx.now() {
        change::remember(tx, actor, &row, &note).await?;
    } else {
        change::tell(tx, actor, &row, Note { action: Some("updated"), ..note }).await?;
    }
    Ok(attachment)
}
