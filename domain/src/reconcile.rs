//! An inventory against what is known: which items are new, changed, as before, or no longer there. Pure: the same input
//! gives the same plan, and carrying out the plan makes the next one empty.
//!
//! An item is recognised by its identifiers, in the order of the source's identification keys: the first that anybody
//! knows decides. Two identifiers that lead to two different items are a conflict for a person to settle; nothing is
//! merged on a guess.

use crate::cmdb::CiStatus;
use crate::{CiId, cmdb::identifies};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap, HashSet};

mod verdict;

pub use verdict::verdict;

/// One item of an inventory. What is `None` the inventory says nothing about, and it stays as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Where it stands, counted from 1: a row of a CSV file with its header as row 1, an element of a JSON array.
    pub row: usize,
    pub name: Option<String>,
    pub class: Option<String>,
    pub status: Option<CiStatus>,
    pub description: Option<String>,
    /// `null` removes an attribute; attributes that are not named stay.
    pub attributes: Map<String, Value>,
    /// Key and value, the most trusted key first.
    pub identifiers: Vec<(String, String)>,
}

/// A configuration item as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    pub id: CiId,
    pub name: String,
    pub class: String,
    pub status: CiStatus,
    pub description: String,
    pub attributes: Map<String, Value>,
    pub identifiers: BTreeMap<String, String>,
    /// The source that is being read answers for it.
    pub is_ours: bool,
    /// No source answers for it: kept by hand until an inventory lists it.
    pub is_unowned: bool,
    pub missing_since: Option<DateTime<Utc>>,
    /// Counts changes: a plan holds only for the version that it was made on.
    pub version: i64,
}

/// One field, before and after. Identifiers are named `identifiers.<key>`, attributes `attributes.<name>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub field: String,
    pub from: Value,
    pub to: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// The item as it will be.
    pub after: Known,
    pub row: usize,
    pub differences: Vec<Difference>,
}

/// A row that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowError {
    pub row: usize,
    pub error: String,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// As they will be, with the rows they come from.
    pub created: Vec<(usize, Known)>,
    pub updated: Vec<Update>,
    pub unchanged: Vec<CiId>,
    /// Ours, listed before and not now.
    pub missing: Vec<CiId>,
    /// Ours, and missing since an earlier run.
    pub still_missing: Vec<CiId>,
    pub failed: Vec<RowError>,
}

/// What an item is when its inventory does not say.
#[derive(Clone, Debug)]
pub struct Defaults {
    pub class: String,
}

/// `seen`: identifiers of rows that could not be used; what they name is not missing.
pub fn reconcile(items: &[Item], seen: &[(String, String)], known: &[Known], defaults: &Defaults) -> Plan {
    let mut matcher = Matcher::new(known, defaults);
    for (key, value) in seen.iter().filter(|(_, value)| identifies(value)) {
        matcher.seen.extend(matcher.owners.get(&(key.as_str(), value.as_str())));
    }
    // Rows that say what is known already go first: they free nothing and need nothing freed, and so the next run, for
    // which all that was used is known, decides as this one did.
    let (exact, others): (Vec<_>, Vec<_>) = items.iter().partition(|item| matcher.is_exact(item));
    for item in exact.into_iter().chain(others) {
        matcher.take(item);
    }
    matcher.finish()
}

struct Matcher<'a> {
    known: &'a [Known],
    defaults: &'a Defaults,
    plan: Plan,
    /// Whose an identifier is, as far as the rows up to now say.
    owners: HashMap<(&'a str, &'a str), usize>,
    /// Which row took which identifier, and which row took which item.
    taken: HashMap<(&'a str, &'a str), usize>,
    matched: HashMap<usize, usize>,
    /// Items that some row names, whatever became of the row: they are there.
    seen: HashSet<usize>,
    /// Rows in conflict, with the conflict: a later row may say that an identifier has moved.
    blocked: Vec<(&'a Item, String)>,
}

