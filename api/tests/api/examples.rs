//! The examples of the description: every body has one and its route reads it; those of answers are what their schemas say.

use crate::support::{Api, request};
use axum::http::Method;
use serde_json::{Value, json};

/// `(method, path, operation)` of each operation.
fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if let Ok(method) = method.to_uppercase().parse::<Method>()
                && operation["operationId"].is_string()
            {
                all.push((method, path.clone(), operation.clone()));
            }
        }
    }
    all
}

/// What is wrong with a value by its schema: types, required and unknown fields, formats.
fn wrong(document: &Value, schema: &Value, value: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return wrong(document, &document["components"]["schemas"][name], value, at);
    }
    if let Some(any) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let each: Vec<_> = any.iter().map(|one| wrong(document, one, value, at)).collect();
        return if each.iter().any(Option::is_none) { None } else { each.into_iter().flatten().last() };
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        if let Some(wrong) = wrong(document, part, value, at) {
            return Some(wrong);
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_number = kind == "integer" && types.contains(&"number");
    if !types.contains(&kind) && !is_number {
        return Some(format!("{at} is of type {kind}, not {types:?}"));
    }
    match value {
        Value::String(text) => match schema["format"].as_str() {
            Some("uuid") if text.parse::<uuid::Uuid>().is_err() => Some(format!("{at} is not a UUID")),
            Some("date-time") if chrono::DateTime::parse_from_rfc3339(text).is_err() => {
                Some(format!("{at} is not a time"))
            }
            _ => None,
        },
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(n, item)| wrong(document, &schema["items"], item, &format!("{at}/{n}"))),
        Value::Object(fields) => {
            let known = schema["properties"].as_object()?;
            let missing = schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|name| !fields.contains_key(name.as_str().unwrap()));
            if let Some(name) = missing {
                return Some(format!("{at} lacks {name}"));
            }
            fields.iter().find_map(|(name, value)| match known.get(name) {
                None => Some(format!("{at} has no field {name}")),
                Some(schema) => wrong(document, schema, value, &format!("{at}/{name}")),
            })
        }
        _ => None,
    }
}

/// No route finds anything wrong with the form of its example: it is read into its type, and judged after that.
#[tokio::test]
async fn every_body_has_an_example_that_its_route_reads() {
    let api = Api::start().await;
    let document = api.get("/api/openapi.json", "").await.expect(200).json;
    let mut read = 0;
    for (method, path, operation) in operations(&document) {
        let content = &operation["requestBody"]["content"]["application/json"];
        if content.is_null() {
            continue;
        }
        let example = &content["example"];
        assert!(example.is_object(), "{method} {path} has no example: write one into api/src/examples.json");
        assert_eq!(wrong(&document, &content["schema"], example, ""), None, "{method} {path}");
        let mut place = path.replace("{kind}", "alertmanager");
        while let Some((before, rest)) = place.split_once('{') {
            let (_, after) = rest.split_once('}').unwrap();
            place = format!("{before}{}{after}", uuid::Uuid::now_v7());
        }
        let answer = api.send(request(method.clone(), &place, &api.admin, Some(example.clone()))).await;
        let (status, said) = (answer.status.as_u16(), answer.text.clone());
        assert!(status < 500 && ![400, 405, 406, 415].contains(&status), "{method} {path}: {status} {said}");
        if status == 422 {
            for of_serde in [
                "missing field",
                "unknown field",
                "unknown variant",
                "invalid type",
                "invalid value",
                "expected",
                "did not match",
            ] {
                assert!(!said.contains(of_serde), "{method} {path}: {said}");
            }
        }
        read += 1;
    }
    assert!(read > 70, "{read}");
}

#[tokio::test]
async fn examples_of_answers_are_what_their_schemas_say() {
    let api = Api::start().await;
    let document = api.get("/api/openapi.json", "").await.expect(200).json;
    let (mut whole, mut names) = (0, std::collections::BTreeSet::new());
    for (method, path, operation) in operations(&document) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let content = &response["content"]["application/json"];
            if content["example"].is_null() {
                continue;
            }
            assert_eq!(
                wrong(&document, &content["schema"], &content["example"], ""),
                None,
                "{method} {path} {status}"
            );
            names.insert(content["schema"]["$ref"].to_string());
            whole += 1;
        }
    }
    for name in [
        "IncidentView",
        "Page_IncidentView",
        "UserView",
        "Page_UserView",
        "TeamView",
        "Page_AlertView",
        "Page_AuditEntryView",
        "CommentView",
    ] {
        assert!(
            names.contains(&json!(format!("#/components/schemas/{name}")).to_string()),
            "{name}: {names:?}"
        );
    }
    assert!(whole > 30, "{whole}");
}
