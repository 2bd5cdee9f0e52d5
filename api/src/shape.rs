//! What a list's items are made of: `fields=number,title` leaves the rest out, `expand=assignee` adds what is behind an id.

use crate::{Caller, Problem, query};
use actions::FieldError;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use domain::{Permission, UserId};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use store::Tx;
use store::ticket_people::PersonName;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ArrayItems, ObjectBuilder};
use utoipa::openapi::{OpenApi, Ref, RefOr, Schema};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

pub(crate) const SHAPING: [&str; 2] = ["fields", "expand"];

/// Documents `fields` and `expand`.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "a description only")]
pub struct Shaping {
    /// Only these fields of each item, separated by commas, besides its id.
    fields: Option<String>,
    /// Also what these ids stand for, separated by commas: in `expanded` of each item.
    expand: Option<String>,
}

/// What the caller wants to see.
#[derive(Clone, Debug, Default)]
pub struct Shape {
    fields: Option<BTreeSet<String>>,
    expand: BTreeSet<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Shape {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut shape = Shape::default();
        for (name, text) in query::pairs(&parts.uri)? {
            let words = || text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned);
            match name.as_str() {
                "fields" => shape.fields = Some(words().collect()),
                "expand" => shape.expand = words().collect(),
                _ => {}
            }
        }
        Ok(shape)
    }
}

/// An item of which all, or only some fields are shown.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Shaped<T> {
    Whole(T),
    Part(Value),
}

impl Shape {
    /// The same with the nouns of what can be expanded.
    pub fn check_with<T: ToSchema>(&self, expandable: &[(&str, Noun)]) -> Result<(), Problem> {
        self.check::<T>(&expandable.iter().map(|(field, _)| *field).collect::<Vec<_>>())
    }

    /// Refuses what items of this kind do not have.
    pub fn check<T: ToSchema>(&self, expandable: &[&str]) -> Result<(), Problem> {
        let mut errors = Vec::new();
        // What there is is worked out from the description, all of it: only if it is asked for.
        let known = if self.fields.is_some() { fields_of::<T>() } else { BTreeSet::new() };
        if let Some(wrong) = self.fields.iter().flatten().find(|field| !known.contains(*field)) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            let detail = format!("there is no field {wrong:?} (there are {})", known.join(", "));
            errors.push(FieldError { pointer: "/fields".to_owned(), detail });
        }
        if let Some(wrong) = self.expand.iter().find(|field| !expandable.contains(&field.as_str())) {
            let detail = format!("{wrong:?} cannot be expanded (can be: {})", expandable.join(", "));
            errors.push(FieldError { pointer: "/expand".to_owned(), detail });
        }
        if errors.is_empty() { Ok(()) } else { Err(Problem::validation(errors)) }
    }

    /// Whether the field is to be seen; what is not need not be looked up.
    pub fn wants(&self, field: &str) -> bool {
        self.fields.as_ref().is_none_or(|fields| fields.contains(field))
    }

    pub fn expands(&self, field: &str) -> bool {
        self.expand.contains(field)
    }

    /// The item as far as it is wanted; whole, it is written once only.
    pub fn shaped<T: Serialize>(&self, item: T) -> Result<Shaped<T>, Problem> {
        Ok(if self.fields.is_none() { Shaped::Whole(item) } else { Shaped::Part(self.item(&item)?) })
    }

    /// Adds what is wanted of these to the items, which are whole: `expanded.manager` for the id in `manager`. What the caller may list, they
    /// may know the names of; of people's addresses [`Named`] decides. Leaves out what is not wanted.
    pub async fn expand(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        items: &mut [Value],
        expandable: &[(&str, Noun)],
    ) -> Result<(), Problem> {
        for (field, noun) in expandable.iter().filter(|(field, _)| self.expands(field)) {
            let id = |item: &Value| item[field].as_str().and_then(|id| id.parse::<Uuid>().ok());
            let ids: HashSet<Uuid> = items.iter().filter_map(id).collect();
            let known = noun.named(tx, caller, &Vec::from_iter(ids)).await?;
            for item in items.iter_mut() {
                let found = id(item).and_then(|id| known.get(&id)).cloned();
                if let (Some(found), Value::Object(fields)) = (found, item) {
                    let expanded = fields.entry("expanded").or_insert_with(|| json!({}));
                    expanded[field] = found;
                }
            }
        }
        items.iter_mut().for_each(|item| self.strip(item));
        Ok(())
    }

    fn strip(&self, item: &mut Value) {
        if let (Some(wanted), Value::Object(fields)) = (&self.fields, item) {
            fields.retain(|name, _| {
                name == "id" || wanted.contains(name) || (name == "expanded" && !self.expand.is_empty())
            });
        }
    }

    /// The item as far as it is wanted.
    pub fn item<T: Serialize>(&self, item: &T) -> Result<Value, Problem> {
        let mut value = serde_json::to_value(item).map_err(|error| Problem::internal(&error))?;
        self.strip(&mut value);
        Ok(value)
    }
}

