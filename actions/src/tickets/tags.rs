//! Tags.

use super::{change, see};
use crate::{Error, Result};
use domain::permission::{self, Permission};
use domain::ticket::{Changes, text};
use domain::{Actor, TicketId};
use serde_json::{Map, Value};
use store::Tx;

pub(super) const RULE: &str = "a tag is one line of 1 to 64 characters without commas";

/// False when the ticket had it already.
pub async fn add_tag(tx: &mut Tx, actor: &Actor, id: TicketId, tag: &str) -> Result<bool> {
    permission::check(actor, Permission::TicketsUpdate)?;
    let tag = text::tag(tag).ok_or_else(|| Error::invalid("/tag", RULE))?;
    let ticket = see::lock(tx, actor, id).await?;
    let is_new = store::ticket_tags::add(tx, id, &tag).await?;
    if is_new {
        store::tickets::touch(tx, id, true).await?;
        let mut changes = Changes::default();
        changes.add("tags", &Value::Null, &tag);
        change::tell(tx, actor, &ticket, "updated", &changes, Map::new()).await?;
    }
    Ok(is_new)
}

pub async fn remove_tag(tx: &mut Tx, actor: &Actor, id: TicketId, tag: &str) -> Result<()> {
    permission::check(actor, Permission::TicketsUpdate)?;
    let tag = text::tag(tag).ok_or(Error::NotFound)?;
    let ticket = see::lock(tx, actor, id).await?;
    if !store::ticket_tags::remove(tx, id, &tag).await? {
        return Err(Error::NotFound);
    }
    store::tickets::touch(tx, id, true).await?;
    let mut changes = Changes::default();
    changes.add("tags", &tag, &Value::Null);
    change::tell(tx, actor, &ticket, "updated", &changes, Map::new()).await
}
