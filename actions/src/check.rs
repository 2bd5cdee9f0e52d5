//! Checks of input that several verbs share. Each answers the cleaned value or says what is wrong, with a pointer.

use crate::{Error, FieldError, Result};
use chrono::{DateTime, Utc};
use domain::ticket::text::{is_visible, turns_direction};
use domain::{DepartmentId, EmailAddress, TeamId, UserId};
use std::collections::HashMap;
use store::Tx;

/// Longest name of anything, in characters.
const LONGEST_NAME: usize = 200;

/// Trimmed, not empty, one line of at most `longest` characters.
pub(crate) fn text(pointer: &str, value: &str, longest: usize) -> Result<String> {
    line(value, longest).map_err(|detail| Error::invalid(pointer, detail))
}

/// The rule for the names of things.
pub(crate) fn name(value: &str) -> Result<String> {
    text("/name", value, LONGEST_NAME)
}

/// The same for verbs that tell all wrong fields at once: cleans `value`, or adds what is wrong with it.
pub(crate) fn name_among(wrong: &mut Vec<FieldError>, value: &mut String) {
    match line(value, LONGEST_NAME) {
        Ok(name) => *value = name,
        Err(detail) => wrong.push(FieldError { pointer: "/name".into(), detail }),
    }
}

fn line(value: &str, longest: usize) -> std::result::Result<String, String> {
    let value = value.trim();
    if !is_visible(value) {
        return Err("must not be empty".into());
    }
    if value.chars().count() > longest {
        return Err(format!("must be at most {longest} characters long"));
    }
    if value.chars().any(|c| c.is_control() || turns_direction(c)) {
        return Err("must not contain control characters".into());
    }
    Ok(value.to_owned())
}

/// For optional fields: empty means "none".
pub(crate) fn optional_text(pointer: &str, value: Option<&str>, longest: usize) -> Result<Option<String>> {
    value.filter(|value| !value.trim().is_empty()).map(|value| text(pointer, value, longest)).transpose()
}

pub(crate) fn email(pointer: &str, value: &str) -> Result<EmailAddress> {
    EmailAddress::parse(value).map_err(|error| Error::invalid(pointer, error.to_string()))
}

/// A language by its tag, by its shape; empty means "none".
pub(crate) fn locale(pointer: &str, value: Option<&str>) -> Result<Option<String>> {
    let wrong = || Error::invalid(pointer, "must be a language tag, for example de or de-DE");
    value
        .filter(|value| !value.trim().is_empty())
        .map(|value| domain::language_tag(value).ok_or_else(wrong))
        .transpose()
}

/// The name of an IANA time zone.
pub(crate) fn time_zone(pointer: &str, value: &str) -> Result<String> {
    value
        .parse::<chrono_tz::Tz>()
        .map(|zone| zone.name().to_owned())
        .map_err(|_| Error::invalid(pointer, "must be an IANA time zone, for example Europe/Berlin"))
}

/// What is deleted is there for those that name it already, and cannot be named anew: to whoever tries there is no such thing.
pub(crate) async fn living_team(tx: &mut Tx, pointer: &str, team: Option<TeamId>) -> Result<()> {
    match team {
        Some(team) if !store::removals::has_team(tx, team).await? => {
            Err(Error::invalid(pointer, "there is no such team"))
        }
        _ => Ok(()),
    }
}

/// As [`living_team`].
pub(crate) async fn living_user(tx: &mut Tx, pointer: &str, user: Option<UserId>) -> Result<()> {
    match user {
        Some(user) if !store::removals::has_user(tx, user).await? => {
            Err(Error::invalid(pointer, "there is no such user"))
        }
        _ => Ok(()),
    }
}

/// As [`living_team`].
pub(crate) async fn living_department(
    tx: &mut Tx,
    pointer: &str,
    department: Option<DepartmentId>,
) -> Result<()> {
    match department {
        Some(department) if !store::removals::has_department(tx, department).await? => {
            Err(Error::invalid(pointer, "there is no such department"))
        }
        _ => Ok(()),
    }
}

/// Only what is there can be changed.
pub(crate) fn not_deleted(deleted_at: Option<DateTime<Utc>>) -> Result<()> {
    match deleted_at {
        Some(_) => Err(deleted()),
        None => Ok(()),
    }
}

pub(crate) fn deleted() -> Error {
    Error::conflict("it is deleted: restore it first")
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

/// In place of a pointer: no field is wrong, but there is one like it already.
pub(crate) const CONFLICT: &str = "";

/// Maps violated constraints to wrong fields: `[("teams_manager_fkey", "/manager", "there is no such user")]`, or to a
/// [`CONFLICT`].
pub(crate) fn constraints<T>(result: store::Result<T>, words: &[(&str, &str, &str)]) -> Result<T> {
    result.map_err(|error| {
        let violated = error.constraint().and_then(|name| words.iter().find(|(known, ..)| *known == name));
        match violated {
            Some((_, CONFLICT, detail)) => Error::conflict(*detail),
            Some((_, pointer, detail)) => Error::invalid(*pointer, *detail),
            None => error.into(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_visible_line() {
        assert_eq!(name("  Office hours ").unwrap(), "Office hours");
        let long = "x".repeat(LONGEST_NAME + 1);
        for wrong in ["", " ", "\u{200b}\u{feff}", "a\r\nb", "a\u{7}b", &long] {
            assert!(
                matches!(name(wrong), Err(Error::Invalid(fields)) if fields[0].pointer == "/name"),
                "{wrong:?}"
            );
            let (mut among, mut value) = (Vec::new(), wrong.to_owned());
            name_among(&mut among, &mut value);
            assert_eq!((among.len(), &*value), (1, wrong));
        }
    }
}