/// A person behind an id. Who sees an item knows the names in it; where people can be reached is for who may look them up.
#[derive(Debug, Serialize, ToSchema)]
pub struct Named {
    id: Uuid,
    name: String,
    /// For who has `people.read`.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

impl Named {
    pub fn of(id: UserId, person: PersonName, caller: &Caller) -> Named {
        Named { id: id.0, name: person.name, email: address(person.email, caller) }
    }
}

/// Where somebody who stands beside an item can be reached, for who may look people up.
pub fn address(email: String, caller: &Caller) -> Option<String> {
    caller.require(Permission::PeopleRead).is_ok().then_some(email)
}

/// What an id stands for.
#[derive(Clone, Copy, Debug)]
pub enum Noun {
    Person,
    Team,
    Department,
}

impl Noun {
    async fn named(
        self,
        tx: &mut Tx,
        caller: &Caller,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, Value>, Problem> {
        fn as_ids<T: From<Uuid>>(ids: &[Uuid]) -> Vec<T> {
            ids.iter().copied().map(T::from).collect()
        }
        let named = |(id, name): (Uuid, String)| (id, json!({"id": id, "name": name}));
        Ok(match self {
            Noun::Person => {
                let known = store::ticket_people::names(tx, &as_ids(ids)).await?;
                let person =
                    |(id, person): (UserId, PersonName)| (id.0, json!(Named::of(id, person, caller)));
                known.into_iter().map(person).collect()
            }
            Noun::Team => {
                let known = store::ticket_people::team_names(tx, &as_ids(ids)).await?;
                known.into_iter().map(|(id, name)| named((id.0, name))).collect()
            }
            Noun::Department => {
                let known = store::departments::names(tx, &as_ids(ids)).await?;
                known.into_iter().map(|(id, name)| named((id.0, name))).collect()
            }
        })
    }
}

/// In the description: of what a list with `fields` shows everything but the id may be missing.
pub(crate) fn describe(document: &mut OpenApi) {
    let takes_fields = |operation: &&Operation| {
        let mut parameters = operation.parameters.iter().flatten();
        parameters.any(|parameter| matches!(parameter, RefOr::T(one) if one.name == "fields"))
    };
    let gets = document.paths.paths.values().filter_map(|item| item.get.as_ref());
    let pages: BTreeSet<String> = gets.filter(takes_fields).filter_map(page_of).collect();
    let Some(components) = &mut document.components else { return };
    for page in pages {
        let Some(name) = item_of(&components.schemas, &page) else { continue };
        let Some(RefOr::T(Schema::Object(whole))) = components.schemas.get(&name) else { continue };
        let mut part = whole.clone();
        part.required.retain(|field| field == "id");
        // Incidents say what theirs are; of others it is the name of what an id stands for.
        part.properties.entry("expanded".to_owned()).or_insert_with(|| {
            let about =
                "What was asked for with `expand`: under the name of each field what its id stands for.";
            ObjectBuilder::new().description(Some(about)).build().into()
        });
        let listed = format!("{name}Listed");
        components.schemas.insert(listed.clone(), part.into());
        if let Some(RefOr::T(Schema::Object(list))) = components.schemas.get_mut(&page)
            && let Some(RefOr::T(Schema::Array(items))) = list.properties.get_mut("items")
        {
            items.items = ArrayItems::RefOrSchema(Box::new(Ref::from_schema_name(listed).into()));
        }
    }
}

/// The name of what an operation answers.
fn page_of(operation: &Operation) -> Option<String> {
    let RefOr::T(response) = operation.responses.responses.get("200")? else { return None };
    let RefOr::T(content) = response.content.get("application/json")? else { return None };
    name_of(content.schema.as_ref()?)
}

fn item_of(schemas: &BTreeMap<String, RefOr<Schema>>, page: &str) -> Option<String> {
    let RefOr::T(Schema::Object(list)) = schemas.get(page)? else { return None };
    let RefOr::T(Schema::Array(items)) = list.properties.get("items")? else { return None };
    let ArrayItems::RefOrSchema(item) = &items.items else { return None };
    name_of(item)
}

fn name_of(schema: &RefOr<Schema>) -> Option<String> {
    let RefOr::Ref(reference) = schema else { return None };
    reference.ref_location.rsplit('/').next().map(str::to_owned)
}

fn fields_of<T: ToSchema>() -> BTreeSet<String> {
    match T::schema() {
        RefOr::T(Schema::Object(object)) => object.properties.keys().cloned().collect(),
        _ => BTreeSet::new(),
    }
}
