//! The configuration file.

use super::{ConfigError, SETTINGS};
use std::path::Path;

/// Its values by environment name.
pub(super) fn read(path: &Path) -> Result<Vec<(&'static str, String)>, ConfigError> {
    let wrong = |reason: String| ConfigError::File { path: path.display().to_string(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    table
        .into_iter()
        .map(|(key, value)| {
            let setting = SETTINGS.iter().find(|setting| setting.key() == key).ok_or_else(|| {
                wrong(format!("{key:?} is no setting; `relaydesk config check --help` lists them"))
            })?;
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                other => return Err(wrong(format!("{key} is {other}: expected {}", setting.expects))),
            };
            Ok((setting.env, value))
        })
        .collect()
}
