//! Lists that are read as a whole take the grammar of all lists, too: over what is shown instead of over columns.
//!
//! Their tables of fields name fields of the item where others name expressions of SQL, and those that are searched where others name a table. What a comparison means is what it means there: texts
//! that are compared in lower case, times as moments, nothing is equal to null.

use crate::filters::Asked;
use crate::shape::{Noun, Shape};
use crate::{Caller, ListQuery, Page, Problem};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use std::cmp::Ordering;
use store::Tx;
use store::listing::{Compare, Condition, Is, Key, Kind, List, Test, Wanted};
use utoipa::ToSchema;
use uuid::Uuid;

/// All that a request says about a list.
#[derive(Clone, Debug)]
pub struct WholeQuery {
    list: ListQuery,
    shape: Shape,
    asked: Asked,
}

impl<S: Send + Sync> FromRequestParts<S> for WholeQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Ok(WholeQuery {
            list: ListQuery::from_request_parts(parts, state).await?,
            shape: Shape::from_request_parts(parts, state).await?,
            asked: Asked::from_request_parts(parts, state).await?,
        })
    }
}

impl WholeQuery {
    /// A parameter that is none of the table's.
    pub fn take(&mut self, name: &str) -> Option<String> {
        self.asked.take(name)
    }

    /// What is wanted of this list, whose items are `V`s.
    pub fn of<V: ToSchema>(self, list: &'static List, caller: &Caller) -> Result<Picked, Problem> {
        self.expanding::<V>(list, &[], caller)
    }

    /// The same of items with ids that can be expanded.
    pub fn expanding<V: ToSchema>(
        self,
        list: &'static List,
        expandable: &[(&str, Noun)],
        caller: &Caller,
    ) -> Result<Picked, Problem> {
        self.shape.check_with::<V>(expandable)?;
        let wanted = self.list.wanted(list, &self.asked, caller.user_id())?;
        Ok(Picked { query: self.list, shape: self.shape, list, wanted })
    }
}

/// What is wanted of a list that is read as a whole.
#[derive(Debug)]
pub struct Picked {
    query: ListQuery,
    shape: Shape,
    list: &'static List,
    wanted: Wanted,
}

impl Picked {
    /// The page of them.
    pub fn page<V: Serialize>(&self, all: impl IntoIterator<Item = V>) -> Result<Page<Value>, Problem> {
        let mut page = self.whole(all)?;
        for item in &mut page.items {
            *item = self.shape.item(item)?;
        }
        Ok(page)
    }

    /// The same with what is wanted of these, as [`Shape::expand`] adds it.
    pub async fn expanded<V: Serialize>(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        all: Vec<V>,
        expandable: &[(&str, Noun)],
    ) -> Result<Page<Value>, Problem> {
        let mut page = self.whole(all)?;
        self.shape.expand(tx, caller, &mut page.items, expandable).await?;
        Ok(page)
    }

    fn whole<V: Serialize>(&self, all: impl IntoIterator<Item = V>) -> Result<Page<Value>, Problem> {
        let mut rows = Vec::new();
        for item in all {
            let item = serde_json::to_value(item).map_err(|error| Problem::internal(&error))?;
            if self.wanted.conditions.iter().all(|condition| holds(&item, condition)) && self.matches(&item) {
                rows.push((self.place_of(&item), item));
            }
        }
        if let Some(after) = &self.wanted.after {
            let mut place: Vec<Value> = after.keys.iter().map(|key| Value::from(key.as_str())).collect();
            place.push(Value::from(after.id.as_str()));
            rows.retain(|(one, _)| self.compared(one, &place) == Ordering::Greater);
        }
        rows.sort_by(|(one, _), (other, _)| self.compared(one, other));
        rows.truncate(usize::from(self.query.page_size) + 1);
        self.query.page(rows, |(place, _)| place.clone(), |(_, item)| item)
    }

    fn matches(&self, item: &Value) -> bool {
        let Some(q) = self.wanted.q.as_deref().map(str::to_lowercase) else { return true };
        let texts = self.list.from.split(' ').filter_map(|field| item[field].as_str());
        texts.map(str::to_lowercase).any(|text| text.contains(&q))
    }

