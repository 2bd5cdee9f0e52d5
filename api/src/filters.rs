//! Filters of lists, by one grammar for all: `status=new,pending` (any of), `created_at[gte]=…`, `assignee[null]=true`.
//!
//! A list hands over its table of fields (`store::listing`). From it come the parameters of the OpenAPI document, so that any other
//! name is refused before a handler runs, and the conditions.

use crate::body::NUL;
use crate::moment;
use crate::page::PARAMETERS;
use crate::shape::SHAPING;
use crate::{Problem, query};
use actions::FieldError;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use domain::{Actor, UserId};
use std::net::IpAddr;
use store::Tx;
use store::listing::{Compare, Condition, Field, Is, Kind, List, Test};
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};
use utoipa::openapi::{KnownFormat, Required, SchemaFormat};
use uuid::Uuid;

/// More values than that are no filter.
const MOST_VALUES: usize = 100;
const COMPARISONS: [(&str, Compare, &str); 4] = [
    ("gte", Compare::AtLeast, "at least"),
    ("gt", Compare::Above, "more than"),
    ("lte", Compare::AtMost, "at most"),
    ("lt", Compare::Below, "less than"),
];

/// The filters of a request, as they were written.
#[derive(Clone, Debug)]
pub struct Asked(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut pairs = query::pairs(&parts.uri)?;
        pairs.retain(|(name, _)| !PARAMETERS.contains(&name.as_str()) && !SHAPING.contains(&name.as_str()));
        Ok(Asked(pairs))
    }
}

impl Asked {
    /// The same written elsewhere: `status=new&team=none`.
    pub fn of_text(text: &str) -> Result<Asked, Problem> {
        let pairs = query::pairs_of(text)?;
        match pairs.iter().find(|(_, value)| value.contains('\0')) {
            Some((name, _)) => Err(Problem::invalid(format!("/{name}"), NUL)),
            None => Ok(Asked(pairs)),
        }
    }

    /// The words to search for apart from the filters.
    pub fn without_q(mut self) -> (Asked, Option<String>) {
        let q = self.take("q");
        (self, q)
    }

    /// What is no filter of the list goes elsewhere.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(one, _)| one == name);
        at.map(|at| self.0.remove(at).1)
    }

    /// With the id of each ticket that is named by its number. One that is not there, or that the caller does not see, is nobody's: it finds nothing.
    pub async fn with_tickets(mut self, tx: &mut Tx, actor: &Actor, list: &List) -> Result<Asked, Problem> {
        for (name, text) in &mut self.0 {
            let is_ticket = list.field(name).is_some_and(|field| matches!(field.kind, Kind::Ticket));
            if !is_ticket || text.trim() == "none" || text.split(',').count() > MOST_VALUES {
                continue;
            }
            let mut ids = Vec::new();
            for key in text.split(',').map(str::trim).filter(|key| !key.is_empty()) {
                ids.push(match actions::tickets::find(tx, actor, key).await {
                    Ok(ticket) => ticket.id.to_string(),
                    Err(actions::Error::NotFound) => Uuid::nil().to_string(),
                    Err(error) => return Err(error.into()),
                });
            }
            *text = ids.join(",");
        }
        Ok(self)
    }

    /// The conditions on these fields. `me` is who `me` stands for.
    pub fn conditions(&self, fields: &[Field], me: UserId) -> Result<Vec<Condition>, Problem> {
        let (mut conditions, mut errors) = (Vec::new(), Vec::new());
        for (at, (name, text)) in self.0.iter().enumerate() {
            let read = if self.0[..at].iter().any(|(before, _)| before == name) {
                Err("is there twice".to_owned())
            } else {
                condition(fields, name, text.trim(), me)
            };
            match read {
                Ok(condition) => conditions.push(condition),
                Err(detail) => errors.push(FieldError { pointer: format!("/{name}"), detail }),
            }
        }
        if errors.is_empty() { Ok(conditions) } else { Err(Problem::validation(errors)) }
    }
}

fn condition(fields: &[Field], name: &str, text: &str, me: UserId) -> Result<Condition, String> {
    let (bare, operator) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
        Some((bare, operator)) => (bare, Some(operator)),
        None => (name, None),
    };
    let known = |field: &&Field| field.name == bare && field.test.is_some();
    let field = fields.iter().find(known).ok_or("is not a filter here")?;
    let is = match operator {
        None if field.may_be_null && text == "none" => Is::Null(true),
        None => equal(field.kind, text, me)?,
        Some("null") if field.may_be_null => Is::Null(flag(text)?),
        Some(operator) => {
            let comparison = COMPARISONS.iter().find(|(name, ..)| *name == operator);
            let (_, compare, _) = comparison.ok_or("is not a comparison here")?;
            match field.kind {
                Kind::Time => Is::Time(*compare, moment::of_text(text)?),
                Kind::Number => Is::Size(*compare, number(text)?),
                _ => return Err("is not a comparison here".to_owned()),
            }
        }
    };
    Ok(Condition { field: *field, is })
}