impl<'a> Matcher<'a> {
    fn new(known: &'a [Known], defaults: &'a Defaults) -> Self {
        let pairs = known.iter().enumerate().flat_map(|(index, ci)| {
            ci.identifiers.iter().map(move |(key, value)| ((key.as_str(), value.as_str()), index))
        });
        Matcher {
            known,
            defaults,
            plan: Plan::default(),
            owners: pairs.collect(),
            taken: HashMap::new(),
            matched: HashMap::new(),
            seen: HashSet::new(),
            blocked: Vec::new(),
        }
    }

    /// All its identifiers belong to one item.
    fn is_exact(&self, item: &Item) -> bool {
        let mut owners = usable(item).into_iter().map(|pair| self.owners.get(&pair));
        let first = owners.next().flatten();
        first.is_some() && owners.all(|owner| owner == first)
    }

    fn take(&mut self, item: &'a Item) {
        let Some(true) = self.place(item) else { return };
        // Identifiers were freed: the first row that this unblocks goes on, which may free more.
        while let Some(at) =
            (0..self.blocked.len()).find(|at| self.conflict(&usable(self.blocked[*at].0)).is_none())
        {
            let (item, _) = self.blocked.remove(at);
            self.place(item);
        }
    }

    /// `None`: the row failed or is blocked; `Some(true)`: identifiers were freed.
    fn place(&mut self, item: &'a Item) -> Option<bool> {
        let identifiers = usable(item);
        let hits: Vec<usize> = identifiers.iter().filter_map(|pair| self.owners.get(pair).copied()).collect();
        self.seen.extend(&hits);
        if identifiers.is_empty() {
            let keys: Vec<_> = item.identifiers.iter().map(|(key, _)| key.as_str()).collect();
            let keys = if keys.is_empty() { "any identification key".to_owned() } else { keys.join(", ") };
            return self.fail(item, format!("nothing identifies it: no usable value for {keys}"));
        }
        if let Some((pair, row)) = identifiers.iter().find_map(|pair| Some((pair, self.taken.get(pair)?))) {
            let error = format!("{} {:?} is that of row {row} too", pair.0, pair.1);
            return self.fail(item, error);
        }
        if let Some(conflict) = self.conflict(&identifiers) {
            self.blocked.push((item, conflict));
            return None;
        }
        let mut freed = false;
        match hits.first() {
            Some(&index) => {
                let before = &self.known[index];
                if let Some(row) = self.matched.get(&index) {
                    return self.fail(item, format!("it is the same item as row {row}: {}", before.name));
                }
                self.matched.insert(index, item.row);
                for (key, _) in identifiers
                    .iter()
                    .filter(|(key, value)| before.identifiers.get(*key).is_some_and(|b| b != value))
                {
                    let old = before
                        .identifiers
                        .get_key_value(*key)
                        .map(|(key, value)| (key.as_str(), value.as_str()));
                    freed |= old.is_some_and(|old| self.owners.remove(&old).is_some());
                }
                let update = changed(item, &identifiers, before);
                if update.differences.is_empty() {
                    self.plan.unchanged.push(before.id);
                } else {
                    self.plan.updated.push(update);
                }
            }
            None => match new_item(item, &identifiers, self.defaults) {
                Ok(ci) => self.plan.created.push((item.row, ci)),
                Err(error) => return self.fail(item, error),
            },
        }
        self.taken.extend(identifiers.into_iter().map(|pair| (pair, item.row)));
        Some(freed)
    }

    fn fail(&mut self, item: &Item, error: String) -> Option<bool> {
        self.plan.failed.push(RowError { row: item.row, error });
        None
    }

    /// In words, if the identifiers lead to different items.
    fn conflict(&self, identifiers: &[(&str, &str)]) -> Option<String> {
        let mut hits = identifiers.iter().filter_map(|pair| Some((pair.0, *self.owners.get(pair)?)));
        let (key, first) = hits.next()?;
        let (other_key, other) = hits.find(|(_, index)| *index != first)?;
        let (first, other) = (&self.known[first], &self.known[other]);
        Some(format!(
            "conflict: by {key} it is {} ({}), by {other_key} it is {} ({}); nothing was changed",
            first.name, first.id, other.name, other.id
        ))
    }

