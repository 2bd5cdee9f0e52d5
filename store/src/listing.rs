//! What a list can be filtered and sorted by, as a table of fields: the only way from a request's words to a condition in SQL.
//!
//! A list names its fields with the expressions that stand for them; what comes from outside is compared with the names of the
//! table and bound as a parameter, never written into the statement: what is written there are words of the table.

mod list;

pub use list::{List, Placed, Wanted};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;
use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

/// One field of a list.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As the interface calls it.
    pub name: &'static str,
    /// What it is compared with.
    pub kind: Kind,
    /// None: it can be sorted by only.
    pub test: Option<Test>,
    /// `field[null]=` makes sense.
    pub may_be_null: bool,
    /// None: it cannot be sorted by. What is offered has an index that gives the order, or a list so short that it needs none.
    pub order: Option<Sort>,
    /// What a caller cannot guess from the name.
    pub about: &'static str,
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug)]
pub enum Sort {
    /// The id alone, which grows with time.
    Id,
    By(Key),
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// One of these words.
    Words(&'static [&'static str]),
    Text,
    /// Texts that are compared in lower case.
    LowerText,
    Id,
    /// A ticket by its id or number; whoever reads the request looks it up.
    Ticket,
    /// An IP address.
    Address,
    Flag,
    Time,
    Number,
}

/// Where the value stands.
#[derive(Clone, Copy, Debug)]
pub enum Test {
    Column(&'static str),
    /// A query up to a column, in which any of the values may be found: `exists (select from tags g where g.x = t.id and g.tag`.
    Within(&'static str),
    /// In one of two columns.
    Either(&'static str, &'static str),
}

/// An expression to sort by, which is never null, and how the text of a cursor becomes its type.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub sql: &'static str,
    pub cast: &'static str,
}

impl Key {
    pub const fn uuid(sql: &'static str) -> Key {
        Key { sql, cast: "uuid" }
    }
}

const fn tested(name: &'static str, kind: Kind, test: Test) -> Field {
    Field { name, kind, test: Some(test), may_be_null: false, order: None, about: "" }
}

/// A field that can be filtered by.
pub const fn field(name: &'static str, kind: Kind, column: &'static str) -> Field {
    tested(name, kind, Test::Column(column))
}

/// A field whose values stand in rows of their own.
pub const fn within(name: &'static str, kind: Kind, query: &'static str) -> Field {
    tested(name, kind, Test::Within(query))
}

/// A field that stands in two columns.
pub const fn either(name: &'static str, kind: Kind, one: &'static str, other: &'static str) -> Field {
    tested(name, kind, Test::Either(one, other))
}

impl Field {
    pub const fn or_null(self) -> Field {
        Field { may_be_null: true, ..self }
    }

    pub const fn says(self, about: &'static str) -> Field {
        Field { about, ..self }
    }

    /// Sorted by this expression.
    pub const fn by(self, sql: &'static str, cast: &'static str) -> Field {
        Field { order: Some(Sort::By(Key { sql, cast })), ..self }
    }

    /// Sorted by the id, which grows with it.
    pub const fn by_id(self) -> Field {
        Field { order: Some(Sort::Id), ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    AtLeast,
    Above,
    AtMost,
    Below,
}

impl Compare {
    fn sql(self) -> &'static str {
        match self {
            Compare::AtLeast => ">=",
            Compare::Above => ">",
            Compare::AtMost => "<=",
            Compare::Below => "<",
        }
    }
}

/// What is asked of a field; its values are of the field's kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Is {
    Text(Vec<String>),
    Id(Vec<Uuid>),
    Number(Vec<i64>),
    Flag(bool),
    Null(bool),
    Time(Compare, DateTime<Utc>),
    Size(Compare, i64),
}

/// All conditions of a list must hold.
#[derive(Clone, Debug)]
pub struct Condition {
    pub field: Field,
    pub is: Is,
}

impl Condition {
    pub fn new(fields: &[Field], name: &str, is: Is) -> Option<Condition> {
        Some(Condition { field: *find(fields, name)?, is })
    }
}

pub fn find<'a>(fields: &'a [Field], name: &str) -> Option<&'a Field> {
    fields.iter().find(|field| field.name == name)
}

/// Adds ` and …` for each condition.
pub fn conditions(sql: &mut QueryBuilder<Postgres>, conditions: &[Condition]) {
    for condition in conditions {
        let Some(test) = condition.field.test else { continue };
        // Written out, so that a partial index is seen to fit.
        let not = if condition.is == Is::Flag(false) { "not " } else { "" };
        sql.push(" and ");
        match test {
            Test::Column(column) => {
                sql.push(not).push(column);
                comparison(sql, condition);
            }
            Test::Within(query) => {
                sql.push(not).push(query);
                comparison(sql, condition);
                sql.push(")");
            }
            Test::Either(one, other) => {
                sql.push(not).push("(").push(one);
                comparison(sql, condition);
                sql.push(" or ").push(other);
                comparison(sql, condition);
                sql.push(")");
            }
        }
    }
}

