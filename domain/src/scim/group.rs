//! What is asked for of a group, which is a team.

use super::{Kind, Op, Operation, Result, Wrong, member, resource, text};
use crate::UserId;
use serde_json::Value;
use std::collections::BTreeSet;
use uuid::Uuid;

/// Most people who come and go with one request.
pub const MOST_CHANGES: usize = 1000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupDraft {
    pub display_name: Option<String>,
    pub external_id: Option<Option<String>>,
    members: Vec<Change>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Add(Vec<UserId>),
    Remove(Vec<UserId>),
    Set(Vec<UserId>),
}

impl GroupDraft {
    pub fn of_resource(body: &Value) -> Result<Self> {
        GroupDraft::of_patch(&resource(body)?)
    }

    pub fn of_patch(operations: &[Operation]) -> Result<Self> {
        let mut draft = GroupDraft::default();
        for operation in operations {
            draft.set(operation)?;
        }
        Ok(draft)
    }

    fn set(&mut self, Operation { op, path, value }: &Operation) -> Result<()> {
        let value = value.as_ref();
        let set = value.filter(|_| *op != Op::Remove);
        if path.is("displayname") {
            let name = text("displayName", set)?.map(str::to_owned);
            self.display_name =
                Some(name.ok_or_else(|| Wrong::new(Kind::Mutability, "displayName is required"))?);
        } else if path.is("externalid") {
            self.external_id = Some(text("externalId", set)?.map(str::to_owned));
        } else if path.is("members") {
            self.members.push(match (op, path.selects("value"), value) {
                (Op::Remove, Some(one), _) => {
                    Change::Remove(one.parse().ok().map(UserId).into_iter().collect())
                }
                (Op::Remove, None, Some(named)) => Change::Remove(ids(named)?),
                (Op::Remove, None, None) if path.selected.is_none() => Change::Set(Vec::new()),
                (Op::Add, _, Some(named)) if path.selected.is_none() => Change::Add(ids(named)?),
                (Op::Replace, _, Some(named)) if path.selected.is_none() => Change::Set(ids(named)?),
                (Op::Replace, _, None) if path.selected.is_none() => Change::Set(Vec::new()),
                _ => {
                    return Err(Wrong::new(
                        Kind::InvalidPath,
                        "members can be removed by `value eq \"…\"`, and added or replaced as a list",
                    ));
                }
            });
        }
        Ok(())
    }

    /// Who is in it afterwards.
    pub fn members(&self, before: &BTreeSet<UserId>) -> BTreeSet<UserId> {
        let mut members = before.clone();
        for change in &self.members {
            match change {
                Change::Add(ids) => members.extend(ids),
                Change::Remove(ids) => members.retain(|member| !ids.contains(member)),
                Change::Set(ids) => members = ids.iter().copied().collect(),
            }
        }
        members
    }
}

/// `[{"value": "…"}]`, one of them alone, or the ids themselves.
fn ids(value: &Value) -> Result<Vec<UserId>> {
    let all = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let id = |one: &Value| {
        let word = if one.is_object() { member(one, "value") } else { Some(one) };
        let id = word.and_then(Value::as_str).and_then(|word| word.parse::<Uuid>().ok());
        id.map(UserId).ok_or_else(|| Wrong::value("members.value", "the id of a User"))
    };
    all.iter().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::super::patch;
    use super::*;
    use serde_json::json;

    fn person(n: u128) -> UserId {
        UserId(Uuid::from_u128(n))
    }

    #[test]
    fn members_come_and_go_in_every_dialect() {
        let (one, two) = (person(1).0.to_string(), person(2).0.to_string());
        let before = BTreeSet::from([person(1)]);
        for (operations, after) in [
            (json!([{"op": "Add", "path": "members", "value": [{"value": two}]}]), vec![1, 2]),
            (json!([{"op": "add", "path": "members", "value": {"value": two}}]), vec![1, 2]),
            (json!([{"op": "add", "value": {"members": [{"value": two}]}}]), vec![1, 2]),
            (json!([{"op": "remove", "path": format!("members[value eq \"{one}\"]")}]), vec![]),
            (json!([{"op": "Remove", "path": "members", "value": [{"value": one}]}]), vec![]),
            (json!([{"op": "Remove", "path": "members", "value": [{"value": two}]}]), vec![1]),
            (json!([{"op": "remove", "path": "members"}]), vec![]),
            (json!([{"op": "remove", "path": "members[value eq \"nobody\"]"}]), vec![1]),
            (json!([{"op": "replace", "path": "members", "value": [{"value": two}]}]), vec![2]),
            (json!([{"op": "replace", "value": {"id": "x", "displayName": "Night"}}]), vec![1]),
            (
                json!([{"op": "remove", "path": "members"}, {"op": "add", "path": "members", "value": [two.as_str()]}]),
                vec![2],
            ),
        ] {
            let draft = GroupDraft::of_patch(&patch(&json!({"Operations": operations})).unwrap()).unwrap();
            assert_eq!(draft.members(&before), after.into_iter().map(person).collect(), "{operations}");
        }
        assert!(GroupDraft::of_resource(&json!({"members": [{"value": "nobody"}]})).is_err());
        assert!(GroupDraft::of_resource(&json!({"displayName": ""})).is_err());
    }
}
