//! Values that fit a schema of the OpenAPI document.

use serde_json::{Map, Value, json};

/// A small value that the schema allows: required properties only.
pub fn of(document: &Value, schema: &Value) -> Value {
    let schema = resolved(document, schema);
    for key in ["example", "default"] {
        if !schema[key].is_null() {
            return schema[key].clone();
        }
    }
    if let Some(choices) = schema["enum"].as_array() {
        return choices[0].clone();
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[key].as_array() {
            let real = choices.iter().find(|choice| kind(choice) != "null").unwrap_or(&choices[0]);
            return of(document, real);
        }
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let mut all = Map::new();
        for part in parts {
            all.extend(of(document, part).as_object().cloned().unwrap_or_default());
        }
        return Value::Object(all);
    }
    match kind(&schema) {
        "object" => {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let required = required.iter().filter_map(Value::as_str);
            Value::Object(
                required.map(|name| (name.to_owned(), of(document, &schema["properties"][name]))).collect(),
            )
        }
        "array" if schema["minItems"].as_u64().unwrap_or(0) > 0 => json!([of(document, &schema["items"])]),
        "array" => json!([]),
        "integer" | "number" => schema["minimum"].as_i64().unwrap_or(1).into(),
        "boolean" => json!(true),
        _ => match schema["format"].as_str().unwrap_or_default() {
            "uuid" => json!(uuid::Uuid::now_v7()),
            "date-time" => json!("2030-01-01T00:00:00Z"),
            "date" => json!("2030-01-01"),
            "email" => json!("somebody@example.org"),
            _ => json!("long enough for anything"),
        },
    }
}

pub fn resolved(document: &Value, schema: &Value) -> Value {
    match schema["$ref"].as_str() {
        Some(reference) => {
            resolved(document, document.pointer(reference.trim_start_matches('#')).expect("a known schema"))
        }
        None => schema.clone(),
    }
}

/// The type, of those it may have the one that is not null.
pub fn kind(schema: &Value) -> &str {
    match &schema["type"] {
        Value::String(kind) => kind,
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ => "",
    }
}

pub fn is_id(document: &Value, schema: &Value) -> bool {
    resolved(document, schema)["format"] == "uuid"
}

/// The properties of a body that hold an id or a list of ids, or whose name says so (an address or a number is taken as well).
pub fn references(document: &Value, schema: &Value, named: &dyn Fn(&str) -> bool) -> Vec<(String, bool)> {
    let schema = resolved(document, schema);
    let mut found = Vec::new();
    for key in ["oneOf", "anyOf", "allOf"] {
        for part in schema[key].as_array().into_iter().flatten() {
            found.extend(references(document, part, named));
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let choices = property["oneOf"].as_array().or(property["anyOf"].as_array());
        let is_list = kind(property) == "array";
        if named(name) {
            found.push((name.clone(), is_list));
        } else if is_id(document, property)
            || choices.is_some_and(|choices| choices.iter().any(|choice| is_id(document, choice)))
        {
            found.push((name.clone(), false));
        } else if is_id(document, &property["items"]) {
            found.push((name.clone(), true));
        }
    }
    found
}