/// What follows the column. One value is compared as such, which leaves an index its order.
fn comparison(sql: &mut QueryBuilder<Postgres>, condition: &Condition) {
    match (&condition.is, condition.field.kind) {
        (Is::Text(any), Kind::Words(words)) => {
            sql.push(" = any('{").push(known(words, any)).push("}')");
        }
        (Is::Text(any), _) if any.len() == 1 => drop(sql.push(" = ").push_bind(any[0].clone())),
        (Is::Id(any), _) if any.len() == 1 => drop(sql.push(" = ").push_bind(any[0])),
        (Is::Number(any), _) if any.len() == 1 => drop(sql.push(" = ").push_bind(any[0])),
        (Is::Text(any), _) => drop(sql.push(" = any(").push_bind(any.clone()).push(")")),
        (Is::Id(any), _) => drop(sql.push(" = any(").push_bind(any.clone()).push(")")),
        (Is::Number(any), _) => drop(sql.push(" = any(").push_bind(any.clone()).push(")")),
        (Is::Flag(_), _) => {}
        (Is::Null(true), _) => drop(sql.push(" is null")),
        (Is::Null(false), _) => drop(sql.push(" is not null")),
        (Is::Time(compare, time), _) => drop(sql.push(" ").push(compare.sql()).push(" ").push_bind(*time)),
        (Is::Size(compare, size), _) => drop(sql.push(" ").push(compare.sql()).push(" ").push_bind(*size)),
    }
}

/// Adds ` and …`: what is searched for is a part of these texts, in either case.
pub fn contains(sql: &mut QueryBuilder<Postgres>, q: Option<&str>, texts: &str) {
    if let Some(q) = q.map(str::trim).filter(|q| !q.is_empty()) {
        sql.push(" and position(lower(").push_bind(q.replace('\0', " "));
        sql.push(") in lower(").push(texts).push(")) > 0");
    }
}

/// The words of the table that are meant. They are written out, so that a statement is planned for them.
fn known(words: &[&'static str], any: &[String]) -> String {
    let known = words.iter().filter(|word| any.iter().any(|wanted| wanted == *word));
    known.copied().collect::<Vec<_>>().join(",")
}

/// The order of a list: one field after the other, at last the id, which no two rows share.
#[derive(Clone, Debug)]
pub struct Order {
    /// With true: descending.
    pub by: Vec<(Field, bool)>,
    /// `t.id`.
    pub id: Key,
}

/// The last row of the page before: its values in the order's fields and its id, as texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    pub keys: Vec<String>,
    pub id: String,
}

impl Order {
    /// Up to the first field that stands for the id: no two rows are equal in that.
    pub fn keys(&self) -> Vec<(Key, bool)> {
        let key = |(field, descending): &(Field, bool)| match field.order {
            Some(Sort::By(key)) => Some((key, *descending)),
            Some(Sort::Id) | None => None,
        };
        self.by.iter().map_while(key).collect()
    }

    /// Of the id: that of the field that stands for it, else that of the last one.
    pub fn last_descends(&self) -> bool {
        let id = self.by.iter().find(|(field, _)| matches!(field.order, Some(Sort::Id)));
        id.or(self.by.last()).is_some_and(|(_, descending)| *descending)
    }

    /// A column `sort_key` for the select list: what [`After::read`] makes a cursor of.
    pub fn select(&self, sql: &mut QueryBuilder<Postgres>) {
        sql.push(", jsonb_build_array(");
        for (key, _) in self.keys() {
            sql.push(key.sql).push(", ");
        }
        sql.push(self.id.sql).push(") as sort_key");
    }

    /// Adds ` and …`: only what comes after. With one direction that is one comparison of rows, which an index answers.
    pub fn after(&self, sql: &mut QueryBuilder<Postgres>, after: &After) {
        let mut columns: Vec<(&str, &str, bool, String)> = Vec::new();
        for ((key, descending), value) in self.keys().into_iter().zip(&after.keys) {
            columns.push((key.sql, key.cast, descending, value.clone()));
        }
        columns.push((self.id.sql, self.id.cast, self.last_descends(), after.id.clone()));
        if columns.iter().all(|(_, _, descending, _)| *descending == columns[0].2) {
            let names: Vec<&str> = columns.iter().map(|(name, ..)| *name).collect();
            sql.push(" and (").push(names.join(", ")).push(if columns[0].2 { ") < (" } else { ") > (" });
            for (at, (_, cast, _, value)) in columns.into_iter().enumerate() {
                sql.push(if at == 0 { "" } else { ", " }).push_bind(value).push("::").push(cast);
            }
            sql.push(")");
            return;
        }
        // (a < x or (a = x and (b > y or (b = y and …))))
        let depth = columns.len();
        sql.push(" and ");
        for (at, (name, cast, descending, value)) in columns.into_iter().enumerate() {
            sql.push("(").push(name).push(if descending { " < " } else { " > " });
            sql.push_bind(value.clone()).push("::").push(cast);
            if at + 1 < depth {
                sql.push(" or (").push(name).push(" = ").push_bind(value).push("::").push(cast).push(" and ");
            }
        }
        sql.push(")".repeat(2 * depth - 1));
    }

