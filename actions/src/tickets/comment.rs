//! Comments, and what an answer means for the ticket.

use super::change::{self, Note};
use super::see;
use crate::{Error, Result};
use domain::permission::{self, Permission};
use domain::ticket::{Source, Status, Visibility, text};
use domain::{Actor, CommentId, TicketId, UserId, Who};
use serde_json::{Value, json};
use store::Tx;
use store::ticket_comments::Comment;
use store::tickets::Ticket;

#[derive(Clone, Debug)]
pub struct NewComment {
    pub body: String,
    /// Sanitized HTML of a mail.
    pub body_html: Option<String>,
    pub visibility: Visibility,
    pub source: Source,
    /// Who wrote it, when that is not the actor: the sender of a mail that a job brings in.
    pub author: Option<UserId>,
}

impl NewComment {
    pub fn public(body: impl Into<String>, source: Source) -> Self {
        NewComment {
            body: body.into(),
            body_html: None,
            visibility: Visibility::Public,
            source,
            author: None,
        }
    }

    pub fn internal(body: impl Into<String>, source: Source) -> Self {
        NewComment { visibility: Visibility::Internal, ..NewComment::public(body, source) }
    }
}

/// Adds the comment. The first public one from staff, other than the requester, is the first response. A public one
/// from the requester puts a pending ticket back to work and reopens a resolved one.
pub async fn comment(tx: &mut Tx, actor: &Actor, id: TicketId, new: NewComment) -> Result<CommentId> {
    let needed = match new.visibility {
        Visibility::Public => Permission::TicketsCommentPublic,
        Visibility::Internal => Permission::TicketsCommentInternal,
    };
    permission::check(actor, needed)?;
    let body = body(actor, &new)?;
    let before = see::lock(tx, actor, needed, id).await?;
    let author = new.author.or(actor.user_id());
    let comment = Comment {
        id: CommentId::new(),
        ticket: id,
        author,
        author_name: None,
        visibility: new.visibility,
        body,
        body_html: new.body_html,
        source: new.source,
        created_at: tx.now(),
    };
    store::ticket_comments::insert(tx, &comment).await?;

    let mut after = before.clone();
    let is_answer = comment.visibility == Visibility::Public;
    let from_requester = author.is_some() && author == before.requester;
    let from_staff = is_staff(tx, actor, author).await?;
    if is_answer && from_staff && !from_requester && before.first_responded_at.is_none() {
        after.first_responded_at = Some(tx.now());
    }
    let note = note(&comment, from_staff, from_requester);
    let told = if after == before {
        store::tickets::touch(tx, id, false).await?;
        change::tell(tx, actor, &before, note).await?;
        before
    } else {
        change::apply(tx, actor, before, after, note).await?
    };
    if is_answer && from_requester {
        // A change of its own, so that rules for reopened tickets hear of it.
        let mut after = told.clone();
        back_to_work(&mut after, tx.now())?;
        change::apply(tx, actor, told, after, Note::default()).await?;
    }
    Ok(comment.id)
}

fn body(actor: &Actor, new: &NewComment) -> Result<String> {
    let body = text::body(&new.body);
    let is_person = matches!(actor.who, Who::User { .. });
    if is_person && !text::is_visible(&body) {
        return Err(Error::invalid("/body", "must not be empty"));
    }
    if is_person && body.chars().count() > text::MAX_TEXT {
        return Err(Error::invalid(
            "/body",
            format!("must have at most {} characters: attach the rest as a file", text::MAX_TEXT),
        ));
    }
    Ok(text::truncated(&body, text::MAX_TEXT))
}

async fn is_staff(tx: &mut Tx, actor: &Actor, author: Option<UserId>) -> Result<bool> {
    Ok(match (&actor.who, author) {
        (Who::User { id, rights, .. }, Some(author)) if author == *id => rights.is_staff(),
        (_, Some(author)) => {
            let standing = store::ticket_people::standing(tx, author).await?;
            standing.ok_or_else(|| Error::invalid("/author", "there is no such user"))?.is_staff
        }
        (_, None) => false,
    })
}

fn back_to_work(ticket: &mut Ticket, now: chrono::DateTime<chrono::Utc>) -> Result<()> {
    match ticket.status {
        Status::Pending => {
            let to = if ticket.assignee.is_some() { Status::InProgress } else { Status::New };
            change::move_to(ticket, to, now)
        }
        Status::Resolved => change::move_to(ticket, change::waiting_status(ticket), now),
        _ => Ok(()),
    }
}

fn note(comment: &Comment, from_staff: bool, from_requester: bool) -> Note {
    let shown = json!({"id": comment.id, "visibility": comment.visibility});
    let mut note = Note::one("commented", "comment", &Value::Null, &shown);
    note.is_internal = comment.visibility == Visibility::Internal;
    note.payload.insert(
        "comment".into(),
        json!({
            "id": comment.id,
            "visibility": comment.visibility,
            "author": comment.author,
            "body": text::truncated(&comment.body, 4000),
            "source": comment.source,
            "from_staff": from_staff,
            "from_requester": from_requester,
        }),
    );
    note
}
