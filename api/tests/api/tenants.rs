//! The tenant test: nothing of one organization is seen, named or changed by another. It is made from the OpenAPI document,
//! so it covers every route there is: a route, parameter or reference that it does not know how to fill fails it, and whoever
//! adds one says here (in `fixtures` or in the tables below) what belongs there.

pub mod fixtures;
pub mod sample;

use crate::support::{Answer, Api, request};
use axum::http::Method;
use fixtures::Objects;
use serde_json::{Value, json};
use std::fmt::Write;

/// Outside of `/api/v1` there is no login: these are known by a secret in the path or serve everybody.
pub const WITHOUT_LOGIN: [&str; 3] = ["/hooks/", "/downloads/", "/v2/"];
/// Operations that need no credentials.
const ANONYMOUS: [&str; 10] = [
    "/api/v1/auth/login",
    "/api/v1/auth/refresh",
    "/api/v1/auth/logout",
    "/api/v1/auth/verify-token",
    "/api/v1/auth/password-reset",
    "/api/v1/auth/password-confirm",
    "/api/v1/auth/oidc",
    "/api/v1/auth/oidc/token",
    "/api/v1/auth/oidc/{provider}/start",
    "/api/v1/auth/oidc/{provider}/callback",
];
/// Where SCIM is spoken: other errors, no parameters that are refused. `scim.rs` tests what is tested elsewhere by the document.
pub const SCIM: &str = "/scim/";
/// Never ends.
pub const STREAMS: [&str; 2] = ["/api/v1/events/stream", "/api/v1/events/ws"];
/// Names that all tenants share: refused (403), not "not found".
const SHARED: [&str; 2] = ["/api/v1/lanes/", "/api/v1/tenants/"];

pub struct Operation {
    pub method: Method,
    pub path: String,
    pub description: Value,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Operation {
    fn has_parameters(&self) -> bool {
        self.path.contains('{')
    }

    /// The schema of the JSON body.
    pub fn body(&self) -> Option<&Value> {
        let body = &self.description["requestBody"]["content"]["application/json"]["schema"];
        (!body.is_null()).then_some(body)
    }
}

pub fn operations(document: &Value) -> Vec<Operation> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, description) in item.as_object().unwrap() {
            let Ok(method) = method.to_uppercase().parse::<Method>() else {
                continue;
            };
            if [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(&method) {
                all.push(Operation { method, path: path.clone(), description: description.clone() });
            }
        }
    }
    // What destroys comes last, children before parents.
    all.sort_by_key(|operation| {
        (operation.method == Method::DELETE, std::cmp::Reverse(operation.path.len()))
    });
    all
}

struct Tenants {
    api: Api,
    document: Value,
    /// Whose things the other must not see.
    ours: Objects,
    theirs: Objects,
    failures: String,
}

impl Tenants {
    async fn start() -> Tenants {
        let api = Api::start().await;
        let other = testkit::organization(&api.test_db, "globex").await;
        let ours = fixtures::make(&api, &api.organization, &api.admin, "acme").await;
        let stranger = crate::support::token_of(&api.test_db, &other.admin).await;
        let theirs = fixtures::make(&api, &other, &stranger, "globex").await;
        let document = serde_json::to_value(api::description()).unwrap();
        Tenants { api, document, ours, theirs, failures: String::new() }
    }

    fn fail(&mut self, text: impl std::fmt::Display) {
        writeln!(self.failures, "* {text}").unwrap();
    }

    fn operations(&self) -> Vec<Operation> {
        let all = operations(&self.document);
        all.into_iter()
            .filter(|operation| !WITHOUT_LOGIN.iter().any(|prefix| operation.path.starts_with(prefix)))
            .collect()
    }

    /// A body that could be meant seriously.
    fn body(&self, operation: &Operation, objects: &Objects) -> Option<Value> {
        let schema = operation.body()?;
        let key = operation.to_string();
        Some(fixtures::body(&key, objects).unwrap_or_else(|| sample::of(&self.document, schema)))
    }

    async fn call(&self, operation: &Operation, path: &str, token: &str, body: Option<Value>) -> Answer {
        let mut request = request(operation.method.clone(), path, token, body);
        if operation.description["requestBody"]["content"]["multipart/form-data"].is_object() {
            let (media_type, bytes) = fixtures::upload();
            request.headers_mut().insert("content-type", media_type.parse().unwrap());
            *request.body_mut() = bytes.into();
        }
        self.api.send(request).await
    }

    /// Sends `body` as the stranger; then with an id that nobody has in place of `id`, and nothing must be different.
    async fn refuses(&mut self, method: &Method, path: &str, body: Value, id: &str, pointer: &str) {
        let nobody = uuid::Uuid::now_v7().to_string();
        let unknown: Value = serde_json::from_str(&body.to_string().replace(id, &nobody)).unwrap();
        let token = self.theirs.token.clone();
        let foreign = self.api.call(method.clone(), path, &token, Some(body.clone())).await;
        let unknown = self.api.call(method.clone(), path, &token, Some(unknown)).await;
        let named = foreign.json["errors"][0]["pointer"].as_str().unwrap_or_default();
        let is_named =
            named == pointer || named.strip_prefix(pointer).is_some_and(|rest| rest.starts_with('/'));
        if foreign.status != 422 || !is_named {
            self.fail(format!("{method} {path} {body} answers {}: {}", foreign.status, foreign.text));
        }
        let words = |answer: &Answer| {
            let mut json = answer.json.clone();
            json.as_object_mut().map(|fields| fields.remove("trace_id"));
            json.to_string().replace(id, &nobody)
        };
        if foreign.status != unknown.status || words(&foreign) != words(&unknown) {
            let (foreign, unknown) = (foreign.text, unknown.text);
            self.fail(format!("{method} {path} {body} tells the two apart: {foreign} and {unknown}"));
        }
    }

