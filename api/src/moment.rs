//! Times and days from outside: between 1970 and 9999, so that no sum of them leaves what PostgreSQL and RFC 3339 can write.
//! `#[serde(default, deserialize_with = "crate::moment::optional")]`

use chrono::{DateTime, Datelike, NaiveDate, Utc};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

fn bounded<T: Datelike, E: Error>(value: T) -> Result<T, E> {
    if (1970..=9999).contains(&value.year()) {
        Ok(value)
    } else {
        Err(E::custom("must be between the years 1970 and 9999"))
    }
}

pub fn of_text(text: &str) -> Result<DateTime<Utc>, String> {
    let time: DateTime<Utc> = text.parse().map_err(|_| format!("{text:?} is not a time (RFC 3339)"))?;
    bounded::<_, serde::de::value::Error>(time).map_err(|error| error.to_string())
}

pub fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DateTime<Utc>, D::Error> {
    DateTime::deserialize(deserializer).and_then(bounded)
}

pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    Option::<DateTime<Utc>>::deserialize(deserializer)?.map(bounded).transpose()
}

pub fn day<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NaiveDate, D::Error> {
    NaiveDate::deserialize(deserializer).and_then(bounded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn years_have_bounds() {
        for (text, good) in [
            ("2026-11-21T08:00:00Z", true),
            ("9999-12-31T23:59:59Z", true),
            ("1969-12-31T23:59:59Z", false),
            ("+10000-01-01T00:00:00Z", false),
            ("0000-01-01T00:00:00Z", false),
        ] {
            assert_eq!(required(json!(text)).is_ok(), good, "{text}");
        }
        assert!(optional(json!(null)).is_ok_and(|moment| moment.is_none()));
        assert!(day(json!("1969-12-31")).is_err() && day(json!("2026-12-25")).is_ok());
    }
}
