//! A list as a whole: what is asked of it, and the one way to a page of its rows.

use super::{After, Condition, Field, Is, Key, Order, conditions, find};
use crate::{Error, Result, Tx};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Postgres, QueryBuilder, Row};

/// A list: its table with the name that the fields know it by (`users u`), its fields, its usual order as a request would write it, and what tells
/// all of its rows apart.
#[derive(Clone, Copy, Debug)]
pub struct List {
    pub from: &'static str,
    pub fields: &'static [Field],
    pub usual: &'static str,
    pub id: Key,
}

/// A row with the place that it has in its list.
#[derive(Clone, Debug)]
pub struct Placed<T> {
    pub item: T,
    /// For [`Order::read`].
    pub place: Vec<Value>,
}

struct PlacedRow<R> {
    row: R,
    place: Vec<Value>,
}

impl<'r, R: FromRow<'r, PgRow>> FromRow<'r, PgRow> for PlacedRow<R> {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let Json(place) = row.try_get("sort_key")?;
        Ok(PlacedRow { row: R::from_row(row)?, place })
    }
}

impl List {
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        find(self.fields, name)
    }

    /// By one field after the other: `-priority,created_at`. None: there is no such order.
    pub fn order(&self, text: &str) -> Option<Order> {
        let mut by: Vec<(Field, bool)> = Vec::new();
        for name in text.split(',').map(str::trim) {
            let (name, descending) = name.strip_prefix('-').map_or((name, false), |name| (name, true));
            let field = self.field(name).filter(|field| field.order.is_some())?;
            if by.iter().any(|(before, _)| before.name == name) {
                return None;
            }
            by.push((*field, descending));
        }
        Some(Order { by, id: self.id })
    }

    /// The first rows, in the usual order.
    pub fn all(&self, limit: i64) -> Wanted {
        let order = self.order(self.usual).unwrap_or(Order { by: Vec::new(), id: self.id });
        Wanted { conditions: Vec::new(), q: None, order, after: None, limit }
    }

    /// The same of those for which this holds.
    pub fn only(&self, name: &str, is: Is, limit: i64) -> Wanted {
        let mut wanted = self.all(limit);
        wanted.conditions.extend(Condition::new(self.fields, name, is));
        wanted
    }

    /// Adds ` from … where …`: the rows of the transaction's organization. Row level security says so too; said here, an index is seen to fit.
    pub fn of_organization(&self, sql: &mut QueryBuilder<Postgres>, tx: &Tx) {
        let name = self.from.rsplit(' ').next().unwrap_or_default();
        sql.push(" from ").push(self.from).push(" where ").push(name).push(".organization_id = ");
        sql.push_bind(tx.organization().0);
    }

    /// One page. `columns` is a query up to its `from`, `more` adds what holds besides the conditions: ` and …`.
    pub async fn rows<R, T>(
        &self,
        tx: &mut Tx,
        wanted: &Wanted,
        columns: &str,
        more: impl FnOnce(&mut QueryBuilder<Postgres>),
    ) -> Result<Vec<Placed<T>>>
    where
        R: for<'r> FromRow<'r, PgRow> + TryInto<T> + Send + Unpin,
        Error: From<R::Error>,
    {
        let mut sql = QueryBuilder::new(columns);
        wanted.order.select(&mut sql);
        self.of_organization(&mut sql, tx);
        more(&mut sql);
        conditions(&mut sql, &wanted.conditions);
        if let Some(after) = &wanted.after {
            wanted.order.after(&mut sql, after);
        }
        wanted.order.by(&mut sql);
        sql.push(" limit ").push_bind(wanted.limit);
        let rows: Vec<PlacedRow<R>> = sql.build_query_as().fetch_all(&mut **tx).await?;
        rows.into_iter().map(|row| Ok(Placed { item: row.row.try_into()?, place: row.place })).collect()
    }
}

/// What is asked of a list.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub conditions: Vec<Condition>,
    /// What is searched for.
    pub q: Option<String>,
    pub order: Order,
    pub after: Option<After>,
    pub limit: i64,
}

impl Wanted {
    /// What holds unless something else was asked of the field.
    pub fn unless_asked(&mut self, list: &List, name: &str, is: Is) {
        if self.conditions.iter().all(|condition| condition.field.name != name) {
            self.conditions.extend(Condition::new(list.fields, name, is));
        }
    }

    /// From this row on.
    pub fn go_on<T>(&mut self, last: &Placed<T>) {
        self.after = self.order.read(last.place.clone());
    }
}
