//! Watchers: staff name anybody, an end user only themselves.

use super::change::{self, Note};
use super::{people, see};
use crate::{Error, Result};
use domain::{Actor, Permission, TicketId, UserId};
use serde_json::Value;
use store::Tx;

/// Themselves whoever may answer: with watching come the rights on what is one's own. False when they watched it already.
pub async fn add_watcher(tx: &mut Tx, actor: &Actor, id: TicketId, user: UserId) -> Result<bool> {
    let needed = if actor.user_id() == Some(user) {
        Permission::TicketsCommentPublic
    } else {
        Permission::TicketsUpdate
    };
    let ticket = see::lock(tx, actor, needed, id).await?;
    people::must_exist(tx, user, "/user").await?;
    let is_new = store::ticket_watchers::add(tx, id, user).await?;
    if is_new {
        change::remember(tx, actor, &ticket, &Note::one("watcher_added", "watchers", &Value::Null, &user))
            .await?;
    }
    Ok(is_new)
}

pub async fn remove_watcher(tx: &mut Tx, actor: &Actor, id: TicketId, user: UserId) -> Result<()> {
    let needed =
        if actor.user_id() == Some(user) { Permission::TicketsView } else { Permission::TicketsUpdate };
    let ticket = see::lock(tx, actor, needed, id).await?;
    if !store::ticket_watchers::remove(tx, id, user).await? {
        return Err(Error::NotFound);
    }
    change::remember(tx, actor, &ticket, &Note::one("watcher_removed", "watchers", &user, &Value::Null)).await
}
