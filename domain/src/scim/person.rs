//! What is asked for of a person.

use super::{Kind, Op, Operation, Path, Result, Wrong, boolean, member, resource, text};
use crate::Role;
use serde_json::Value;

/// `None`: nothing is said of it. `Some(None)`: it is to be empty. Addresses (`emails`) are read only: `userName` is the address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PersonDraft {
    pub user_name: Option<String>,
    pub external_id: Option<Option<String>>,
    pub active: Option<bool>,
    pub phone: Option<Option<String>>,
    pub locale: Option<Option<String>>,
    pub time_zone: Option<Option<String>>,
    /// The shipped one; none: the one that people have who are given none.
    pub role: Option<Option<Role>>,
    display_name: Option<String>,
    formatted: Option<String>,
    given: Option<String>,
    family: Option<String>,
}

impl PersonDraft {
    pub fn of_resource(body: &Value) -> Result<Self> {
        PersonDraft::of_patch(&resource(body)?)
    }

    pub fn of_patch(operations: &[Operation]) -> Result<Self> {
        let mut draft = PersonDraft::default();
        for operation in operations {
            let value = operation.value.as_ref().filter(|_| operation.op != Op::Remove);
            draft.set(&operation.path, value)?;
        }
        Ok(draft)
    }

    /// One name is kept of a person: how they are shown, or the parts together.
    pub fn name(&self) -> Option<String> {
        let whole = self.display_name.clone().or_else(|| self.formatted.clone());
        whole.or_else(|| Some(format!("{} {}", self.given.as_ref()?, self.family.as_ref()?)))
    }

    /// The same, with one part alone if there is no more: of somebody new.
    pub fn first_name(&self) -> Option<String> {
        self.name().or_else(|| self.given.clone()).or_else(|| self.family.clone())
    }

    fn set(&mut self, path: &Path, value: Option<&Value>) -> Result<()> {
        let owned = |name: &str| -> Result<Option<String>> { Ok(text(name, value)?.map(str::to_owned)) };
        match (path.attribute.as_str(), path.sub.as_deref()) {
            ("username", None) => match owned("userName")? {
                Some(name) => self.user_name = Some(name),
                None => return Err(Wrong::new(Kind::Mutability, "userName is required")),
            },
            ("externalid", None) => self.external_id = Some(owned("externalId")?),
            ("displayname", None) => self.display_name = owned("displayName")?,
            ("name", None) => {
                for (part, value) in value.and_then(Value::as_object).into_iter().flatten() {
                    let sub = Some(part.to_ascii_lowercase());
                    let path = Path { attribute: "name".to_owned(), sub, ..Path::default() };
                    self.set(&path, Some(value).filter(|value| !value.is_null()))?;
                }
            }
            ("name", Some("formatted")) => self.formatted = owned("name.formatted")?,
            ("name", Some("givenname")) => self.given = owned("name.givenName")?,
            ("name", Some("familyname")) => self.family = owned("name.familyName")?,
            ("active", None) => match value {
                Some(value) => self.active = Some(boolean("active", value)?),
                None => return Err(Wrong::new(Kind::Mutability, "active is true or false")),
            },
            // Mobile and fax numbers are not kept.
            ("phonenumbers", None | Some("value")) if path.selects("type").is_none_or(is_work) => {
                self.phone = Some(value.map(phone).transpose()?.flatten());
            }
            ("locale", None) => self.locale = Some(owned("locale")?),
            ("timezone", None) => self.time_zone = Some(owned("timezone")?),
            ("roles", None | Some("value")) => self.role = Some(value.map(role).transpose()?.flatten()),
            _ => {}
        }
        Ok(())
    }
}

fn is_work(word: &str) -> bool {
    word.eq_ignore_ascii_case("work")
}

fn is_primary(value: &Value) -> bool {
    member(value, "primary").is_some_and(|primary| boolean("primary", primary) == Ok(true))
}

/// Of several numbers the one at work, or the first that says nothing of what it is.
fn phone(value: &Value) -> Result<Option<String>> {
    let chosen = match value {
        Value::Array(all) => {
            let kind = |one: &Value| member(one, "type").and_then(Value::as_str).map(str::to_owned);
            let work = all.iter().find(|one| kind(one).is_some_and(|kind| is_work(&kind)));
            work.or_else(|| all.iter().find(|one| kind(one).is_none()))
        }
        one => Some(one),
    };
    let Some(chosen) = chosen else { return Ok(None) };
    let number = if chosen.is_object() { member(chosen, "value") } else { Some(chosen) };
    Ok(text("phoneNumbers.value", number.filter(|number| !number.is_null()))?.map(str::to_owned))
}

