//! Every error that leaves the API: a problem document (RFC 9457) with a stable `type`. The list stands in `docs/problems.md`.
//!
//! Which error type belongs where: enums in `domain` and `store`, `actions::Error` for verbs, `Problem` here, `queue::JobError`
//! in workers. What is our fault is logged here, once; what is the caller's fault is not logged as an error.

use crate::scim_errors::ScimType;
use actions::FieldError;
use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

const TYPES: &str = "https://relaydesk.dev/problems/";

/// An error as the caller sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is: an address that never changes, explained in `docs/problems.md`.
    #[serde(rename = "type")]
    #[schema(example = "https://relaydesk.dev/problems/validation")]
    kind: String,
    title: &'static str,
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = u16, example = 422)]
    status: StatusCode,
    /// What is wrong and what to do about it.
    detail: String,
    /// One entry per wrong field.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<WrongField>)]
    errors: Vec<FieldError>,
    /// Find the request in the logs by this.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip)]
    headers: HeaderMap,
    #[serde(skip)]
    scim_type: Option<ScimType>,
    slug: &'static str,
}

/// What is wrong with one field or parameter.
#[derive(Serialize, ToSchema)]
pub struct WrongField {
    /// RFC 6901 pointer into the body, or `/name` of a parameter.
    pub pointer: String,
    pub detail: String,
}

/// Of an answer that is a problem: the last part of its `type`, for layers around the handlers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Kind(pub &'static str);

impl Kind {
    pub const REAUTHENTICATION_REQUIRED: Kind = Kind("reauthentication-required");
}

