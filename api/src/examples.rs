//! What bodies and answers look like, for the description: one example for each type, in `examples.json`, under the name of its schema (or of the operation,
//! where the schema has none). A page of them is made of the example of its items. Tests send every example of a body to its route, and hold those of answers against their schemas.

use serde_json::{Map, Value, json};
use utoipa::openapi::{Content, OpenApi, RefOr, Schema};

const KNOWN: &str = include_str!("examples.json");

/// Adds them to a description whose operations have their names.
pub fn add(document: &mut OpenApi) {
    let known: Map<String, Value> =
        serde_json::from_str(KNOWN).expect("examples.json is an object; each test reads it");
    for item in document.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete] {
            let Some(operation) = operation else { continue };
            let id = operation.operation_id.clone().unwrap_or_default();
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                for content in body.content.values_mut() {
                    if let RefOr::T(content) = content {
                        fill(content, &known, &id);
                    }
                }
            }
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response
                    && status.starts_with('2')
                    && let Some(RefOr::T(content)) = response.content.get_mut("application/json")
                {
                    fill(content, &known, "");
                }
            }
        }
    }
}

fn fill(content: &mut Content, known: &Map<String, Value>, operation: &str) {
    let name = content.schema.as_ref().and_then(name_of).unwrap_or_default();
    let example = match name.strip_prefix("Page_") {
        Some(item) => known.get(item).map(|item| json!({"items": [item], "next_cursor": null})),
        None => known.get(name).or_else(|| known.get(operation)).cloned(),
    };
    if content.example.is_none() {
        content.example = example;
    }
}

/// Also of a body that may be left out.
fn name_of(schema: &RefOr<Schema>) -> Option<&str> {
    match schema {
        RefOr::Ref(reference) => reference.ref_location.rsplit('/').next(),
        RefOr::T(Schema::OneOf(any)) => any.items.iter().find_map(name_of),
        RefOr::T(_) => None,
    }
}
