//! The people and teams that a verb names must be there and fit.

use crate::{Error, Result};
use domain::{TeamId, UserId};
use store::Tx;

/// Tickets are worked on by staff with a living account.
pub(super) async fn must_be_staff(tx: &mut Tx, user: UserId, pointer: &str) -> Result<()> {
    match store::ticket_people::standing(tx, user).await? {
        Some(person) if person.is_active && person.role.is_staff() => Ok(()),
        Some(person) if !person.is_active => Err(Error::invalid(pointer, "this user is not active")),
        Some(_) => {
            Err(Error::invalid(pointer, "an end user cannot be assigned: name an agent, manager or admin"))
        }
        None => Err(Error::invalid(pointer, "there is no such user")),
    }
}

pub(super) async fn must_exist(tx: &mut Tx, user: UserId, pointer: &str) -> Result<()> {
    match store::ticket_people::standing(tx, user).await? {
        Some(_) => Ok(()),
        None => Err(Error::invalid(pointer, "there is no such user")),
    }
}

pub(super) async fn must_be_team(tx: &mut Tx, team: TeamId, pointer: &str) -> Result<()> {
    if store::ticket_people::team_exists(tx, team).await? {
        Ok(())
    } else {
        Err(Error::invalid(pointer, "there is no such team"))
    }
}