    fn finish(self) {
        assert!(self.failures.is_empty(), "\n{}", self.failures);
    }
}

#[tokio::test]
async fn nobody_gets_in_without_credentials() {
    let mut test = Tenants::start().await;
    for operation in test.operations() {
        if ANONYMOUS.contains(&operation.path.as_str()) {
            continue;
        }
        let path = test.ours.fill(&operation.path).unwrap_or_else(|_| operation.path.clone());
        let body = test.body(&operation, &test.ours);
        for token in ["", "rd_wrong"] {
            let answer = test.call(&operation, &path, token, body.clone()).await;
            if answer.status != 401 {
                test.fail(format!(
                    "{operation} without credentials answers {}: {}",
                    answer.status, answer.text
                ));
            }
        }
    }
    test.finish();
}

/// With ids of one organization and the admin token of the other.
#[tokio::test]
async fn foreign_ids_are_not_found() {
    let mut test = Tenants::start().await;
    let mut checked = 0;
    for operation in test.operations() {
        if !operation.has_parameters() || ANONYMOUS.contains(&operation.path.as_str()) {
            continue;
        }
        let path = match test.ours.fill(&operation.path) {
            Ok(path) => path,
            Err(unknown) => {
                test.fail(format!("{operation}: fixtures.rs must know an object for {unknown}"));
                continue;
            }
        };
        if operation.method == Method::GET {
            let token = test.ours.token.clone();
            let own = test.call(&operation, &path, &token, None).await;
            // 409: it is there, but not in a state in which this can be shown.
            if !own.status.is_success() && own.status != 409 {
                test.fail(format!("{operation} ({path}) answers its owner {}: {}", own.status, own.text));
            }
        }
        let (body, token) = (test.body(&operation, &test.theirs), test.theirs.token.clone());
        let answer = test.call(&operation, &path, &token, body.clone()).await;
        let expected = if SHARED.iter().any(|prefix| operation.path.starts_with(prefix)) { 403 } else { 404 };
        if answer.status != expected {
            let body = body.map(|body| body.to_string()).unwrap_or_default();
            test.fail(format!("{operation} ({path}) {body} answers {}: {}", answer.status, answer.text));
        }
        checked += 1;
    }
    assert!(checked > 40, "only {checked} operations with parameters: is the document complete?");
    test.finish();
}

#[tokio::test]
async fn lists_hold_nothing_foreign() {
    let mut test = Tenants::start().await;
    for operation in test.operations() {
        if operation.method != Method::GET
            || operation.has_parameters()
            || STREAMS.contains(&operation.path.as_str())
        {
            continue;
        }
        let token = test.theirs.token.clone();
        let mut paths = vec![operation.path.clone()];
        // Filters that name foreign things find nothing.
        for parameter in operation.description["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            if parameter["in"] == "query" && sample::is_id(&test.document, &parameter["schema"]) {
                match test.ours.named(&operation.path, name) {
                    Some(id) => paths.push(format!("{}?{name}={id}", operation.path)),
                    None => test
                        .fail(format!("{operation}: fixtures.rs must know what the parameter {name} names")),
                }
            } else if name == "q" {
                paths.push(format!("{}?q=acme", operation.path));
            } else if name == "page_size" {
                paths.push(format!("{}?page_size=200", operation.path));
            }
        }
        for path in paths {
            let answer = test.call(&operation, &path, &token, None).await;
            if !answer.status.is_success() && ![403, 404, 422].contains(&answer.status.as_u16()) {
                test.fail(format!("GET {path} answers {}: {}", answer.status, answer.text));
            }
            if let Some(leak) = test.ours.leak_in(&answer.text, &path) {
                test.fail(format!("GET {path} shows {leak}: {}", answer.text));
            }
        }
    }
    test.finish();
}

/// What a body names must be in the caller's own organization, wherever in it the name stands, and an id of another one is
/// refused like an id that nobody has: with the field.
#[tokio::test]
async fn bodies_cannot_name_foreign_things() {
    let mut test = Tenants::start().await;
    let mut checked = 0;
    for operation in test.operations() {
        let Some(schema) = operation.body().cloned() else {
            continue;
        };
        let Ok(path) = test.theirs.fill(&operation.path) else {
            continue;
        };
        for (field, is_list) in sample::references(&test.document, &schema, &|name| {
            test.ours.named(&operation.path, name).is_some()
        }) {
            if fixtures::NOT_REFERENCES.contains(&format!("{operation} {field}").as_str()) {
                continue;
            }
            let Some(id) = test.ours.named(&operation.path, &field) else {
                test.fail(format!("{operation}: fixtures.rs must know what the field {field} names"));
                continue;
            };
            let id = id.to_owned();
            let mut body = test.body(&operation, &test.theirs).unwrap();
            body[&field] = if is_list { json!([id]) } else { json!(id) };
            test.refuses(&operation.method, &path, body, &id, &format!("/{field}")).await;
            checked += 1;
        }
    }
    for (method, path, body, id, pointer) in fixtures::nested(&test.ours, &test.theirs) {
        test.refuses(&method, &path, body, &id, pointer).await;
    }
    assert!(checked > 10, "only {checked} references: is the document complete?");
    test.finish();
}
