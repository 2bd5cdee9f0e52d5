//! Accounts of programs: they have a role and API tokens, and a person who answers for them. Nobody logs in as one.

use crate::{Error, Result, check, events, roles};
use domain::{Actor, EmailAddress, Permission, Role, UserId, permission};
use serde_json::json;
use store::Tx;
use store::users::{NewUser, User};

#[derive(Clone, Debug)]
pub struct NewServiceAccount {
    pub name: String,
    pub role: Role,
    /// Who answers for it.
    pub owner: UserId,
}

pub async fn create(tx: &mut Tx, actor: &Actor, new: &NewServiceAccount) -> Result<User> {
    permission::check(actor, Permission::PeopleManage)?;
    permission::covers(actor, &new.role.permissions())?;
    let name = check::name(&new.name)?;
    owner(tx, new.owner).await?;
    // An address that no mail leads to, and that is nobody's (RFC 2606, 2).
    let address = format!("noreply-{}@service.invalid", UserId::new().0.simple());
    let email = EmailAddress::parse(&address).map_err(|error| Error::invalid("/name", error.to_string()))?;
    let row = NewUser {
        email: &email,
        name: &name,
        role: new.role,
        password_hash: None,
        department: None,
        manager: None,
        time_zone: None,
        locale: None,
        phone: None,
        external_id: None,
        owner: Some(new.owner),
    };
    let id = store::users::insert(tx, &row).await?.ok_or_else(|| Error::conflict("try again"))?;
    let payload = json!({"user": id, "role": new.role, "owner": new.owner});
    events::record(tx, actor, "service_account.created", None, payload).await?;
    Ok(store::users::get(tx, id).await?)
}

/// Hands it to somebody else.
pub async fn hand_over(tx: &mut Tx, actor: &Actor, id: UserId, to: UserId) -> Result<User> {
    permission::check(actor, Permission::PeopleManage)?;
    let account = store::users::lock(tx, id).await?;
    if account.owner.is_none() {
        return Err(Error::NotFound);
    }
    check::not_deleted(account.deleted_at)?;
    roles::may_govern(tx, actor, id).await?;
    owner(tx, to).await?;
    store::users::set_owner(tx, id, to).await?;
    let payload = json!({"user": id, "owner": to});
    events::record(tx, actor, "service_account.handed_over", None, payload).await?;
    Ok(store::users::get(tx, id).await?)
}

/// A person who is there to be asked.
async fn owner(tx: &mut Tx, id: UserId) -> Result<()> {
    check::living_user(tx, "/owner", Some(id)).await?;
    match store::users::find(tx, id).await? {
        Some(person) if person.owner.is_some() => {
            Err(Error::invalid("/owner", "is a service account itself: name a person"))
        }
        Some(person) if !person.is_active => Err(Error::invalid("/owner", "is not active")),
        Some(_) => Ok(()),
        None => Err(Error::invalid("/owner", "there is no such user")),
    }
}
