//! Configuration items, their categories and relationships, kept by hand.

use crate::{Error, Result, check, events};
use domain::cmdb::{CiRelationKind, CiStatus, identifies};
use domain::permission::{self, Permission};
use domain::{Actor, CiCategoryId, CiId, CiRelationshipId};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use store::Tx;
use store::ci_categories::CiCategory;
use store::ci_relationships::CiRelationship;
use store::configuration_items::ConfigurationItem;

/// Bytes of an item's attributes as JSON.
const MAX_ATTRIBUTES: usize = 256 * 1024;

const WORDS: [(&str, &str, &str); 2] = [
    ("configuration_items_category_fkey", "/category", "there is no such category"),
    ("ci_identifiers_value_key", "/identifiers", "another configuration item has one of these identifiers"),
];

/// All that a person sets.
#[derive(Clone, Debug)]
pub struct CiFields {
    pub name: String,
    pub class: String,
    pub category: Option<CiCategoryId>,
    pub status: CiStatus,
    pub description: String,
    pub attributes: Map<String, Value>,
    pub identifiers: BTreeMap<String, String>,
}

impl CiFields {
    fn checked(self) -> Result<CiFields> {
        if Value::Object(self.attributes.clone()).to_string().len() > MAX_ATTRIBUTES {
            return Err(Error::invalid("/attributes", "must be at most 256 KiB as JSON"));
        }
        if contains_nul(&Value::Object(self.attributes.clone())) || self.description.contains('\0') {
            return Err(Error::invalid("/attributes", "must not contain the character NUL"));
        }
        if self.description.chars().count() > 100_000 {
            return Err(Error::invalid("/description", "must be at most 100000 characters long"));
        }
        if self.identifiers.len() > 50 {
            return Err(Error::invalid("/identifiers", "must be at most 50"));
        }
        let mut identifiers = BTreeMap::new();
        for (key, value) in self.identifiers {
            let pointer = format!("/identifiers/{key}");
            let (key, value) = (check::text(&pointer, &key, 100)?, check::text(&pointer, &value, 500)?);
            if !identifies(&value) {
                return Err(Error::invalid(
                    pointer,
                    "is a placeholder that identifies nothing: leave it out",
                ));
            }
            identifiers.insert(key, value);
        }
        Ok(CiFields {
            name: check::text("/name", &self.name, 300)?,
            class: check::text("/class", &self.class, 100)?,
            identifiers,
            ..self
        })
    }
}