/// The primary one, or the highest.
fn role(value: &Value) -> Result<Option<Role>> {
    let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let chosen: Vec<&Value> = match all.iter().find(|one| is_primary(one)) {
        Some(primary) => vec![primary],
        None => all.iter().collect(),
    };
    let mut highest: Option<Role> = None;
    for one in chosen {
        let word = if one.is_object() { member(one, "value") } else { Some(one) };
        let Some(word) = text("roles.value", word.filter(|word| !word.is_null()))? else { continue };
        let known = word.to_ascii_lowercase().replace([' ', '-'], "_").parse::<Role>();
        let known = known.map_err(|detail| Wrong::new(Kind::InvalidValue, detail))?;
        let rank = |role: Role| Role::ALL.iter().position(|one| *one == role);
        // `Role::ALL` begins with the highest.
        if highest.is_none_or(|highest| rank(known) < rank(highest)) {
            highest = Some(known);
        }
    }
    Ok(highest)
}

#[cfg(test)]
mod tests {
    use super::super::patch;
    use super::*;
    use serde_json::json;

    fn patched(operations: Value) -> PersonDraft {
        PersonDraft::of_patch(&patch(&json!({"Operations": operations})).unwrap()).unwrap()
    }

    #[test]
    fn the_variants_of_a_patch_ask_for_the_same() {
        let wanted = PersonDraft { active: Some(false), ..PersonDraft::default() };
        for operations in [
            json!([{"op": "replace", "path": "active", "value": false}]),
            json!([{"op": "Replace", "path": "active", "value": "False"}]),
            json!([{"op": "replace", "value": {"active": false}}]),
            json!([{"op": "Add", "value": {"urn:ietf:params:scim:schemas:core:2.0:User:active": "false"}}]),
            json!([{"OP": "REPLACE", "PATH": "Active", "VALUE": false},
                   {"op": "add", "path": "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:department", "value": "IT"},
                   {"op": "add", "path": "title", "value": "Dr"}, {"op": "replace", "path": "emails[type eq \"work\"].value", "value": "x@y.z"}]),
        ] {
            assert_eq!(patched(operations.clone()), wanted, "{operations}");
        }
    }

    #[test]
    fn of_many_numbers_and_roles_one_is_kept() {
        let draft = patched(json!([
            {"op": "add", "path": "phoneNumbers[type eq \"mobile\"].value", "value": "1"},
            {"op": "add", "path": "phoneNumbers[type eq \"work\"].value", "value": "2"},
            {"op": "replace", "path": "roles[primary eq \"True\"].value", "value": "Agent"},
        ]));
        assert_eq!((draft.phone, draft.role), (Some(Some("2".into())), Some(Some(Role::Agent))));
        let body = json!({"phoneNumbers": [{"type": "fax", "value": "1"}, {"type": "work", "value": "2"}],
                          "roles": [{"value": "end_user"}, {"value": "manager"}, {"value": "agent"}]});
        let draft = PersonDraft::of_resource(&body).unwrap();
        assert_eq!((draft.phone, draft.role), (Some(Some("2".into())), Some(Some(Role::Manager))));
        let body = json!({"roles": [{"value": "manager"}, {"value": "agent", "primary": "True"}]});
        assert_eq!(PersonDraft::of_resource(&body).unwrap().role, Some(Some(Role::Agent)));
        assert_eq!(patched(json!([{"op": "remove", "path": "roles"}])).role, Some(None));
        assert!(PersonDraft::of_resource(&json!({"roles": [{"value": "king"}]})).is_err());
    }

    #[test]
    fn a_name_is_what_is_shown_or_its_parts() {
        let name = |body: Value| PersonDraft::of_resource(&body).unwrap().name();
        let parts = json!({"givenName": "Ada", "familyName": "Lovelace"});
        assert_eq!(name(json!({"name": parts})).as_deref(), Some("Ada Lovelace"));
        assert_eq!(name(json!({"name": parts, "displayName": "Countess"})).as_deref(), Some("Countess"));
        assert_eq!(name(json!({"name": {"givenName": "Ada"}})), None);
        let draft = PersonDraft::of_resource(&json!({"name": {"givenName": "Ada"}})).unwrap();
        assert_eq!(draft.first_name().as_deref(), Some("Ada"));
    }
}