fn equal(kind: Kind, text: &str, me: UserId) -> Result<Is, String> {
    let values = || -> Result<Vec<&str>, String> {
        let values: Vec<&str> = text.split(',').map(str::trim).filter(|value| !value.is_empty()).collect();
        match values.len() {
            0 => Err("needs a value".to_owned()),
            n if n > MOST_VALUES => Err(format!("takes {MOST_VALUES} values at most")),
            _ => Ok(values),
        }
    };
    Ok(match kind {
        Kind::Words(words) => {
            let wrong = |value: &&&str| !words.contains(*value);
            if let Some(value) = values()?.iter().find(wrong) {
                return Err(format!("{value:?} is not one of {}", words.join(", ")));
            }
            Is::Text(values()?.into_iter().map(str::to_owned).collect())
        }
        Kind::Text => Is::Text(values()?.into_iter().map(str::to_owned).collect()),
        Kind::LowerText => Is::Text(values()?.into_iter().map(str::to_lowercase).collect()),
        Kind::Id => {
            let id = |value: &str| match value {
                "me" => Ok(me.0),
                value => value.parse().map_err(|_| format!("{value:?} is not an id")),
            };
            Is::Id(values()?.into_iter().map(id).collect::<Result<_, _>>()?)
        }
        Kind::Ticket => {
            let id = |value: &str| value.parse().map_err(|_| format!("{value:?} is not a ticket"));
            Is::Id(values()?.into_iter().map(id).collect::<Result<_, _>>()?)
        }
        Kind::Address => {
            let address = |value: &str| match value.parse::<IpAddr>() {
                Ok(address) => Ok(address.to_canonical().to_string()),
                Err(_) => Err(format!("{value:?} is not an IP address")),
            };
            Is::Text(values()?.into_iter().map(address).collect::<Result<_, _>>()?)
        }
        Kind::Number => Is::Number(values()?.into_iter().map(number).collect::<Result<_, _>>()?),
        Kind::Flag => Is::Flag(flag(text)?),
        Kind::Time => return Err("is a time: compare it, for example with [gte] and [lt]".to_owned()),
    })
}

fn flag(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be true or false".to_owned())
}

fn number(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number"))
}

/// Describes the filters of a list: `filters!(UserFilters, users::FIELDS);` and `params(…, UserFilters)`.
macro_rules! filters {
    ($scope:vis $name:ident, $fields:expr) => {
        $scope struct $name;

        impl utoipa::IntoParams for $name {
            fn into_params(
                _: impl Fn() -> Option<utoipa::openapi::path::ParameterIn>,
            ) -> Vec<utoipa::openapi::path::Parameter> {
                $crate::filters::parameters($fields)
            }
        }
    };
}
pub(crate) use filters;

/// The description of what [`Asked::conditions`] takes.
pub fn parameters(fields: &[Field]) -> Vec<Parameter> {
    let mut all = Vec::new();
    let mut add = |name: String, description: String, schema: Object| {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(schema));
        all.push(parameter.build());
    };
    let of = |kind| ObjectBuilder::new().schema_type(kind);
    for field in fields.iter().filter(|field| field.test.is_some()) {
        let name = field.name;
        let mut add = |name: String, text: String, schema: Object| {
            add(name, [field.about, &text].join(" ").trim_start().to_owned(), schema);
        };
        let none = if field.may_be_null { "; or `none`" } else { "" };
        match field.kind {
            Kind::Time => {}
            Kind::Flag => add(name.to_owned(), "true or false.".to_owned(), of(Type::Boolean).build()),
            Kind::Words(words) => {
                let text = format!("Any of these, separated by commas: {}.", words.join(", "));
                add(name.to_owned(), text, of(Type::String).examples([words[0]]).build());
            }
            Kind::Id => {
                let text = format!("An id or several, separated by commas; `me` is oneself{none}.");
                add(name.to_owned(), text, of(Type::String).build());
            }
            Kind::Ticket => {
                let text = format!("A ticket's id or number, or several, separated by commas{none}.");
                add(name.to_owned(), text, of(Type::String).examples(["INC0000123"]).build());
            }
            Kind::Address => {
                let text = format!("An IP address or several, separated by commas{none}.");
                add(name.to_owned(), text, of(Type::String).examples(["192.0.2.7"]).build());
            }
            Kind::Text | Kind::LowerText => {
                let text = format!("A value or several, separated by commas{none}.");
                add(name.to_owned(), text, of(Type::String).build());
            }
            Kind::Number => {
                let text = format!("A number or several, separated by commas{none}.");
                add(name.to_owned(), text, of(Type::String).examples(["1"]).build());
            }
        }
        let compared = match field.kind {
            Kind::Time => {
                let format = Some(SchemaFormat::KnownFormat(KnownFormat::DateTime));
                Some(of(Type::String).format(format).build())
            }
            Kind::Number => Some(of(Type::Integer).build()),
            _ => None,
        };
        for (operator, _, words) in COMPARISONS {
            if let Some(schema) = &compared {
                add(format!("{name}[{operator}]"), format!("{words} this."), schema.clone());
            }
        }
        if field.may_be_null && matches!(field.test, Some(Test::Column(_))) {
            let text = "true: has none; false: has one.".to_owned();
            add(format!("{name}[null]"), text, of(Type::Boolean).build());
        }
    }
    all
}

