//! JSON bodies: what is wrong is said with a pointer to the place.

use crate::Problem;
use actions::FieldError;
use axum::body::Bytes;
use axum::extract::{FromRequest, OptionalFromRequest, Request};
use axum::http::{HeaderMap, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;
use tower_http::timeout::TimeoutError;

/// The body of a request. Broken JSON is 400, a wrong, missing or unknown field 422, another media type 415.
#[derive(Clone, Copy, Debug)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::unsupported_media_type("application/json"));
        }
        parse(&read(request, state).await?).map(ApiJson)
    }
}

/// For actions whose body may be left out.
impl<T: DeserializeOwned, S: Send + Sync> OptionalFromRequest<S> for ApiJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, Problem> {
        let json = is_json(request.headers());
        let bytes = read(request, state).await?;
        match (bytes.is_empty(), json) {
            (true, _) => Ok(None),
            (false, true) => parse(&bytes).map(|body| Some(ApiJson(body))),
            (false, false) => Err(Problem::unsupported_media_type("application/json")),
        }
    }
}

/// All of it, within the limit of the route.
pub(crate) async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|error| {
        if paused(&error) {
            return Problem::request_timeout();
        }
        Problem::of_status(error.status(), &error.body_text())
    })
}

/// Whether the body broke off because nothing came of it for too long.
pub(crate) fn paused(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<TimeoutError>())
}

/// Of a hook: who pauses for too long is asked to come again, for senders of alerts do so after 503 and not after 4xx.
pub(crate) fn incomplete(error: &axum::Error) -> Problem {
    if paused(error) {
        return Problem::unavailable("the body paused for too long: send it again", 1);
    }
    Problem::bad_request("the body did not arrive completely")
}

pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let media_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    refuse_nul(bytes)?;
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let pointer = pointer(error.path());
        let error = error.into_inner();
        match error.classify() {
            serde_json::error::Category::Data => {
                Problem::validation(vec![field_error(pointer, &error.to_string())])
            }
            _ => Problem::bad_request(format!("the body is not valid JSON: {error}")),
        }
    })?;
    json.end().map_err(|error| Problem::bad_request(format!("the body is not valid JSON: {error}")))?;
    Ok(value)
}

/// PostgreSQL has no U+0000 in texts, and nobody means one: refused here for all fields at once, keys included.
fn refuse_nul(bytes: &[u8]) -> Result<(), Problem> {
    // In JSON it can only stand as an escape. An escaped backslash before `u0000` looks alike, so this only says where to look.
    if !bytes.windows(6).any(|window| window == br"\u0000") {
        return Ok(());
    }
    // What is no JSON is told so by the parser.
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return Ok(()) };
    match nul_in(&value) {
        Some(pointer) => Err(Problem::invalid(pointer, NUL)),
        None => Ok(()),
    }
}

pub(crate) const NUL: &str = "must not contain the character U+0000";

/// Where the first U+0000 stands.
pub(crate) fn nul_in(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| nul_in(item).map(|rest| format!("/{index}{rest}"))),
        Value::Object(fields) => fields.iter().find_map(|(key, value)| {
            let here = if key.contains('\0') { Some(String::new()) } else { nul_in(value) };
            here.map(|rest| format!("/{}{rest}", escape(key)))
        }),
        _ => None,
    }
}

/// For fields of a PATCH that can be cleared: absent is `None`, null is `Some(None)`.
/// `#[serde(default, deserialize_with = "crate::body::nullable")]`
pub(crate) fn nullable<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: serde::Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

/// For fields of a PATCH that cannot be cleared: absent is `None`, null is refused.
/// `#[serde(default, deserialize_with = "crate::body::not_null")]`
pub(crate) fn not_null<'de, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: serde::Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    let value = Option::<T>::deserialize(deserializer)?;
    value.map(Some).ok_or_else(|| serde::de::Error::custom("is required: null does not empty it"))
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escape(key))),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// RFC 6901, section 3.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// serde names a missing or unknown field in its text only: the pointer should lead to the field itself.
pub(crate) fn field_error(pointer: String, message: &str) -> FieldError {
    let message = message.rsplit_once(" at line ").map_or(message, |(text, _)| text);
    let named = |prefix: &str| message.strip_prefix(prefix).and_then(|rest| rest.split('`').next());
    let (field, detail) = if let Some(field) = named("missing field `") {
        (Some(field), "is required".to_owned())
    } else if let Some(field) = named("unknown field `") {
        let expected = message.split_once(", expected ").map(|(_, list)| format!(" (known are {list})"));
        (Some(field), format!("is not a field here{}", expected.unwrap_or_default()))
    } else {
        (None, message.to_owned())
    };
    match field {
        // With the path reader the pointer of an unknown field already ends in its name.
        Some(field) if !pointer.ends_with(&format!("/{}", escape(field))) => {
            FieldError { pointer: format!("{pointer}/{}", escape(field)), detail }
        }
        _ => FieldError { pointer, detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Outer {
        title: String,
        #[serde(default)]
        inner: Vec<Inner>,
    }
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Inner {
        size: u8,
    }

    async fn problem(body: &str) -> (u16, String) {
        let response = parse::<Outer>(body.as_bytes()).unwrap_err().into_response();
        let status = response.status().as_u16();
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        (status, value["errors"][0]["pointer"].as_str().unwrap_or_default().to_owned())
    }

    #[tokio::test]
    async fn wrong_fields_are_pointed_at() {
        for (body, status, pointer) in [
            ("{", 400, ""),
            ("{\"title\":\"a\"} x", 400, ""),
            ("{}", 422, "/title"),
            ("{\"title\":1}", 422, "/title"),
            ("{\"title\":\"a\",\"role\":\"admin\"}", 422, "/role"),
            ("{\"title\":\"a\",\"inner\":[{\"size\":1},{\"size\":300}]}", 422, "/inner/1/size"),
            ("{\"title\":\"a\",\"inner\":[{\"a/b\":1}]}", 422, "/inner/0/a~1b"),
            ("{\"title\":\"a\",\"inner\":[{}]}", 422, "/inner/0/size"),
            ("[]", 422, "/title"),
            (r#"{"title":"a\u0000b"}"#, 422, "/title"),
            (r#"{"title":"a","inner":[{"size":1,"x":["\u0000"]}]}"#, 422, "/inner/0/x/0"),
            // A backslash and a word, which the type refuses for another reason.
            (r#"{"title":"\\u0000","inner":[{"size":300}]}"#, 422, "/inner/0/size"),
        ] {
            let got = problem(body).await;
            assert!(got.0 == status, "{body}: {got:?}");
            assert!(got.1 == pointer || body == "[]", "{body}: {got:?}");
        }
    }
}
