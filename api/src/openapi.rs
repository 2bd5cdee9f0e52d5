//! `/api/openapi.json`, and `/api/docs`: the interactive page, served from the program itself.

use crate::{AppState, Problem, scim_errors};
use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use std::sync::Arc;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Content, ContentBuilder, OpenApi, Ref, RefOr, Response as Described, ResponseBuilder};
use utoipa_swagger_ui::Config;

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Relaydesk API</title>
<link rel="stylesheet" href="/api/docs/swagger-ui.css">
<link rel="stylesheet" href="/api/docs/index.css">
<link rel="icon" type="image/png" href="/api/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/api/docs/swagger-ui-bundle.js"></script>
<script src="/api/docs/swagger-ui-standalone-preset.js"></script>
<script src="/api/docs/swagger-initializer.js"></script>
</body>
</html>
"#;

/// Scripts from here only. The page sets style attributes from script, and its pictures are data URLs.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                           connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Relaydesk",
        description = "IT service management. Conventions (errors, lists, ETag, Idempotency-Key) are explained in docs/api.md.",
    ),
    components(schemas(crate::Problem, crate::problem::WrongField, scim_errors::ScimError))
)]
pub struct Document;

/// Answers with a `Problem` that operations share: their status, and what the document calls them.
const REFUSALS: [(&str, &str, &str); 14] = [
    ("400", "BadRequest", "The request cannot be read, or names a parameter that is not there"),
    ("401", "Unauthorized", "No token, or none that is good"),
    ("403", "Forbidden", "Not permitted"),
    ("404", "NotFound", "There is no such thing, or not for the caller"),
    ("408", "RequestTimeout", "The body came too slowly"),
    ("409", "Conflict", "It contradicts the state of things, or the Idempotency-Key is in use"),
    ("412", "PreconditionFailed", "If-Match does not match"),
    ("413", "ContentTooLarge", "The body is too large"),
    ("415", "UnsupportedMediaType", "The body is of another media type"),
    ("422", "UnprocessableContent", "A field or parameter is wrong: see `errors`"),
    ("429", "TooManyRequests", "Too many requests: see Retry-After"),
    ("500", "InternalServerError", "Our fault"),
    ("503", "ServiceUnavailable", "Not now: see Retry-After"),
    ("default", "Refused", "What went wrong"),
];

/// What holds for all operations: bearer authentication and problem documents.
pub fn complete(document: &mut OpenApi) {
    crate::shape::describe(document);
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("an access token from auth/login, or an API token (rd_…)"))
        .build();
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
    document.security = Some(vec![SecurityRequirement::new("bearer", Vec::<String>::new())]);
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let problem = ResponseBuilder::new()
        .description("What went wrong")
        .content("application/problem+json", content)
        .build();
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ScimError"))).build();
    let in_scim = ResponseBuilder::new().content(scim_errors::MEDIA_TYPE, content).build();
    // Described once: some thousand copies are megabytes, in the document and on the heap.
    for (_, name, description) in REFUSALS {
        let mut described = problem.clone();
        described.description = description.to_owned();
        components.responses.insert(name.to_owned(), RefOr::T(described));
        let mut described = in_scim.clone();
        described.description = description.to_owned();
        components.responses.insert(format!("Scim{name}"), RefOr::T(described));
    }
    for (path, item) in &mut document.paths.paths {
        let is_scim = path.starts_with(scim_errors::PREFIX);
        let needs_token = path.starts_with("/api/v1/") || is_scim;
        let operations = [
            ("get", &mut item.get),
            ("post", &mut item.post),
            ("put", &mut item.put),
            ("patch", &mut item.patch),
            ("delete", &mut item.delete),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            operation.operation_id = Some(operation_id(method, path));
            let responses = &mut operation.responses.responses;
            let is_open = operation
                .security
                .as_ref()
                .is_some_and(|all| all.iter().any(|one| one == &SecurityRequirement::default()));
            let writes = method != "get";
            for (status, applies) in [
                ("400", true),
                ("401", needs_token && !is_open),
                ("403", needs_token && !is_open),
                ("404", path.contains('{')),
                ("408", operation.request_body.is_some()),
                ("409", writes),
                ("412", ["put", "patch", "delete"].contains(&method)),
                ("413", operation.request_body.is_some()),
                ("415", operation.request_body.is_some()),
                ("422", !is_scim && (writes || operation.parameters.is_some())),
                ("429", !path.starts_with("/hooks/")),
                ("500", true),
                ("503", true),
                ("default", true),
            ] {
                let shared = REFUSALS.iter().find(|(of, ..)| *of == status);
                if let Some((_, name, _)) = shared.filter(|_| applies && !responses.contains_key(status)) {
                    let name = if is_scim { format!("Scim{name}") } else { (*name).to_owned() };
                    responses.insert(status.to_owned(), RefOr::Ref(Ref::from_response_name(name)));
                }
            }
            for (status, response) in responses.iter_mut() {
                let RefOr::T(response) = response else { continue };
                speak_of_problems(response);
                if status.starts_with(['4', '5']) && response.content.is_empty() {
                    let shared = if is_scim { &in_scim } else { &problem };
                    response.content = shared.content.clone();
                }
            }
        }
    }
    crate::examples::add(document);
}

