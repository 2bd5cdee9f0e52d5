//! Checks of input that several verbs share. Each answers the cleaned value or says what is wrong, with a pointer.

use crate::{Error, FieldError, Result};
use domain::{EmailAddress, TeamId, UserId};
use std::collections::HashMap;
use store::Tx;

/// Trimmed, not empty, at most `longest` characters.
pub(crate) fn text(pointer: &str, value: &str, longest: usize) -> Result<String> {
    let value = value.trim();
    match value.chars().count() {
        0 => Err(Error::invalid(pointer, "must not be empty")),
        n if n > longest => {
            Err(Error::invalid(pointer, format!("must be at most {longest} characters long")))
        }
        _ if value.chars().any(|c| c.is_control()) => {
            Err(Error::invalid(pointer, "must not contain control characters"))
        }
        _ => Ok(value.to_owned()),
    }
}

/// For optional fields: empty means "none".
pub(crate) fn optional_text(pointer: &str, value: Option<&str>, longest: usize) -> Result<Option<String>> {
    value.filter(|value| !value.trim().is_empty()).map(|value| text(pointer, value, longest)).transpose()
}

pub(crate) fn email(pointer: &str, value: &str) -> Result<EmailAddress> {
    EmailAddress::parse(value).map_err(|error| Error::invalid(pointer, error.to_string()))
}

/// The name of an IANA time zone.
pub(crate) fn time_zone(pointer: &str, value: &str) -> Result<String> {
    value
        .parse::<chrono_tz::Tz>()
        .map(|zone| zone.name().to_owned())
        .map_err(|_| Error::invalid(pointer, "must be an IANA time zone, for example Europe/Berlin"))
}

/// Documents hold ids for which there is no foreign key: each must be of the organization. What is not is added to
/// `wrong` under the pointer of its place in `ids`.
pub(crate) async fn teams(
    tx: &mut Tx,
    ids: &[TeamId],
    pointer: impl Fn(usize) -> String,
    wrong: &mut Vec<FieldError>,
) -> Result<()> {
    let known =
        if ids.is_empty() { HashMap::new() } else { store::ticket_people::team_names(tx, ids).await? };
    missing(ids, |id| known.contains_key(id), pointer, "there is no such team", wrong);
    Ok(())
}

/// As [`teams`], for people.
pub(crate) async fn users(
    tx: &mut Tx,
    ids: &[UserId],
    pointer: impl Fn(usize) -> String,
    wrong: &mut Vec<FieldError>,
) -> Result<()> {
    let known = if ids.is_empty() { HashMap::new() } else { store::ticket_people::names(tx, ids).await? };
    missing(ids, |id| known.contains_key(id), pointer, "there is no such user", wrong);
    Ok(())
}

fn missing<T>(
    ids: &[T],
    is_known: impl Fn(&T) -> bool,
    pointer: impl Fn(usize) -> String,
    detail: &str,
    wrong: &mut Vec<FieldError>,
) {
    let unknown = ids.iter().enumerate().filter(|(_, id)| !is_known(id));
    wrong.extend(unknown.map(|(index, _)| FieldError { pointer: pointer(index), detail: detail.to_owned() }));
}

/// Maps violated constraints to wrong fields: `[("teams_manager_fkey", "/manager", "there is no such user")]`.
pub(crate) fn constraints<T>(result: store::Result<T>, words: &[(&str, &str, &str)]) -> Result<T> {
    result.map_err(|error| {
        let violated = error.constraint().and_then(|name| words.iter().find(|(known, ..)| *known == name));
        match violated {
            Some((_, pointer, detail)) => Error::invalid(*pointer, *detail),
            None => error.into(),
        }
    })
}
