//! Lists: `?page_size=&cursor=&ordering=&q=` and `{"items": […], "next_cursor": …}`.
//!
//! The cursor is opaque to the caller. Inside it is the sort key of the last item shown, so a page costs the same wherever it
//! is, and rows that are added meanwhile neither repeat nor hide others.

use crate::body::nul_in;
use crate::filters::{self, Asked};
use crate::shape::Shape;
use crate::{Problem, query};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::UserId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::listing::{After, List, Order, Placed, Wanted};
use utoipa::{IntoParams, ToSchema};

pub(crate) const PARAMETERS: [&str; 4] = ["page_size", "cursor", "ordering", "q"];
const DEFAULT_SIZE: u16 = 50;
const LARGEST_SIZE: u16 = 200;
/// Characters to search for. Each word costs a look at every row that may match.
pub(crate) const LONGEST_SEARCH: usize = 256;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Pass it as `cursor` for the next page; null at the end.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    pub fn empty() -> Self {
        Page { items: Vec::new(), next_cursor: None }
    }
}

/// What every list takes. Filters come beside it: [`crate::Filters`].
#[derive(Clone, Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// How many items a page has: 1 to 200.
    #[param(minimum = 1, maximum = 200, default = 50, required = false)]
    pub page_size: u16,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// A field, with `-` in front for descending order; where a list says so, several, separated by commas. Lists that have one order
    /// only take no other.
    pub ordering: Option<String>,
    /// What is searched for. Lists that can be searched document it with [`Search`]; others refuse it.
    #[param(ignore)]
    pub q: Option<String>,
}

/// Documents `q`: `params(ListQuery, Search)`. Its value is in [`ListQuery::q`].
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description only")]
pub struct Search {
    /// Words to look for.
    #[param(max_length = 256)]
    q: Option<String>,
}

/// Inside of a cursor: the ordering it belongs to and the sort key of the last item.
#[derive(Serialize, Deserialize)]
struct Cursor<K> {
    o: String,
    k: K,
}

impl<S: Send + Sync> FromRequestParts<S> for ListQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut list = ListQuery { page_size: DEFAULT_SIZE, cursor: None, ordering: None, q: None };
        for (name, value) in query::pairs(&parts.uri)? {
            let value = value.trim();
            match name.as_str() {
                _ if value.is_empty() => {}
                "page_size" => {
                    let size = value.parse().ok().filter(|size| (1..=LARGEST_SIZE).contains(size));
                    let wrong = || {
                        Problem::invalid("/page_size", format!("must be a number from 1 to {LARGEST_SIZE}"))
                    };
                    list.page_size = size.ok_or_else(wrong)?;
                }
                "cursor" => list.cursor = Some(value.to_owned()),
                "ordering" => list.ordering = Some(value.to_owned()),
                "q" if value.chars().count() > LONGEST_SEARCH => {
                    return Err(Problem::invalid(
                        "/q",
                        format!("must be at most {LONGEST_SEARCH} characters long"),
                    ));
                }
                "q" => list.q = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(list)
    }
}

impl ListQuery {
    /// How many rows to ask the database for: one more than shown, which tells whether there is a next page.
    pub fn limit(&self) -> i64 {
        i64::from(self.page_size) + 1
    }

    /// The wanted order, by one field after the other: `-priority,created_at`.
    pub fn sorted_by(&self, list: &List) -> Result<Order, Problem> {
        list.order(self.ordering.as_deref().unwrap_or(list.usual)).ok_or_else(|| {
            let known = filters::sortable(list.fields).join(", ");
            let detail = format!("must be one or more of {known}, each once, with - in front to reverse");
            Problem::invalid("/ordering", detail)
        })
    }

    /// All that is asked of a list. `me` is who `me` stands for.
    pub fn wanted(&self, list: &List, asked: &Asked, me: UserId) -> Result<Wanted, Problem> {
        let conditions = asked.conditions(list.fields, me)?;
        let order = self.sorted_by(list)?;
        let after = self.place(&order)?;
        Ok(Wanted { conditions, q: self.q.clone(), order, after, limit: self.limit() })
    }

    /// The page of these rows, each whole: for [`Shape::expand`].
    pub fn whole<T, V: Serialize>(
        &self,
        rows: Vec<Placed<T>>,
        view: impl FnMut(T) -> V,
    ) -> Result<Page<Value>, Problem> {
        self.shaped(rows, &Shape::default(), view)
    }