    /// Adds ` order by …`.
    pub fn by(&self, sql: &mut QueryBuilder<Postgres>) {
        sql.push(" order by ");
        let direction = |descending: bool| if descending { " desc" } else { " asc" };
        for (key, descending) in self.keys() {
            sql.push(key.sql).push(direction(descending)).push(", ");
        }
        sql.push(self.id.sql).push(direction(self.last_descends()));
    }

    /// What stands in a cursor; it comes from outside, so it is checked before SQL sees it. None: it is none of this order.
    pub fn read(&self, mut values: Vec<Value>) -> Option<After> {
        let keys = self.keys();
        let id = text_of(&self.id, values.pop()?)?;
        if values.len() != keys.len() {
            return None;
        }
        let keys =
            keys.iter().zip(values).map(|((key, _), value)| text_of(key, value)).collect::<Option<_>>()?;
        Some(After { keys, id })
    }
}

/// What the database takes for a value of the key's type.
fn text_of(key: &Key, value: Value) -> Option<String> {
    match (key.cast, value) {
        ("timestamptz", Value::String(text)) => {
            let time = DateTime::parse_from_rfc3339(&text).ok()?.with_timezone(&Utc);
            Some(time.to_rfc3339_opts(SecondsFormat::Micros, true))
        }
        ("integer", Value::Number(number)) => {
            Some(number.as_i64().filter(|n| i32::try_from(*n).is_ok())?.to_string())
        }
        ("bigint", Value::Number(number)) => Some(number.as_i64()?.to_string()),
        ("uuid", Value::String(text)) => Some(text.parse::<Uuid>().ok()?.to_string()),
        ("text", Value::String(text)) if !text.contains('\0') => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NAME: Field = field("name", Kind::Text, "t.name").by("t.name", "text");
    const RANK: Field = field("rank", Kind::Number, "t.rank").by("t.rank", "integer");
    const MADE: Field = field("made", Kind::Time, "t.made").by("t.made", "timestamptz");

    fn sql_of(by: &[(Field, bool)]) -> String {
        let order = Order { by: by.to_vec(), id: Key::uuid("t.id") };
        let after = After { keys: vec!["x".into(); order.keys().len()], id: Uuid::nil().to_string() };
        let mut sql = QueryBuilder::new("");
        order.after(&mut sql, &after);
        order.by(&mut sql);
        sql.into_string()
    }

    #[test]
    fn one_direction_is_one_comparison_and_mixed_ones_are_nested() {
        assert_eq!(
            sql_of(&[(MADE, true)]),
            " and (t.made, t.id) < ($1::timestamptz, $2::uuid) order by t.made desc, t.id desc"
        );
        assert_eq!(
            sql_of(&[(RANK, false), (MADE, true)]),
            " and (t.rank > $1::integer or (t.rank = $2::integer and (t.made < $3::timestamptz or (t.made = $4::timestamptz and \
             (t.id < $5::uuid))))) order by t.rank asc, t.made desc, t.id desc"
        );
    }

    #[test]
    fn what_stands_for_the_id_ends_the_order() {
        let born = Field { order: Some(Sort::Id), ..MADE };
        assert_eq!(sql_of(&[(born, true)]), " and (t.id) < ($1::uuid) order by t.id desc");
        let both = Order { by: vec![(born, false), (NAME, true)], id: Key::uuid("t.id") };
        assert!(both.keys().is_empty() && !both.last_descends());
    }

    #[test]
    fn a_cursor_is_read_as_its_order_needs_it() {
        let order = Order { by: vec![(MADE, true), (RANK, false), (NAME, false)], id: Key::uuid("t.id") };
        let id = json!(Uuid::nil());
        let good = vec![json!("2026-11-22T04:00:00.123456+00:00"), json!(3), json!("x'); drop"), id.clone()];
        let read = order.read(good).unwrap();
        assert_eq!(read.keys, ["2026-11-22T04:00:00.123456Z", "3", "x'); drop"]);
        for bad in [
            vec![json!("yesterday"), json!(3), json!("x"), id.clone()],
            vec![json!("2026-11-22T04:00:00Z"), json!("3"), json!("x"), id.clone()],
            vec![json!("2026-11-22T04:00:00Z"), json!(1_u64 << 40), json!("x"), id.clone()],
            vec![json!("2026-11-22T04:00:00Z"), json!(3), json!("a\0b"), id.clone()],
            vec![json!("2026-11-22T04:00:00Z"), json!(3), json!("x"), json!("no id")],
            vec![json!("2026-11-22T04:00:00Z"), id],
            vec![],
        ] {
            assert_eq!(order.read(bad.clone()), None, "{bad:?}");
        }
    }
}