/// A route names the `Problem` it answers; that it comes as `application/problem+json` is said here.
fn speak_of_problems(response: &mut Described) {
    let problem = |content: &RefOr<Content>| {
        let RefOr::T(content) = content else { return false };
        matches!(&content.schema, Some(RefOr::Ref(schema)) if schema.ref_location.ends_with("/Problem"))
    };
    if response.content.get("application/json").is_some_and(problem)
        && let Some(content) = response.content.shift_remove("application/json")
    {
        response.content.insert("application/problem+json".into(), content);
    }
}

/// Unique, and the same from release to release, because generated clients name their functions after it:
/// `post_incidents_id_assign`. (The handlers' own names repeat from noun to noun.)
fn operation_id(method: &str, path: &str) -> String {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}

pub fn router(document: &OpenApi) -> Router<AppState> {
    let json: Arc<str> = document.to_json().expect("an OpenAPI document is JSON").into();
    let config = Arc::new(Config::from("/api/openapi.json"));
    Router::new()
        .route(
            "/api/openapi.json",
            get(move || async move { ([(header::CONTENT_TYPE, "application/json")], json.to_string()) }),
        )
        .route("/api/docs", get(page))
        .route("/api/docs/{file}", get(move |Path(file): Path<String>| asset(file, config)))
}

async fn page() -> Response {
    ([(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(PAGE_POLICY))], Html(PAGE)).into_response()
}

async fn asset(file: String, config: Arc<Config<'static>>) -> Response {
    match utoipa_swagger_ui::serve(&file, config) {
        Ok(Some(asset)) => {
            let cache = (header::CACHE_CONTROL, "public, max-age=3600".to_owned());
            let charset = if asset.content_type.starts_with("text/") { "; charset=utf-8" } else { "" };
            let media_type = (header::CONTENT_TYPE, format!("{}{charset}", asset.content_type));
            let mut response = ([media_type, cache], asset.bytes.into_owned()).into_response();
            if asset.gzpipped {
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        }
        Ok(None) => Problem::not_found().into_response(),
        Err(error) => Problem::internal(&error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn operations_have_names_of_their_own() {
        let document = serde_json::to_value(crate::description()).unwrap();
        let mut seen = BTreeSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                let Some(id) = operation["operationId"].as_str() else {
                    continue;
                };
                assert!(seen.insert(id.to_owned()), "{id} is there twice");
            }
        }
        assert!(seen.contains("post_incidents_id_assign"), "{seen:?}");
    }
}