fn as_number<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl Problem {
    fn new(slug: &'static str, title: &'static str, status: StatusCode, detail: impl Into<String>) -> Self {
        Problem {
            kind: format!("{TYPES}{slug}"),
            title,
            status,
            detail: detail.into(),
            errors: Vec::new(),
            trace_id: None,
            headers: HeaderMap::new(),
            scim_type: None,
            slug,
        }
    }

    /// The request could not be read at all: broken JSON, a parameter of the wrong form.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Problem::new("bad-request", "Bad request", StatusCode::BAD_REQUEST, detail)
    }

    /// A query parameter that the route does not have.
    pub fn unknown_parameter(name: &str, known: &[String]) -> Self {
        let detail = match known {
            [] => "is not a parameter here: there are none".to_owned(),
            known => format!("is not a parameter here (known are {})", known.join(", ")),
        };
        let problem = Problem::bad_request(format!("the query parameter {name:?} {detail}"));
        Problem { errors: vec![FieldError { pointer: format!("/{name}"), detail }], ..problem }
    }

    /// The body was read, and fields of it are wrong.
    pub fn validation(errors: Vec<FieldError>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", one.pointer, one.detail),
            many => format!("{} fields are wrong", many.len()),
        };
        let problem = Problem::new("validation", "Invalid input", StatusCode::UNPROCESSABLE_ENTITY, detail);
        Problem { errors, ..problem }
    }

    pub fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Problem::validation(vec![FieldError { pointer: pointer.into(), detail: detail.into() }])
    }

    /// The body was kept, and cannot be used: what is wrong, with pointers.
    pub fn unusable_payload(errors: Vec<FieldError>, detail: impl Into<String>) -> Self {
        Problem {
            errors,
            ..Problem::new("unusable-payload", "Unusable payload", StatusCode::BAD_REQUEST, detail)
        }
    }

    /// No credentials, or none that are good.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Problem::new("unauthorized", "Not authenticated", StatusCode::UNAUTHORIZED, detail)
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"relaydesk\""))
    }

    pub fn forbidden(detail: impl Into<String>) -> Self {
        Problem::new("forbidden", "Not allowed", StatusCode::FORBIDDEN, detail)
    }

    /// The login is too old for what is asked: who it is has to be shown again.
    pub fn reauthentication_required() -> Self {
        let detail = "show again who you are (POST auth/reauthenticate, or log in anew), and repeat this within ten minutes";
        Problem::new("reauthentication-required", "Show again who you are", StatusCode::FORBIDDEN, detail)
    }

    /// Somebody else knows the password.
    pub fn password_change_required() -> Self {
        let detail = "somebody else has set your password: change it (POST auth/change-password), then go on";
        Problem::new("password-change-required", "Change your password first", StatusCode::FORBIDDEN, detail)
    }

    /// A scanner found something in what was asked for.
    pub fn infected_file(found: &str) -> Self {
        let detail = format!("the scanner found {found} in it: it is kept, and not handed out");
        Problem::new("infected-file", "Infected file", StatusCode::FORBIDDEN, detail)
    }

    /// Also the answer for what belongs to another organization.
    pub fn not_found() -> Self {
        Problem::new("not-found", "Not found", StatusCode::NOT_FOUND, "there is no such thing here")
    }

    /// The same, where it helps to say more.
    pub fn not_found_because(detail: impl Into<String>) -> Self {
        Problem::new("not-found", "Not found", StatusCode::NOT_FOUND, detail)
    }

    /// It was there, and is not to be had any more.
    pub fn gone(detail: impl Into<String>) -> Self {
        Problem::new("gone", "Gone", StatusCode::GONE, detail)
    }

    pub fn conflict(detail: impl Into<String>) -> Self {
        Problem::new("conflict", "Conflict", StatusCode::CONFLICT, detail)
    }

    /// `If-Match` did not match.
    pub fn precondition_failed() -> Self {
        Problem::new(
            "precondition-failed",
            "Changed meanwhile",
            StatusCode::PRECONDITION_FAILED,
            "somebody else changed this meanwhile: fetch it again and repeat the change with the new ETag",
        )
    }

    pub fn idempotency_in_progress() -> Self {
        let detail = "the first request with this Idempotency-Key is still running: try again in a moment";
        Problem::new("idempotency-in-progress", "Still running", StatusCode::CONFLICT, detail).retry_after(1)
    }

    pub fn idempotency_key_reused() -> Self {
        let detail = "this Idempotency-Key was used for a different request: use a new one";
        Problem::new("idempotency-key-reused", "Key already used", StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    pub fn idempotency_answer_lost() -> Self {
        let detail = "the first request with this Idempotency-Key took effect, but its answer was not kept: look the result up";
        Problem::new("idempotency-answer-lost", "Already done", StatusCode::CONFLICT, detail)
    }

    pub fn payload_too_large(detail: impl Into<String>) -> Self {
        Problem::new("payload-too-large", "Too large", StatusCode::PAYLOAD_TOO_LARGE, detail)
    }

    /// The body came too slowly.
    pub fn request_timeout() -> Self {
        let detail = "nothing came of the body for too long: send it again";
        Problem::new("request-timeout", "Body too slow", StatusCode::REQUEST_TIMEOUT, detail)
    }

    /// The body is compressed, which nothing here takes apart.
    pub fn unsupported_encoding() -> Self {
        let problem = Problem::unsupported_media_type("it is");
        Problem { detail: "send the body without Content-Encoding".to_owned(), ..problem }
            .with_header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))
    }

    pub fn unsupported_media_type(expected: &str) -> Self {
        let detail = format!("send the body as {expected} and say so in Content-Type");
        Problem::new(
            "unsupported-media-type",
            "Unsupported media type",
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            detail,
        )
    }

    pub fn too_many_requests(detail: impl Into<String>, seconds: u32) -> Self {
        Problem::new("too-many-requests", "Too many requests", StatusCode::TOO_MANY_REQUESTS, detail)
            .retry_after(seconds)
    }

    /// Our fault; the cause is for the log, not for the caller.
    pub fn internal(cause: &(dyn std::fmt::Display + Sync)) -> Self {
        tracing::error!(error = %cause, "request failed");
        let detail = "something went wrong on our side; the trace id leads to the log";
        Problem::new("internal", "Internal error", StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    pub fn unavailable(detail: impl Into<String>, seconds: u32) -> Self {
        Problem::new("unavailable", "Unavailable", StatusCode::SERVICE_UNAVAILABLE, detail)
            .retry_after(seconds)
    }

    /// For answers that something below us made without a body of ours (unknown method, body too large …).
    pub(crate) fn of_status(status: StatusCode, text: &str) -> Self {
        let detail = |otherwise: &str| {
            if text.is_empty() { otherwise.to_owned() } else { text.to_lowercase() }
        };
        match status {
            StatusCode::NOT_FOUND => Problem::not_found(),
            StatusCode::METHOD_NOT_ALLOWED => {
                let detail = "this path does not support the method: see the Allow header";
                Problem::new("method-not-allowed", "Method not allowed", status, detail)
            }
            StatusCode::PAYLOAD_TOO_LARGE => Problem::payload_too_large(detail("the body is too large")),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::unsupported_media_type("application/json"),
            StatusCode::UNPROCESSABLE_ENTITY => {
                Problem::new("validation", "Invalid input", status, detail("the input is not valid"))
            }
            StatusCode::UNAUTHORIZED => Problem::unauthorized(detail("credentials are missing or not valid")),
            StatusCode::SERVICE_UNAVAILABLE => Problem::unavailable(detail("try again in a moment"), 1),
            status if status.is_client_error() => {
                Problem { status, ..Problem::bad_request(detail("the request is not valid")) }
            }
            status => Problem { status, ..Problem::internal(&format!("answered {status}: {text}")) },
        }
    }

    pub fn detail(&self) -> &str {
        &self.detail
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    pub fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// What it is in SCIM's words, should it be told in them.
    pub(crate) fn with_scim_type(self, word: ScimType) -> Self {
        Problem { scim_type: Some(word), ..self }
    }

    fn retry_after(self, seconds: u32) -> Self {
        self.with_header(header::RETRY_AFTER, seconds.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.trace_id = queue::trace::current().map(|context| context.trace_id_hex());
        let (headers, scim_type) = (std::mem::take(&mut self.headers), self.scim_type);
        let kind = Kind(self.slug);
        let mut response = (self.status, headers, Json(self)).into_response();
        response.extensions_mut().insert(kind);
        let media_type = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, media_type);
        if let Some(word) = scim_type {
            response.extensions_mut().insert(word);
        }
        response
    }
}

impl From<store::Error> for Problem {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NotFound => Problem::not_found(),
            store::Error::Stale => Problem::precondition_failed(),
            error if error.is_unavailable() => {
                tracing::warn!(%error, "database unavailable");
                Problem::unavailable("the database cannot be reached: try again in a moment", 2)
            }
            error if error.is_contended() => {
                tracing::warn!(%error, "others held what the request needs");
                Problem::unavailable("others are changing the same things: try again in a moment", 1)
            }
            // The checks before should have said so, with a pointer; that they did not is worth knowing.
            error if error.is_refused_data() => {
                tracing::warn!(%error, "the database refused a value of the request");
                let detail =
                    "a value is too large, too long, out of range, or holds characters that cannot be stored";
                Problem { detail: detail.to_owned(), ..Problem::validation(Vec::new()) }
            }
            error => Problem::internal(&error),
        }
    }
}

