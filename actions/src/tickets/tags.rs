//! Tags.

use super::change::{self, Note};
use super::see;
use crate::{Error, Result};
use domain::permission::{self, Permission};
use domain::ticket::text;
use domain::{Actor, TicketId};
use serde_json::Value;
use store::Tx;

pub(super) const TOO_MANY: &str = "a ticket has at most 50 tags";
const _: () = assert!(text::MAX_TAGS == 50, "the text above says how many");
pub(super) const RULE: &str = "a tag is one line of 1 to 64 characters without commas";

/// False when the ticket had it already.
pub async fn add_tag(tx: &mut Tx, actor: &Actor, id: TicketId, tag: &str) -> Result<bool> {
    permission::check(actor, Permission::TicketsUpdate)?;
    let tag = text::tag(tag).ok_or_else(|| Error::invalid("/tag", RULE))?;
    let ticket = see::lock(tx, actor, Permission::TicketsUpdate, id).await?;
    let had = store::ticket_tags::of(tx, id).await?;
    if had.len() >= text::MAX_TAGS && !had.contains(&tag) {
        return Err(Error::invalid("/tag", TOO_MANY));
    }
    let is_new = store::ticket_tags::add(tx, id, &tag).await?;
    if is_new {
        store::tickets::touch(tx, id, true).await?;
        change::tell(tx, actor, &ticket, Note::one("updated", "tags", &Value::Null, &tag)).await?;
    }
    Ok(is_new)
}

pub async fn remove_tag(tx: &mut Tx, actor: &Actor, id: TicketId, tag: &str) -> Result<()> {
    permission::check(actor, Permission::TicketsUpdate)?;
    let tag = text::tag(tag).ok_or(Error::NotFound)?;
    let ticket = see::lock(tx, actor, Permission::TicketsUpdate, id).await?;
    if !store::ticket_tags::remove(tx, id, &tag).await? {
        return Err(Error::NotFound);
    }
    store::tickets::touch(tx, id, true).await?;
    change::tell(tx, actor, &ticket, Note::one("updated", "tags", &tag, &Value::Null)).await
}

/// Exactly these tags, from now on.
pub async fn set_tags(tx: &mut Tx, actor: &Actor, id: TicketId, tags: &[String]) -> Result<()> {
    permission::check(actor, Permission::TicketsUpdate)?;
    if tags.len() > text::MAX_TAGS {
        return Err(Error::invalid("/tags", TOO_MANY));
    }
    let mut wanted = Vec::new();
    for (index, raw) in tags.iter().enumerate() {
        wanted.push(text::tag(raw).ok_or_else(|| Error::invalid(format!("/tags/{index}"), RULE))?);
    }
    wanted.sort();
    wanted.dedup();
    let ticket = see::lock(tx, actor, Permission::TicketsUpdate, id).await?;
    let had = store::ticket_tags::of(tx, id).await?;
    if had == wanted {
        return Ok(());
    }
    for tag in had.iter().filter(|tag| !wanted.contains(tag)) {
        store::ticket_tags::remove(tx, id, tag).await?;
    }
    for tag in wanted.iter().filter(|tag| !had.contains(tag)) {
        store::ticket_tags::add(tx, id, tag).await?;
    }
    store::tickets::touch(tx, id, true).await?;
    change::tell(tx, actor, &ticket, Note::one("updated", "tags", &had, &wanted)).await
}
