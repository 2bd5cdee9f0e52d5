//! Logins that stand, ended by their owners and by admins. What ends is refused from the next request on, by every process: each looks the
//! login up.

use crate::{Error, Result, events, roles};
use domain::{Actor, Permission, UserId, permission};
use serde_json::json;
use store::Tx;
use uuid::Uuid;

/// One's own, or as admin anybody's. Others' logins are "not found" to those who may not manage people.
pub async fn revoke(tx: &mut Tx, actor: &Actor, family: Uuid) -> Result<()> {
    let owner = store::sessions::owner(tx, family).await?.ok_or(Error::NotFound)?;
    if actor.user_id() != Some(owner) && permission::check(actor, Permission::PeopleManage).is_err() {
        return Err(Error::NotFound);
    }
    store::users::lock(tx, owner).await?;
    roles::may_govern(tx, actor, owner).await?;
    store::sessions::revoke_family(tx, family).await?;
    let payload = json!({"user": owner, "login": family});
    events::record(tx, actor, "auth.session_revoked", None, payload).await?;
    Ok(())
}

/// All of a person but `except`: one's own, or as admin anybody's.
pub async fn revoke_all(tx: &mut Tx, actor: &Actor, user: UserId, except: Option<Uuid>) -> Result<()> {
    if actor.user_id() != Some(user) {
        permission::check(actor, Permission::PeopleManage)?;
    }
    store::users::lock(tx, user).await?;
    roles::may_govern(tx, actor, user).await?;
    if store::sessions::revoke_user(tx, user, except).await? > 0 {
        let payload = json!({"user": user, "login": "all", "except": except});
        events::record(tx, actor, "auth.session_revoked", None, payload).await?;
    }
    Ok(())
}