impl From<actions::Error> for Problem {
    fn from(error: actions::Error) -> Self {
        use actions::Error;
        match error {
            Error::NotFound => Problem::not_found(),
            Error::Forbidden(detail) => Problem::forbidden(detail),
            Error::Unauthenticated(detail) => Problem::unauthorized(detail),
            Error::Busy(detail) => Problem::unavailable(detail, 1),
            Error::TooMany { detail, seconds } => Problem::too_many_requests(detail, seconds),
            Error::Conflict(detail) => Problem::conflict(detail),
            Error::Stale => Problem::precondition_failed(),
            Error::Invalid(errors) => Problem::validation(errors),
            Error::Store(error) => error.into(),
            Error::Enqueue(queue::EnqueueError::Database(error)) => store::Error::from(error).into(),
            Error::Enqueue(error) => Problem::internal(&error),
        }
    }
}

impl From<domain::permission::Denied> for Problem {
    fn from(denied: domain::permission::Denied) -> Self {
        Problem::forbidden(denied.to_string())
    }
}

impl From<queue::EnqueueError> for Problem {
    fn from(error: queue::EnqueueError) -> Self {
        actions::Error::from(error).into()
    }
}

/// Words for a violated constraint: `.on_constraint("teams_name_key", || Problem::conflict("that name is taken"))?`
pub trait OnConstraint<T> {
    fn on_constraint(self, name: &str, words: impl FnOnce() -> Problem) -> Result<T, Problem>;
}

impl<T> OnConstraint<T> for Result<T, store::Error> {
    fn on_constraint(self, name: &str, words: impl FnOnce() -> Problem) -> Result<T, Problem> {
        self.map_err(|error| if error.constraint() == Some(name) { words() } else { error.into() })
    }
}

impl<T> OnConstraint<T> for Result<T, actions::Error> {
    fn on_constraint(self, name: &str, words: impl FnOnce() -> Problem) -> Result<T, Problem> {
        self.map_err(|error| match &error {
            actions::Error::Store(inner) if inner.constraint() == Some(name) => words(),
            _ => error.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Problem};
    use std::collections::BTreeSet;

    #[test]
    fn layers_know_a_login_that_is_too_old() {
        assert_eq!(Kind(Problem::reauthentication_required().slug), Kind::REAUTHENTICATION_REQUIRED);
    }

    #[test]
    fn the_documented_types_are_the_real_ones() {
        let page = include_str!("../../docs/problems.md");
        let documented: BTreeSet<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .filter_map(|rest| rest.split('`').next())
            .collect();
        let source = include_str!("problem.rs");
        let (code, _) = source.split_once("#[cfg(test)]").unwrap();
        let made: BTreeSet<&str> =
            code.split("Problem::new(").skip(1).filter_map(|rest| rest.split('"').nth(1)).collect();
        assert_eq!(documented, made);
    }
}