    /// The page of these rows, with what is wanted of each.
    pub fn shaped<T, V: Serialize>(
        &self,
        rows: Vec<Placed<T>>,
        shape: &Shape,
        mut view: impl FnMut(T) -> V,
    ) -> Result<Page<Value>, Problem> {
        let page = self.page(rows, |row| row.place.clone(), |row| row.item)?;
        let items = page.items.into_iter().map(|item| shape.item(&view(item)));
        Ok(Page { items: items.collect::<Result<_, _>>()?, next_cursor: page.next_cursor })
    }

    /// Where the page before ended, in a list that is sorted like that.
    pub fn place(&self, order: &Order) -> Result<Option<After>, Problem> {
        let Some(values) = self.after::<Vec<Value>>()? else { return Ok(None) };
        order.read(values).map(Some).ok_or_else(not_a_cursor)
    }

    /// For lists that have one order only: it may be named, another one is refused.
    pub fn fixed_order(&self, order: &str) -> Result<(), Problem> {
        match self.ordering.as_deref() {
            Some(wanted) if wanted != order => {
                Err(Problem::invalid("/ordering", format!("this list is always sorted by {order}")))
            }
            _ => Ok(()),
        }
    }

    /// The sort key after which this page begins, for example `(DateTime<Utc>, Uuid)`.
    pub fn after<K: DeserializeOwned>(&self) -> Result<Option<K>, Problem> {
        let Some(text) = &self.cursor else { return Ok(None) };
        let wrong = not_a_cursor;
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        let cursor: Cursor<Value> = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        let key = cursor.k;
        if nul_in(&key).is_some() {
            return Err(wrong());
        }
        if cursor.o != self.ordering.as_deref().unwrap_or_default() {
            return Err(Problem::invalid(
                "/cursor",
                "belongs to another ordering: begin again without a cursor",
            ));
        }
        serde_json::from_value(key).map(Some).map_err(|_| wrong())
    }

    /// The cursor that leads to what comes after this sort key.
    pub fn cursor_of<K: Serialize>(&self, key: &K) -> Result<String, Problem> {
        let cursor = Cursor { o: self.ordering.clone().unwrap_or_default(), k: key };
        let json = serde_json::to_vec(&cursor).map_err(|error| Problem::internal(&error))?;
        Ok(URL_SAFE_NO_PAD.encode(json))
    }

    /// A page of a short list that is read as a whole. `key` tells its items apart.
    pub fn page_of_all<K: Serialize + DeserializeOwned + PartialEq, T>(
        &self,
        all: Vec<T>,
        key: impl Fn(&T) -> K,
    ) -> Result<Page<T>, Problem> {
        let begin = match self.after::<K>()? {
            // What a cursor names may be gone: then nothing comes after it.
            Some(last) => all.iter().position(|item| key(item) == last).map_or(all.len(), |at| at + 1),
            None => 0,
        };
        let rows = all.into_iter().skip(begin).take(usize::from(self.page_size) + 1).collect();
        self.page(rows, key, |item| item)
    }

    /// Makes the page of up to [`ListQuery::limit`] rows; `key` is the sort key of a row, as [`ListQuery::after`] reads it.
    pub fn page<R, K: Serialize, T>(
        &self,
        mut rows: Vec<R>,
        key: impl Fn(&R) -> K,
        item: impl FnMut(R) -> T,
    ) -> Result<Page<T>, Problem> {
        let size = usize::from(self.page_size);
        let more = rows.len() > size;
        rows.truncate(size);
        let next_cursor = match rows.last() {
            Some(last) if more => Some(self.cursor_of(&key(last))?),
            _ => None,
        };
        Ok(Page { items: rows.into_iter().map(item).collect(), next_cursor })
    }
}

fn not_a_cursor() -> Problem {
    Problem::invalid("/cursor", "is not a cursor of this list: take next_cursor of the page before")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(page_size: u16, cursor: Option<String>) -> ListQuery {
        ListQuery { page_size, cursor, ordering: None, q: None }
    }

    #[test]
    fn walks_through_all_rows_once() {
        let all: Vec<u32> = (0..7).collect();
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let query = list(3, cursor);
            let after: Option<u32> = query.after().unwrap();
            let rows = all
                .iter()
                .copied()
                .filter(|n| after.is_none_or(|last| *n > last))
                .take(query.limit() as usize);
            let page = query.page(rows.collect(), |n| *n, |n| n).unwrap();
            seen.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn refuses_foreign_cursors() {
        for bad in ["x", "e30", "%%%"] {
            assert!(list(3, Some(bad.into())).after::<u32>().is_err());
        }
        let page = list(1, None).page(vec![1, 2], |n| *n, |n| n).unwrap();
        let other = ListQuery { ordering: Some("title".into()), ..list(1, page.next_cursor) };
        assert!(other.after::<u32>().is_err());
    }
}