/// The fields that a list can be sorted by, for its description.
pub fn sortable(fields: &[Field]) -> Vec<&'static str> {
    fields.iter().filter(|field| field.order.is_some()).map(|field| field.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::listing::field;

    const FIELDS: &[Field] = &[
        field("status", Kind::Words(&["new", "closed"]), "t.status"),
        field("owner", Kind::Id, "t.owner_id").or_null(),
        field("made", Kind::Time, "t.made"),
        field("size", Kind::Number, "t.size"),
        field("open", Kind::Flag, "t.open"),
        field("ticket", Kind::Ticket, "t.ticket_id").or_null(),
        field("address", Kind::Address, "t.address"),
        Field { test: None, ..field("rank", Kind::Number, "t.rank") },
    ];

    fn read(text: &str) -> Result<Vec<Is>, Problem> {
        let conditions = Asked::of_text(text)?.conditions(FIELDS, UserId(uuid::Uuid::from_u128(7)))?;
        Ok(conditions.into_iter().map(|condition| condition.is).collect())
    }

    #[test]
    fn the_grammar_is_read() {
        let texts = |values: &[&str]| Is::Text(values.iter().map(|value| (*value).to_owned()).collect());
        let (me, other) = (uuid::Uuid::from_u128(7), uuid::Uuid::from_u128(8));
        let time = "2026-11-22T04:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("status=new", texts(&["new"])),
            ("status=new, closed,", texts(&["new", "closed"])),
            (&format!("owner=me,{other}"), Is::Id(vec![me, other])),
            ("owner=none", Is::Null(true)),
            ("owner%5Bnull%5D=false", Is::Null(false)),
            ("made[gte]=2026-11-22T04:00:00Z", Is::Time(Compare::AtLeast, time)),
            ("made[lt]=2026-11-22T05:00:00%2B01:00", Is::Time(Compare::Below, time)),
            ("size=1,2", Is::Number(vec![1, 2])),
            ("size[gt]=3", Is::Size(Compare::Above, 3)),
            ("open=false", Is::Flag(false)),
            (&format!("ticket={other}"), Is::Id(vec![other])),
            ("ticket=none", Is::Null(true)),
            ("address=::ffff:192.0.2.7,2001:DB8:0::1", texts(&["192.0.2.7", "2001:db8::1"])),
        ] {
            assert_eq!(read(text).unwrap(), [expected], "{text}");
        }
        assert_eq!(read("made[gte]=2026-11-22T04:00:00Z&made[lt]=2026-11-23T04:00:00Z").unwrap().len(), 2);
    }

    #[test]
    fn what_is_not_in_the_table_is_refused() {
        for text in [
            "status=",
            "status=,",
            "status=open",
            "status[gte]=new",
            "status[null]=true",
            "status=new&status=closed",
            "owner=you",
            "owner=none,me",
            "owner[null]=maybe",
            "made=2026-11-22T04:00:00Z",
            "made[gte]=yesterday",
            "made[gte]=0000-01-01T00:00:00Z",
            "made[ne]=2026-11-22T04:00:00Z",
            "size=x",
            "size[gt]=1.5",
            "open=1",
            "ticket=me",
            "ticket[gte]=INC0000001",
            "address=192.0.2",
            "address=192.0.2.0/24",
            "rank=1",
            "colour=red",
            "status[=new",
            "t.status=new",
            "status; drop table t=new",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        let many = format!("size={}", vec!["1"; MOST_VALUES + 1].join(","));
        assert!(read(&many).is_err());
    }

    #[test]
    fn everything_that_is_described_is_taken() {
        for parameter in parameters(FIELDS) {
            let value = match parameter.name.as_str() {
                "status" => "new",
                "size" | "size[gt]" | "size[gte]" | "size[lt]" | "size[lte]" => "1",
                "open" | "owner[null]" | "ticket[null]" => "true",
                "owner" => "me",
                "ticket" => "00000000-0000-0000-0000-000000000008",
                "address" => "192.0.2.7",
                _ => "2026-11-22T04:00:00Z",
            };
            assert!(read(&format!("{}={value}", parameter.name)).is_ok(), "{}", parameter.name);
        }
    }
}
