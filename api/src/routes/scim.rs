//! `/scim/v2`: people and teams for identity providers (RFC 7643, RFC 7644; docs/scim.md).

mod discovery;
mod groups;
mod users;

use crate::scim_errors::MEDIA_TYPE;
use crate::{ApiResult, AppState, Problem, etag};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::scim::{self, Term};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::scim::Window;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;

/// Resources of one answer, at most; so many if nothing is said.
const MOST: i64 = 200;
const USUAL: i64 = 100;

pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().merge(users::router()).merge(groups::router()).merge(discovery::router())
}

/// When something was made and changed, and where it is.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Meta {
    #[schema(value_type = String, example = "User")]
    resource_type: &'static str,
    created: DateTime<Utc>,
    last_modified: DateTime<Utc>,
    location: String,
    /// The ETag.
    version: String,
}

/// A patch (RFC 7644, 3.5.2).
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "a description only")]
struct ScimPatch {
    #[schema(example = json!(["urn:ietf:params:scim:api:messages:2.0:PatchOp"]))]
    schemas: Vec<String>,
    #[serde(rename = "Operations")]
    operations: Vec<ScimOperation>,
}

#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "a description only")]
struct ScimOperation {
    /// add, replace or remove
    #[schema(example = "replace")]
    op: String,
    #[schema(example = "active")]
    path: Option<String>,
    #[schema(value_type = Option<Value>, example = false)]
    value: Option<Value>,
}

#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ListParams {
    /// `attribute eq "value"`, and more of them with `and`.
    #[param(example = r#"userName eq "ada@example.org""#)]
    filter: Option<String>,
    /// The number of the first one, from 1.
    start_index: Option<i64>,
    /// At most 200; none: 100.
    count: Option<i64>,
}

/// Which attributes are shown.
#[derive(Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct Shown {
    /// Only these, separated by commas.
    attributes: Option<String>,
    /// All but these, separated by commas.
    #[param(example = "members")]
    excluded_attributes: Option<String>,
}

impl ListParams {
    fn terms(&self) -> ApiResult<Vec<Term>> {
        match &self.filter {
            Some(filter) => Ok(scim::filter(filter)?),
            None => Ok(Vec::new()),
        }
    }

    /// What is out of range is brought into it (RFC 7644, 3.4.2.4).
    fn window(&self) -> Window {
        let offset = self.start_index.unwrap_or(1).max(1) - 1;
        Window { offset, limit: self.count.unwrap_or(USUAL).clamp(0, MOST) }
    }
}

impl Shown {
    fn words(text: &str) -> impl Iterator<Item = String> {
        let name = |word: &str| {
            let word = word.trim().rsplit(':').next().unwrap_or_default();
            word.split('.').next().unwrap_or_default().to_ascii_lowercase()
        };
        text.split(',').map(name).filter(|word| !word.is_empty())
    }

    /// Whether the attribute is to be seen; what is not need not be read.
    fn wants(&self, attribute: &str) -> bool {
        let names = |text: &str| Self::words(text).any(|word| word.eq_ignore_ascii_case(attribute));
        ["id", "schemas"].contains(&attribute)
            || (self.attributes.as_deref().is_none_or(names)
                && !self.excluded_attributes.as_deref().is_some_and(names))
    }

    fn of(&self, mut resource: Value) -> Value {
        if let Some(fields) = resource.as_object_mut() {
            fields.retain(|key, _| self.wants(key));
        }
        resource
    }
}

/// A resource with the tag of its version.
struct Resource {
    tag: String,
    location: String,
    body: Value,
}

/// Of the request: the version that the client has already.
struct IfNoneMatch(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let value = parts.headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        Ok(IfNoneMatch(value.map(str::to_owned)))
    }
}

impl IfNoneMatch {
    fn has(&self, tag: &str) -> bool {
        let tags = self.0.as_deref().unwrap_or_default().split(',');
        tags.map(|one| one.trim().trim_start_matches("W/").trim_matches('"')).any(|one| one == tag)
    }
}

fn spoken(status: StatusCode, body: &Value) -> Response {
    let media_type = [(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE))];
    (status, media_type, body.to_string()).into_response()
}

impl Resource {
    fn shown(self, shown: &Shown, known: &IfNoneMatch) -> Response {
        if known.has(&self.tag) {
            return (StatusCode::NOT_MODIFIED, etag::header(self.tag)).into_response();
        }
        (etag::header(self.tag), spoken(StatusCode::OK, &shown.of(self.body))).into_response()
    }

    fn changed(self) -> Response {
        self.shown(&Shown::default(), &IfNoneMatch(None))
    }

    fn created(self) -> ApiResult<Response> {
        let location = HeaderValue::from_str(&self.location).map_err(|error| Problem::internal(&error))?;
        let headers = [(header::LOCATION, location)];
        Ok((headers, etag::header(self.tag), spoken(StatusCode::CREATED, &self.body)).into_response())
    }
}

fn list(resources: Vec<Value>, total: i64, window: Window) -> Response {
    let body = json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": total,
        "startIndex": window.offset + 1,
        "itemsPerPage": resources.len(),
        "Resources": resources,
    });
    spoken(StatusCode::OK, &body)
}

/// A page of resources (RFC 7644, 3.4.2).
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ScimList<T> {
    schemas: Vec<String>,
    total_results: i64,
    start_index: i64,
    items_per_page: i64,
    #[serde(rename = "Resources")]
    resources: Vec<T>,
}
