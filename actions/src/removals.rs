//! People who are deleted, and come back. A deleted person keeps their row, for tickets and history name them; they lose at once whatever
//! lets them act or be asked to act.

use crate::tickets;
use crate::users::{WORDS, end_logins};
use crate::{Error, Result, check, events, roles, webhooks};
use domain::{Actor, Permission, Role, UserId, permission};
use serde_json::json;
use store::Tx;
use store::users::User;

/// The person as they are, locked for their deletion or restoration.
pub async fn lock(tx: &mut Tx, id: UserId) -> Result<User> {
    Ok(store::users::lock_with_admins(tx, id).await?)
}

/// Ends logins and API tokens for good, switches their webhooks off, and takes their name from the tickets that are not over: those go back to their teams. `before`
/// comes from [`lock`].
pub async fn delete(tx: &mut Tx, actor: &Actor, before: User) -> Result<()> {
    permission::check(actor, Permission::PeopleManage)?;
    let id = before.id;
    check::not_deleted(before.deleted_at)?;
    roles::may_govern(tx, actor, id).await?;
    if actor.user_id() == Some(id) {
        return Err(Error::conflict("nobody deletes themselves: another admin must do it"));
    }
    let was_admin = before.role == Role::Admin && before.may_enter();
    if was_admin && !store::users::has_other_active_admin(tx, id).await? {
        return Err(Error::conflict("this is the last active admin: make somebody else admin first"));
    }
    store::removals::delete_user(tx, id).await?;
    if store::removals::owns_services(tx, id).await? {
        return Err(Error::conflict("this person answers for service accounts: hand those over first"));
    }
    end_logins(tx, id).await?;
    webhooks::switch_off_of(tx, actor, id).await?;
    let tickets = store::removals::tickets_assigned_to(tx, id).await?;
    for ticket in &tickets {
        tickets::release(tx, actor, *ticket, id, "the assignee was deleted").await?;
    }
    events::record(tx, actor, "user.deleted", None, json!({"user": id, "tickets_released": tickets.len()}))
        .await?;
    Ok(())
}

/// As they were: with their password, teams and roles, and active if they were. Logins, tokens and tickets do not come back, and webhooks stay off.
pub async fn restore(tx: &mut Tx, actor: &Actor, before: User) -> Result<User> {
    permission::check(actor, Permission::PeopleManage)?;
    let id = before.id;
    if before.deleted_at.is_none() {
        return Err(Error::conflict("it is not deleted"));
    }
    roles::may_govern(tx, actor, id).await?;
    if let Some(owner) = before.owner
        && !store::removals::has_user(tx, owner).await?
    {
        return Err(Error::conflict("who answered for this service account is deleted: restore them first"));
    }
    check::constraints(store::removals::restore_user(tx, id).await, &WORDS)?;
    events::record(tx, actor, "user.restored", None, json!({"user": id})).await?;
    Ok(store::users::get(tx, id).await?)
}
