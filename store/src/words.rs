//! Words of the domain as columns hold them.

use crate::{Error, Result};
use std::str::FromStr;

/// Reads a column that holds a word of a closed set. A word that this version does not know is a corrupt row.
pub(crate) fn word<T>(column: &str) -> Result<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    column.parse().map_err(|error: T::Err| Error::Corrupt(error.to_string()))
}
