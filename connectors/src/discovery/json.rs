//! An array of objects, as the document itself or somewhere in it.

use super::{Inventory, Unreadable};
use domain::inventory::{InventoryOptions, item};
use serde_json::Value;

pub fn parse(text: &str, keys: &[String], options: &InventoryOptions) -> Result<Inventory, Unreadable> {
    let document: Value =
        serde_json::from_str(text).map_err(|error| Unreadable(format!("not valid JSON: {error}")))?;
    let mut inventory = Inventory::default();
    for (index, element) in elements(&document, options.items.as_deref())?.iter().enumerate() {
        let row = index + 1;
        match element {
            Value::Object(record) => inventory.add(item(row, record, keys, options)),
            _ => inventory.refuse(row, "not an object".into(), Vec::new()),
        }
    }
    Ok(inventory)
}

fn elements<'a>(document: &'a Value, pointer: Option<&str>) -> Result<&'a Vec<Value>, Unreadable> {
    if let Some(pointer) = pointer {
        let place = document.pointer(pointer);
        return place
            .and_then(Value::as_array)
            .ok_or_else(|| Unreadable(format!("there is no array at {pointer}")));
    }
    match document {
        Value::Array(elements) => Ok(elements),
        Value::Object(members) => {
            let mut arrays = members.values().filter_map(Value::as_array);
            match (arrays.next(), arrays.next()) {
                (Some(only), None) => Ok(only),
                (None, _) => Err(Unreadable("expected an array of items, got an object without one".into())),
                (Some(_), Some(_)) => Err(Unreadable(
                    "the object holds several arrays: set the option items, for example /hosts".into(),
                )),
            }
        }
        _ => Err(Unreadable("expected an array of items".into())),
    }
}
