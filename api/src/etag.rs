//! `ETag` and `If-Match` (RFC 9110, 13.1.1): a change is refused when somebody else changed the object meanwhile.
//!
//! The tag stands for the stored object (its version or its last change), not for fields that are computed while answering.

use crate::Problem;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::{Json, http::StatusCode};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// The version of an object as a tag is made of it.
pub trait Version {
    fn tag(&self) -> String;
}

impl Version for i64 {
    fn tag(&self) -> String {
        self.to_string()
    }
}

impl Version for DateTime<Utc> {
    fn tag(&self) -> String {
        format!("{:x}", self.timestamp_micros())
    }
}

/// For objects that are their own version: letters and digits that change with every change.
impl Version for String {
    fn tag(&self) -> String {
        self.clone()
    }
}

/// For `(etag::header(ticket.version), Json(…))`.
pub fn header(version: impl Version) -> [(HeaderName, HeaderValue); 1] {
    let value = HeaderValue::from_str(&format!("\"{}\"", version.tag()))
        .expect("letters, digits and quotes are a header value");
    [(header::ETAG, value)]
}

/// 200 with an ETag.
pub fn ok<T: Serialize>(version: impl Version, body: T) -> Response {
    (header(version), Json(body)).into_response()
}

/// 201 with an ETag and the address of the new object.
pub fn created<T: Serialize>(location: &str, version: impl Version, body: T) -> Response {
    let location = HeaderValue::from_str(location).expect("paths made of ids are a header value");
    (StatusCode::CREATED, [(header::LOCATION, location)], header(version), Json(body)).into_response()
}

/// The `If-Match` header, if there is one. Tags are compared without regard to `W/`: proxies that compress add it.
#[derive(Clone, Debug, Default)]
pub struct IfMatch(Option<Vec<String>>);

impl IfMatch {
    /// 412 unless the header is absent, `*`, or names this version. Call it in the transaction of the change, after the row
    /// was locked.
    pub fn check(&self, current: impl Version) -> Result<(), Problem> {
        let current = current.tag();
        match &self.0 {
            Some(tags) if !tags.iter().any(|tag| tag == "*" || *tag == current) => {
                Err(Problem::precondition_failed())
            }
            _ => Ok(()),
        }
    }

    /// The version as a number, for verbs that compare it themselves (`update … where version = $1`).
    pub fn version(&self) -> Result<Option<i64>, Problem> {
        match self.0.as_deref() {
            None => Ok(None),
            Some([one]) if one == "*" => Ok(None),
            Some([one]) => one.parse().map(Some).map_err(|_| Problem::precondition_failed()),
            Some(_) => Err(Problem::bad_request("name one version in If-Match")),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else {
            return Ok(IfMatch(None));
        };
        let text = value.to_str().map_err(|_| Problem::bad_request("the If-Match header cannot be read"))?;
        let tag = |part: &str| part.trim().trim_start_matches("W/").trim_matches('"').to_owned();
        Ok(IfMatch(Some(text.split(',').map(tag).collect())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_versions() {
        assert!(IfMatch(None).check(3).is_ok());
        assert!(IfMatch(Some(vec!["*".into()])).check(3).is_ok());
        assert!(IfMatch(Some(vec!["2".into(), "3".into()])).check(3).is_ok());
        assert!(IfMatch(Some(vec!["2".into()])).check(3).is_err());
        assert_eq!(IfMatch(Some(vec!["2".into()])).version().unwrap(), Some(2));
        assert!(IfMatch(Some(vec!["abc".into()])).version().is_err());
    }
}