fn contains_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(elements) => elements.iter().any(contains_nul),
        Value::Object(members) => {
            members.iter().any(|(name, value)| name.contains('\0') || contains_nul(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

pub async fn create(tx: &mut Tx, actor: &Actor, fields: CiFields) -> Result<ConfigurationItem> {
    permission::check(actor, Permission::CmdbManage)?;
    let (fields, now) = (fields.checked()?, tx.now());
    let ci = ConfigurationItem {
        id: CiId::new(),
        name: fields.name,
        class: fields.class,
        category: fields.category,
        status: fields.status,
        description: fields.description,
        attributes: fields.attributes,
        identifiers: fields.identifiers,
        discovery_source: None,
        last_seen_at: None,
        missing_since: None,
        version: 1,
        created_at: now,
        updated_at: now,
    };
    check::constraints(store::configuration_items::insert(tx, &ci).await, &WORDS)?;
    tell(tx, actor, "configuration_item.created", &ci).await?;
    Ok(ci)
}

/// Writes all fields over `before`, which must not have changed since it was read.
pub async fn update(
    tx: &mut Tx,
    actor: &Actor,
    before: ConfigurationItem,
    fields: CiFields,
) -> Result<ConfigurationItem> {
    permission::check(actor, Permission::CmdbManage)?;
    let fields = fields.checked()?;
    let mut ci = ConfigurationItem {
        name: fields.name,
        class: fields.class,
        category: fields.category,
        status: fields.status,
        description: fields.description,
        attributes: fields.attributes,
        identifiers: fields.identifiers,
        updated_at: tx.now(),
        ..before
    };
    ci.version = check::constraints(store::configuration_items::update(tx, &ci).await, &WORDS)?;
    tell(tx, actor, "configuration_item.updated", &ci).await?;
    Ok(ci)
}

pub async fn delete(tx: &mut Tx, actor: &Actor, id: CiId) -> Result<()> {
    permission::check(actor, Permission::CmdbManage)?;
    let ci = store::configuration_items::get(tx, id).await?;
    store::configuration_items::delete(tx, id).await?;
    tell(tx, actor, "configuration_item.deleted", &ci).await
}

async fn tell(tx: &mut Tx, actor: &Actor, kind: &str, ci: &ConfigurationItem) -> Result<()> {
    let payload =
        json!({"configuration_item": ci.id, "name": ci.name, "class": ci.class, "status": ci.status});
    events::record(tx, actor, kind, None, payload).await?;
    Ok(())
}

const CATEGORY_WORDS: [(&str, &str, &str); 2] = [
    ("ci_categories_name_key", check::CONFLICT, "there is a category of that name already"),
    ("ci_categories_parent_fkey", "/parent", "there is no such category"),
];

#[derive(Clone, Debug)]
pub struct CategoryFields {
    pub name: String,
    pub description: String,
    pub parent: Option<CiCategoryId>,
}

pub async fn create_category(tx: &mut Tx, actor: &Actor, fields: CategoryFields) -> Result<CiCategory> {
    permission::check(actor, Permission::CmdbManage)?;
    let now = tx.now();
    let category = CiCategory {
        id: CiCategoryId::new(),
        name: check::name(&fields.name)?,
        description: check::optional_text("/description", Some(&fields.description), 2000)?
            .unwrap_or_default(),
        parent: fields.parent,
        created_at: now,
        updated_at: now,
    };
    check::constraints(store::ci_categories::insert(tx, &category).await, &CATEGORY_WORDS)?;
    events::record(
        tx,
        actor,
        "ci_category.created",
        None,
        json!({"ci_category": category.id, "name": category.name}),
    )
    .await?;
    Ok(category)
}

pub async fn update_category(
    tx: &mut Tx,
    actor: &Actor,
    before: CiCategory,
    fields: CategoryFields,
) -> Result<CiCategory> {
    permission::check(actor, Permission::CmdbManage)?;
    if let Some(parent) = fields.parent
        && store::ci_categories::is_within(tx, parent, before.id).await?
    {
        return Err(Error::invalid("/parent", "must not be the category itself or one below it"));
    }
    let category = CiCategory {
        name: check::name(&fields.name)?,
        description: check::optional_text("/description", Some(&fields.description), 2000)?
            .unwrap_or_default(),
        parent: fields.parent,
        updated_at: tx.now(),
        ..before
    };
    check::constraints(store::ci_categories::update(tx, &category).await, &CATEGORY_WORDS)?;
    events::record(
        tx,
        actor,
        "ci_category.updated",
        None,
        json!({"ci_category": category.id, "name": category.name}),
    )
    .await?;
    Ok(category)
}

pub async fn delete_category(tx: &mut Tx, actor: &Actor, id: CiCategoryId) -> Result<()> {
    permission::check(actor, Permission::CmdbManage)?;
    store::ci_categories::delete(tx, id).await.map_err(|error| match error.constraint() {
        Some(_) => {
            Error::conflict("configuration items or categories belong to this category: move them first")
        }
        None => error.into(),
    })?;
    events::record(tx, actor, "ci_category.deleted", None, json!({"ci_category": id})).await?;
    Ok(())
}

pub async fn relate(
    tx: &mut Tx,
    actor: &Actor,
    from: CiId,
    to: CiId,
    kind: CiRelationKind,
) -> Result<CiRelationship> {
    permission::check(actor, Permission::CmdbManage)?;
    if from == to {
        return Err(Error::invalid("/to", "must be another configuration item"));
    }
    let relationship = CiRelationship { id: CiRelationshipId::new(), from, to, kind, created_at: tx.now() };
    let words = [
        ("ci_relationships_from_fkey", "/from", "there is no such configuration item"),
        ("ci_relationships_to_fkey", "/to", "there is no such configuration item"),
    ];
    match store::ci_relationships::insert(tx, &relationship).await {
        Err(error) if error.constraint() == Some("ci_relationships_pair_key") => {
            return Err(Error::conflict("the two are related in this way already"));
        }
        result => check::constraints(result, &words)?,
    }
    let payload = json!({"ci_relationship": relationship.id, "from": from, "to": to, "kind": kind});
    events::record(tx, actor, "ci_relationship.created", None, payload).await?;
    Ok(relationship)
}

pub async fn unrelate(tx: &mut Tx, actor: &Actor, id: CiRelationshipId) -> Result<()> {
    permission::check(actor, Permission::CmdbManage)?;
    store::ci_relationships::delete(tx, id).await?;
    events::record(tx, actor, "ci_relationship.deleted", None, json!({"ci_relationship": id})).await?;
    Ok(())
}
