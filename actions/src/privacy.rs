//! What a person may ask for (GDPR, Art. 15, 17 and 20): all that is held about them, and to be forgotten.

use crate::{Error, Result, audit, roles};
use chrono::{DateTime, Utc};
use domain::{Actor, Permission, UserId, permission};
use serde_json::{Value, json};
use store::privacy::{self, Held};
use store::{Tx, audit_chain};

/// Entries of one statement.
const PIECE: usize = 1000;

#[derive(Debug)]
pub struct PersonalData {
    pub person: UserId,
    pub at: DateTime<Utc>,
    pub held: Held,
}

/// Everything about a person. That it was handed out is a security event.
pub async fn export(tx: &mut Tx, actor: &Actor, person: UserId) -> Result<PersonalData> {
    permission::check(actor, Permission::PrivacyManage)?;
    permission::check(actor, Permission::AuditRead)?;
    roles::may_govern(tx, actor, person).await?;
    let mut held = privacy::held(tx, person).await?.ok_or(Error::NotFound)?;
    without_others(&mut held.audit, person);
    audit::security(tx, actor, "export.personal_data", Some(person), json!({})).await?;
    Ok(PersonalData { person, at: tx.now(), held })
}

/// Of what somebody did to other things it is said that they did it, not what stood there: that may tell of others.
fn without_others(entries: &mut Value, person: UserId) {
    let themselves = json!(person);
    for entry in entries.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if entry.get("object_id") != Some(&themselves) && entry.get("parent_id") != Some(&themselves) {
            entry.remove("changes");
        }
    }
}

/// What was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    pub tickets: usize,
    pub audit_entries: u64,
}

/// Makes a person anonymous for good, and keeps their tickets: name, address, phone number and whatever else tells who they are, in all rows; their
/// account ends. In texts of their tickets these words are replaced wherever they stand as whole words.
pub async fn anonymise(tx: &mut Tx, actor: &Actor, person: UserId) -> Result<Forgotten> {
    permission::check(actor, Permission::PrivacyManage)?;
    if actor.user_id() == Some(person) {
        return Err(Error::conflict("nobody forgets themselves: another admin must do it"));
    }
    roles::may_govern(tx, actor, person).await?;
    if store::audit::policy(tx).await?.hold.is_some() {
        return Err(Error::conflict(
            "a legal hold stands, and nothing may be taken away: lift it first (audit-policy)",
        ));
    }
    let user = store::users::lock_with_admins(tx, person).await?;
    let is_admin = user.role == domain::Role::Admin && user.is_active;
    if is_admin && !store::users::has_other_active_admin(tx, person).await? {
        return Err(Error::conflict("this is the last active admin of the organization"));
    }
    if user.email == privacy::address_of_nobody(person) {
        return Err(Error::conflict("this person was made anonymous already"));
    }
    let words: Vec<&str> = [Some(user.email.as_str()), Some(user.name.as_str()), user.phone.as_deref()]
        .into_iter()
        .flatten()
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .collect();
    let pattern = privacy::pattern(&words);
    let tickets = privacy::tickets_of(tx, person, &user.email).await?;
    privacy::forget(tx, person, &user.email, &tickets, &pattern).await?;
    // Last: the changes above are in the log too, with what stood there before.
    let entries = privacy::entries_about(tx, person, &user.email, &tickets, &pattern).await?;
    let mut erased = 0;
    for piece in entries.chunks(PIECE) {
        erased += audit_chain::erase(tx, piece, person.0).await?;
    }
    let details: Value = json!({"tickets": tickets.len(), "audit_entries": erased});
    audit::security(tx, actor, "privacy.anonymised", Some(person), details).await?;
    Ok(Forgotten { tickets: tickets.len(), audit_entries: erased })
}