    fn finish(mut self) -> Plan {
        for (item, error) in std::mem::take(&mut self.blocked) {
            self.fail(item, error);
        }
        for (index, ci) in self.known.iter().enumerate() {
            if ci.is_ours && !self.seen.contains(&index) && !self.matched.contains_key(&index) {
                let plan = &mut self.plan;
                let list =
                    if ci.missing_since.is_some() { &mut plan.still_missing } else { &mut plan.missing };
                list.push(ci.id);
            }
        }
        self.plan.failed.sort_by_key(|failure| failure.row);
        self.plan.created.sort_by_key(|(row, _)| *row);
        self.plan.updated.sort_by_key(|update| update.row);
        self.plan
    }
}

/// Without what identifies nothing; the most trusted first.
fn usable(item: &Item) -> Vec<(&str, &str)> {
    let all = item.identifiers.iter().filter(|(_, value)| identifies(value));
    all.map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

fn new_item(item: &Item, identifiers: &[(&str, &str)], defaults: &Defaults) -> Result<Known, String> {
    let name = item.name.clone().filter(|name| !name.trim().is_empty());
    let name = name.unwrap_or_else(|| identifiers[0].1.to_owned());
    let mut attributes = item.attributes.clone();
    attributes.retain(|_, value| !value.is_null());
    let ci = Known {
        id: CiId::new(),
        name,
        class: item.class.clone().unwrap_or_else(|| defaults.class.clone()),
        status: item.status.unwrap_or(CiStatus::Active),
        description: item.description.clone().unwrap_or_default(),
        attributes,
        identifiers: identifiers
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        is_ours: true,
        is_unowned: false,
        missing_since: None,
        version: 1,
    };
    lengths(&ci)?;
    Ok(ci)
}

/// What the columns hold.
fn lengths(ci: &Known) -> Result<(), String> {
    if ci.name.chars().count() > 300 {
        return Err("its name is longer than 300 characters".into());
    }
    if !(1..=100).contains(&ci.class.chars().count()) {
        return Err("its class must have 1 to 100 characters".into());
    }
    Ok(())
}

fn changed(item: &Item, identifiers: &[(&str, &str)], before: &Known) -> Update {
    let mut after = before.clone();
    if let Some(name) = item.name.as_ref().filter(|name| (1..=300).contains(&name.trim().chars().count())) {
        after.name.clone_from(name);
    }
    if let Some(class) = item.class.as_ref().filter(|class| (1..=100).contains(&class.chars().count())) {
        after.class.clone_from(class);
    }
    after.status = item.status.unwrap_or(before.status);
    if let Some(description) = &item.description {
        after.description.clone_from(description);
    }
    for (name, value) in &item.attributes {
        if value.is_null() {
            after.attributes.remove(name);
        } else {
            after.attributes.insert(name.clone(), value.clone());
        }
    }
    after.identifiers.extend(identifiers.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    after.missing_since = None;
    if before.is_unowned {
        (after.is_unowned, after.is_ours) = (false, true);
    }
    let differences = differences(before, &after);
    Update { after, row: item.row, differences }
}

fn differences(before: &Known, after: &Known) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut compare = |field: &str, from: Value, to: Value| {
        if from != to {
            all.push(Difference { field: field.to_owned(), from, to });
        }
    };
    compare("name", before.name.clone().into(), after.name.clone().into());
    compare("class", before.class.clone().into(), after.class.clone().into());
    compare("status", before.status.as_str().into(), after.status.as_str().into());
    compare("description", before.description.clone().into(), after.description.clone().into());
    let since = |ci: &Known| ci.missing_since.map_or(Value::Null, |at| at.to_rfc3339().into());
    compare("missing_since", since(before), since(after));
    compare("discovered", before.is_ours.into(), after.is_ours.into());
    let names: std::collections::BTreeSet<_> =
        before.attributes.keys().chain(after.attributes.keys()).collect();
    for name in names {
        let value = |ci: &Known| ci.attributes.get(name).cloned().unwrap_or(Value::Null);
        compare(&format!("attributes.{name}"), value(before), value(after));
    }
    let text = |value: Option<&String>| value.map_or(Value::Null, |value| value.clone().into());
    for (key, value) in &after.identifiers {
        compare(&format!("identifiers.{key}"), text(before.identifiers.get(key)), text(Some(value)));
    }
    all
}

#[cfg(test)]
mod tests;
