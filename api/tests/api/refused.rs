//! Values that PostgreSQL does not take are the caller's mistake, never a 5xx. Made from the OpenAPI document, so that it covers
//! every text and every time that a route takes.

use crate::support::Api;
use crate::tenants::fixtures::{self, Objects};
use crate::tenants::{Operation, SCIM, STREAMS, WITHOUT_LOGIN, operations, sample};
use axum::http::Method;
use base64::Engine;
use serde_json::{Value, json};

const NUL: &str = "a\u{0}b";
/// Beyond what PostgreSQL (the first) and RFC 3339 (the second) can write.
const TIMES: [&str; 2] = ["-200000-01-01T00:00:00Z", "+262142-01-01T00:00:00Z"];

struct Test {
    api: Api,
    document: Value,
    objects: Objects,
    failures: Vec<String>,
}

impl Test {
    async fn start() -> Test {
        let api = Api::start().await;
        let objects = fixtures::make(&api, &api.organization, &api.admin, "acme").await;
        let document = serde_json::to_value(api::description()).unwrap();
        Test { api, document, objects, failures: Vec::new() }
    }

    fn operations(&self) -> Vec<Operation> {
        let known = |operation: &Operation| {
            !WITHOUT_LOGIN.iter().any(|prefix| operation.path.starts_with(prefix))
                && !STREAMS.contains(&operation.path.as_str())
                && !operation.path.starts_with(SCIM)
        };
        operations(&self.document).into_iter().filter(known).collect()
    }

    async fn expect(&mut self, statuses: &[u16], method: &Method, path: &str, body: Option<Value>) {
        let shown = body.as_ref().map(Value::to_string).unwrap_or_default();
        let answer = self.api.call(method.clone(), path, &self.api.admin, body).await;
        if !statuses.contains(&answer.status.as_u16()) {
            self.failures.push(format!("{method} {path} {shown} answers {}: {}", answer.status, answer.text));
        }
    }

    fn finish(self, checked: usize, least: usize) {
        assert!(self.failures.is_empty(), "\n{}", self.failures.join("\n"));
        assert!(checked >= least, "only {checked} checked: is the document complete?");
    }

    /// The body with one place after the other replaced: texts (and names of free objects) by `text`, times by `time`.
    fn variants(&self, schema: &Value, value: &Value, text: &str, time: Option<&str>) -> Vec<Value> {
        let schema = sample::resolved(&self.document, schema);
        for key in ["oneOf", "anyOf", "allOf"] {
            if let Some(choices) = schema[key].as_array() {
                return choices.iter().flat_map(|one| self.variants(one, value, text, time)).collect();
            }
        }
        match sample::kind(&schema) {
            "string" => {
                let is_time = ["date-time", "date"].contains(&schema["format"].as_str().unwrap_or_default());
                match time {
                    Some(time) if schema["format"] == "date" => vec![json!(time.split('T').next())],
                    Some(time) if is_time => vec![json!(time)],
                    Some(_) => Vec::new(),
                    None => vec![json!(text)],
                }
            }
            "array" => {
                let inside = sample::of(&self.document, &schema["items"]);
                let all = self.variants(&schema["items"], &inside, text, time);
                all.into_iter().map(|item| json!([item])).collect()
            }
            "object" => {
                let Some(properties) = schema["properties"].as_object() else {
                    return if time.is_some() {
                        Vec::new()
                    } else {
                        vec![json!({text: 1}), json!({"a": [text]})]
                    };
                };
                let mut all = Vec::new();
                for (name, property) in properties {
                    let inside = sample::of(&self.document, property);
                    for variant in self.variants(property, &inside, text, time) {
                        let mut body = if value.is_object() { value.clone() } else { json!({}) };
                        body[name] = variant;
                        all.push(body);
                    }
                }
                all
            }
            _ => Vec::new(),
        }
    }
}

#[tokio::test]
async fn nul_in_bodies() {
    let mut test = Test::start().await;
    let mut checked = 0;
    for operation in test.operations() {
        let (Some(schema), Ok(path)) = (operation.body().cloned(), test.objects.fill(&operation.path)) else {
            continue;
        };
        let sampled = sample::of(&test.document, &schema);
        let whole = fixtures::body(&operation.to_string(), &test.objects).unwrap_or(sampled);
        for body in test.variants(&schema, &whole, NUL, None) {
            test.expect(&[422], &operation.method, &path, Some(body)).await;
            checked += 1;
        }
    }
    test.finish(checked, 150);
}

#[tokio::test]
async fn nul_in_parameters_and_paths() {
    let mut test = Test::start().await;
    let mut checked = 0;
    for operation in test.operations() {
        if operation.method == Method::DELETE {
            continue;
        }
        let path = test.objects.fill(&operation.path).unwrap();
        for parameter in operation.description["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            let (bad, statuses): (String, &[u16]) = match parameter["in"].as_str() {
                Some("query") => (format!("{path}?{name}=a%00b"), &[422]),
                // Of the extractors of path, headers and body, any may be the first to refuse.
                Some("path") => (operation.path.replace(&format!("{{{name}}}"), "a%00b"), &[404, 415, 422]),
                _ => continue,
            };
            let bad = test.objects.fill(&bad).unwrap_or(bad);
            test.expect(statuses, &operation.method, &bad, None).await;
            checked += 1;
        }
    }
    test.finish(checked, 150);
}

#[tokio::test]
async fn times_out_of_range() {
    let mut test = Test::start().await;
    let mut checked = 0;
    for operation in test.operations() {
        let Ok(path) = test.objects.fill(&operation.path) else { continue };
        for time in TIMES {
            for parameter in operation.description["parameters"].as_array().into_iter().flatten() {
                let schema = sample::resolved(&test.document, &parameter["schema"]);
                if parameter["in"] == "query" && schema["format"] == "date-time" {
                    let (name, time) = (parameter["name"].as_str().unwrap(), time.replace('+', "%2B"));
                    test.expect(&[422], &operation.method, &format!("{path}?{name}={time}"), None).await;
                    checked += 1;
                }
            }
            let Some(schema) = operation.body().cloned() else { continue };
            let sampled = sample::of(&test.document, &schema);
            let whole = fixtures::body(&operation.to_string(), &test.objects).unwrap_or(sampled);
            for body in test.variants(&schema, &whole, "", Some(time)) {
                test.expect(&[422], &operation.method, &path, Some(body)).await;
                checked += 1;
            }
        }
    }
    test.finish(checked, 16);
}

#[tokio::test]
async fn cursors_that_somebody_made() {
    let mut test = Test::start().await;
    // Who sees all lists.
    let operator = sqlx::query("update organizations set is_operator = true");
    operator.execute(&mut test.api.test_db.owner().await).await.unwrap();
    let mut checked = 0;
    let id = uuid::Uuid::now_v7();
    for operation in test.operations() {
        let parameters = operation.description["parameters"].as_array().cloned().unwrap_or_default();
        if operation.method != Method::GET || !parameters.iter().any(|one| one["name"] == "cursor") {
            continue;
        }
        let path = test.objects.fill(&operation.path).unwrap();
        for key in
            [json!([NUL, id]), json!(NUL), json!([TIMES[0], id]), json!([TIMES[1], id]), json!([1, id])]
        {
            let inside = json!({"o": "", "k": key}).to_string();
            let cursor = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(inside);
            // A time may well be the name of something: then it is a page.
            test.expect(&[200, 422], &Method::GET, &format!("{path}?cursor={cursor}"), None).await;
            checked += 1;
        }
    }
    test.finish(checked, 100);
}
