//! How people can be reached besides the address of their account.

use crate::{Error, FieldError, Result, check, events, roles};
use domain::{Actor, ContactKind, ContactWay, MOST_CONTACT_WAYS, Permission, permission, phone_number};
use serde_json::json;
use store::Tx;
use store::users::User;

/// Exactly these from now on. Telephone numbers are everybody's own business. E-mail addresses are an administrator's: nobody has
/// proven that they are theirs, and mail about tickets goes there. `person` is the locked row.
pub async fn replace(
    tx: &mut Tx,
    actor: &Actor,
    person: &User,
    ways: Vec<ContactWay>,
) -> Result<Vec<ContactWay>> {
    let themselves = actor.user_id() == Some(person.id);
    let is_limited = actor.rights().is_some_and(|rights| rights.limits.is_some());
    let before = store::contact_ways::of(tx, person.id).await?;
    let ways = checked(ways)?;
    if !themselves || is_limited || emails(&before) != emails(&ways) {
        permission::check(actor, Permission::PeopleManage)?;
        roles::may_govern(tx, actor, person.id).await?;
    }
    check::not_deleted(person.deleted_at)?;
    if before != ways {
        store::contact_ways::replace(tx, person.id, &ways).await?;
        events::record(
            tx,
            actor,
            "user.updated",
            None,
            json!({"user": person.id, "contact_ways": ways.len()}),
        )
        .await?;
    }
    Ok(ways)
}

fn emails(ways: &[ContactWay]) -> Vec<&ContactWay> {
    ways.iter().filter(|way| way.kind == ContactKind::Email).collect()
}

/// All that is wrong with them, or each as it is stored.
fn checked(mut ways: Vec<ContactWay>) -> Result<Vec<ContactWay>> {
    if ways.len() > MOST_CONTACT_WAYS {
        return Err(Error::invalid("/contact_ways", format!("at most {MOST_CONTACT_WAYS}")));
    }
    let mut wrong = Vec::new();
    for index in 0..ways.len() {
        let (earlier, rest) = ways.split_at_mut(index);
        let Some(way) = rest.first_mut() else { continue };
        let mut field = |name: &str, detail: String| {
            wrong.push(FieldError { pointer: format!("/contact_ways/{index}/{name}"), detail });
        };
        let value = match way.kind {
            ContactKind::Email => {
                domain::EmailAddress::parse(&way.value).map(String::from).map_err(|error| error.to_string())
            }
            ContactKind::Phone | ContactKind::Mobile => phone_number(&way.value)
                .ok_or_else(|| "must be a telephone number, for example +49 30 123456".to_owned()),
        };
        match value {
            Ok(value) => way.value = value,
            Err(detail) => field("value", detail),
        }
        match check::optional_text("/label", way.label.as_deref(), 50) {
            Ok(label) => way.label = label,
            Err(_) => field("label", "must be one line of at most 50 characters".into()),
        }
        if earlier.iter().any(|other| other.kind == way.kind && other.value == way.value) {
            field("value", "is there twice".into());
        }
        if way.is_preferred && earlier.iter().any(|other| other.kind == way.kind && other.is_preferred) {
            field("is_preferred", "one of a kind at most is preferred".into());
        }
    }
    if wrong.is_empty() { Ok(ways) } else { Err(Error::Invalid(wrong)) }
}
