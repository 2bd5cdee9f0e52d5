//! People who turn up from outside: whoever writes a mail becomes a requester.

use crate::{Error, Result, events};
use domain::{Actor, EmailAddress, Role, UserId};
use serde_json::json;
use store::Tx;

/// The user with this address; made as an end user without a password if there is none. An address that belongs to a
/// deactivated user is that user still: mail from them is kept under their name, but they cannot log in.
pub async fn requester_for_email(
    tx: &mut Tx,
    actor: &Actor,
    email: &str,
    name: Option<&str>,
) -> Result<UserId> {
    let email = EmailAddress::parse(email).map_err(|error| Error::invalid("/email", error.to_string()))?;
    if let Some(user) = store::users::find_by_email(tx, &email).await? {
        return Ok(user.id);
    }
    if store::users::is_deleted_address(tx, &email).await? {
        let detail =
            "somebody with this address was deleted: restore them, or make a new account for the address";
        return Err(Error::conflict(detail));
    }
    let name = display_name(name, &email);
    let new = store::users::NewUser {
        email: &email,
        name: &name,
        role: Role::EndUser,
        password_hash: None,
        department: None,
        manager: None,
        time_zone: None,
        locale: None,
        phone: None,
        external_id: None,
        owner: None,
    };
    if let Some(id) = store::users::insert(tx, &new).await? {
        events::record(tx, actor, "user.created", None, json!({"user": id, "role": Role::EndUser})).await?;
        return Ok(id);
    }
    // Somebody else made them since the look-up.
    store::users::find_by_email(tx, &email).await?.map(|user| user.id).ok_or(Error::NotFound)
}

/// Names come out of mail headers: without control characters, not empty, at most 200 characters.
fn display_name(name: Option<&str>, email: &EmailAddress) -> String {
    let cleaned: String = name.unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    let cleaned = cleaned.trim();
    let name = if cleaned.is_empty() { email.local_part() } else { cleaned };
    name.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned() {
        let email = EmailAddress::parse("ada@example.org").unwrap();
        assert_eq!(display_name(None, &email), "ada");
        assert_eq!(display_name(Some(" \r\n "), &email), "ada");
        assert_eq!(display_name(Some("Ada\r\nLovelace"), &email), "AdaLovelace");
        assert_eq!(display_name(Some(&"x".repeat(500)), &email).chars().count(), 200);
    }
}