    fn keys(&self) -> Vec<(Key, bool)> {
        let mut keys = self.wanted.order.keys();
        keys.push((self.wanted.order.id, self.wanted.order.last_descends()));
        keys
    }

    /// As a cursor holds it.
    fn place_of(&self, item: &Value) -> Vec<Value> {
        let value = |key: Key| match (&item[key.sql], key.cast) {
            (Value::Bool(flag), "integer") => Value::from(i64::from(*flag)),
            (value, _) => value.clone(),
        };
        self.keys().into_iter().map(|(key, _)| value(key)).collect()
    }

    fn compared(&self, one: &[Value], other: &[Value]) -> Ordering {
        for ((key, descends), (one, other)) in self.keys().into_iter().zip(one.iter().zip(other)) {
            let ordering = match key.cast {
                "timestamptz" => time(one).cmp(&time(other)),
                "integer" | "bigint" => whole_number(one).cmp(&whole_number(other)),
                _ => text(one).cmp(&text(other)),
            };
            if ordering != Ordering::Equal {
                return if descends { ordering.reverse() } else { ordering };
            }
        }
        Ordering::Equal
    }
}

/// In lower case first, so that names stand where people look for them.
fn text(value: &Value) -> Option<(String, &str)> {
    value.as_str().map(|text| (text.to_lowercase(), text))
}

fn time(value: &Value) -> Option<DateTime<Utc>> {
    value.as_str()?.parse().ok()
}

/// In a cursor they are texts.
fn whole_number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// What stands in a field: one value, those of a list, the names in an object.
fn values(item: &Value, field: &str) -> Vec<Value> {
    match &item[field] {
        Value::Null => Vec::new(),
        Value::Array(values) => values.clone(),
        Value::Object(fields) => fields.keys().cloned().map(Value::from).collect(),
        value => vec![value.clone()],
    }
}

fn holds(item: &Value, condition: &Condition) -> bool {
    let field = match condition.field.test {
        Some(Test::Column(field) | Test::Within(field)) => field,
        Some(Test::Either(..)) | None => return false,
    };
    let values = values(item, field);
    let any = |test: &dyn Fn(&Value) -> bool| values.iter().any(test);
    match &condition.is {
        Is::Text(wanted) if matches!(condition.field.kind, Kind::LowerText) => {
            any(&|value| value.as_str().is_some_and(|text| wanted.contains(&text.to_lowercase())))
        }
        Is::Text(wanted) => {
            any(&|value| value.as_str().is_some_and(|text| wanted.iter().any(|one| one == text)))
        }
        Is::Id(wanted) => any(&|value| {
            value.as_str().and_then(|id| id.parse::<Uuid>().ok()).is_some_and(|id| wanted.contains(&id))
        }),
        Is::Number(wanted) => {
            any(&|value| wanted.iter().any(|one| size(value, *one) == Some(Ordering::Equal)))
        }
        Is::Flag(flag) => any(&|value| value.as_bool() == Some(*flag)),
        Is::Null(is_null) => values.is_empty() == *is_null,
        Is::Time(compare, than) => any(&|value| fits(*compare, time(value).map(|time| time.cmp(than)))),
        Is::Size(compare, than) => any(&|value| fits(*compare, size(value, *than))),
    }
}

/// Of whole numbers and of those with a fraction.
fn size(value: &Value, than: i64) -> Option<Ordering> {
    match value.as_i64() {
        Some(number) => Some(number.cmp(&than)),
        None => value.as_f64()?.partial_cmp(&(than as f64)),
    }
}

fn fits(compare: Compare, ordering: Option<Ordering>) -> bool {
    ordering.is_some_and(|ordering| match compare {
        Compare::AtLeast => ordering.is_ge(),
        Compare::Above => ordering.is_gt(),
        Compare::AtMost => ordering.is_le(),
        Compare::Below => ordering.is_lt(),
    })
}
