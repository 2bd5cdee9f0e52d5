//! The people and teams that a verb names must be there and fit.

use crate::{Error, Result};
use domain::{TeamId, UserId};
use store::Tx;

/// Tickets are worked on by staff with a living account.
pub(super) async fn must_be_staff(tx: &mut Tx, user: UserId, pointer: &str) -> Result<()> {
    match store::ticket_people::standing(tx, user).await? {
        Some(person) if person.is_active && person.is_staff => Ok(()),
        Some(person) if !person.is_active => Err(Error::invalid(pointer, "this user is not active")),
        Some(_) => {
            Err(Error::invalid(pointer, "an end user cannot be assigned: name an agent, manager or admin"))
        }
        None => Err(Error::invalid(pointer, "there is no such user")),
    }
}

/// Why somebody who was given a ticket cannot work on it any more; `None`: they can.
pub(super) async fn gone(tx: &mut Tx, user: UserId) -> Result<Option<&'static str>> {
    Ok(match store::ticket_people::standing(tx, user).await? {
        None => Some("the assignee was deleted"),
        Some(person) if !person.is_active => Some("the assignee is not active any more"),
        Some(person) if !person.is_staff => Some("the assignee is an end user by now"),
        Some(_) => None,
    })
}

/// Who works for somebody who is away, and may: `None` if they are there themselves, or nobody stands in.
pub(super) async fn stand_in(tx: &mut Tx, user: UserId) -> Result<Option<UserId>> {
    let Some(found) = store::absences::stand_in(tx, user).await? else { return Ok(None) };
    let standing = store::ticket_people::standing(tx, found).await?;
    Ok(standing.filter(|person| person.is_active && person.is_staff).map(|_| found))
}

pub(super) async fn must_exist(tx: &mut Tx, user: UserId, pointer: &str) -> Result<()> {
    match store::ticket_people::standing(tx, user).await? {
        Some(_) => Ok(()),
        None => Err(Error::invalid(pointer, "there is no such user")),
    }
}

pub(super) async fn must_be_team(tx: &mut Tx, team: TeamId, pointer: &str) -> Result<()> {
    if store::removals::has_team(tx, team).await? {
        Ok(())
    } else {
        Err(Error::invalid(pointer, "there is no such team"))
    }
}
