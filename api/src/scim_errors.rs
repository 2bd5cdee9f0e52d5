//! Errors below `/scim/` in the form of RFC 7644, 3.12: every problem document on its way out is said again in SCIM's words.

use crate::Problem;
use actions::scim::Refused;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::scim::Wrong;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

pub const MEDIA_TYPE: &str = "application/scim+json";
/// Where SCIM is spoken.
pub const PREFIX: &str = "/scim/";

/// An error as SCIM says it.
#[derive(Serialize, ToSchema)]
pub struct ScimError {
    #[schema(value_type = Vec<String>, example = json!(["urn:ietf:params:scim:api:messages:2.0:Error"]))]
    schemas: [&'static str; 1],
    /// The HTTP status, as a text.
    #[schema(example = "409")]
    status: String,
    /// A word of RFC 7644, table 9, where there is one.
    #[serde(rename = "scimType", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "uniqueness")]
    scim_type: Option<&'static str>,
    detail: String,
}

/// Among the extensions of a response: the word for what is wrong.
#[derive(Clone, Copy, Debug)]
pub struct ScimType(pub &'static str);

impl From<Wrong> for Problem {
    fn from(wrong: Wrong) -> Self {
        use domain::scim::Kind;
        let problem = match wrong.kind {
            Kind::Uniqueness => Problem::conflict(wrong.detail),
            _ => Problem::bad_request(wrong.detail),
        };
        problem.with_scim_type(ScimType(wrong.kind.as_str()))
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Wrong(wrong) => wrong.into(),
            Refused::Error(error) => error.into(),
        }
    }
}

/// Around everything else, so that no error gets out in another form.
pub async fn layer(request: Request, next: Next) -> Response {
    let is_scim = request.uri().path().starts_with(PREFIX);
    let response = next.run(request).await;
    let problem = HeaderValue::from_static("application/problem+json");
    if !is_scim || response.headers().get(header::CONTENT_TYPE) != Some(&problem) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, 256 * 1024).await.unwrap_or_default();
    let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
    // There is no 422 in SCIM.
    let is_validation = parts.status == StatusCode::UNPROCESSABLE_ENTITY;
    let status = if is_validation { StatusCode::BAD_REQUEST } else { parts.status };
    let by_status = match parts.status {
        StatusCode::UNPROCESSABLE_ENTITY => Some("invalidValue"),
        StatusCode::BAD_REQUEST => Some("invalidSyntax"),
        _ => None,
    };
    let error = ScimError {
        schemas: ["urn:ietf:params:scim:api:messages:2.0:Error"],
        status: status.as_u16().to_string(),
        scim_type: parts.extensions.get::<ScimType>().map(|word| word.0).or(by_status),
        detail: detail(&problem),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    let body = serde_json::to_vec(&error).unwrap_or_default();
    (status, parts.headers, body).into_response()
}

/// With all fields that are wrong: SCIM has no place for pointers.
fn detail(problem: &Value) -> String {
    let fields = problem["errors"].as_array().into_iter().flatten();
    let fields: Vec<String> = fields
        .filter_map(|field| Some(format!("{}: {}", field["pointer"].as_str()?, field["detail"].as_str()?)))
        .collect();
    if fields.is_empty() {
        problem["detail"].as_str().unwrap_or_default().to_owned()
    } else {
        fields.join("; ")
    }
}
