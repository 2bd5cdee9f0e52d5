//! Path and query parameters, with problems instead of plain-text refusals.

use crate::body::field_error;
use crate::{Problem, page};
use axum::extract::{FromRequestParts, Path};
use axum::http::Uri;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use std::str::FromStr;

/// Path parameters. An id that is none names nothing: 404.
#[derive(Clone, Copy, Debug)]
pub struct ApiPath<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for ApiPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Path::<T>::from_request_parts(parts, state).await {
            // No name in the database holds a U+0000.
            Ok(Path(value)) if !parts.uri.path().contains("%00") => Ok(ApiPath(value)),
            _ => Err(Problem::not_found()),
        }
    }
}

/// The query parameters of a list besides those of [`crate::ListQuery`]: one field per filter. Use
/// `#[serde(deny_unknown_fields)]`: a filter with a typing error must not answer everything.
#[derive(Clone, Copy, Debug)]
pub struct Filters<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Filters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut pairs = pairs(&parts.uri)?;
        pairs.retain(|(name, _)| !page::PARAMETERS.contains(&name.as_str()));
        read(pairs).map(Filters)
    }
}

pub(crate) fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Problem> {
    pairs_of(uri.query().unwrap_or_default())
}

pub(crate) fn pairs_of(text: &str) -> Result<Vec<(String, String)>, Problem> {
    serde_urlencoded::from_str(text)
        .map_err(|error| Problem::bad_request(format!("the query string cannot be read: {error}")))
}

fn read<T: DeserializeOwned>(pairs: Vec<(String, String)>) -> Result<T, Problem> {
    let encoded = serde_urlencoded::to_string(&pairs).map_err(|error| Problem::internal(&error))?;
    let parameters = serde_urlencoded::Deserializer::new(url_pairs(encoded.as_bytes()));
    serde_path_to_error::deserialize(parameters).map_err(|error| {
        let path = error.path().to_string();
        let pointer = if path == "." { String::new() } else { format!("/{path}") };
        Problem::validation(vec![field_error(pointer, &error.into_inner().to_string())])
    })
}

fn url_pairs(encoded: &[u8]) -> url::form_urlencoded::Parse<'_> {
    url::form_urlencoded::parse(encoded)
}

/// A filter that takes one value or several, separated by commas: `?status=new,pending`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneOrMore<T>(pub Vec<T>);

impl<'de, T> Deserialize<'de> for OneOrMore<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let values = text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(T::from_str);
        values.collect::<Result<_, _>>().map(OneOrMore).map_err(serde::de::Error::custom)
    }
}
