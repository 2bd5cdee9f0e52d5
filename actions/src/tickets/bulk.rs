//! The same done to many tickets, by a job: one after the other, each in a transaction of its own, with the rights that whoever asked for
//! it has at that moment. What cannot be done to one does not keep it from the others.

use super::status::clean_resolution;
use super::{Assignment, add_tag, assign, cancel, close, people, remove_tag, reopen, resolve, tags};
use crate::jobs::ChangeTickets;
use crate::{Error, Result, api_tokens};
use domain::permission::{self, Permission};
use domain::ticket::text;
use domain::{Actor, ApiTokenId, TeamId, TicketId, UserId};
use queue::admin::{self, JobView};
use queue::{Job, JobId, NewJob};
use serde::{Deserialize, Serialize};
use store::Tx;

/// So many at a time.
pub const MOST: usize = 500;

/// What is done to each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum TicketChange {
    /// `None` leaves it as it is, nobody stands in the list for "nobody".
    Assign {
        assignee: Option<Named<UserId>>,
        team: Option<Named<TeamId>>,
        reason: Option<String>,
    },
    Resolve {
        resolution: String,
    },
    Close {
        reason: Option<String>,
    },
    Reopen {
        reason: Option<String>,
    },
    Cancel {
        reason: Option<String>,
    },
    AddTags {
        tags: Vec<String>,
    },
    RemoveTags {
        tags: Vec<String>,
    },
}

/// Somebody, or nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Named<T> {
    One(T),
    Nobody,
}

impl<T> Named<T> {
    pub fn of(value: Option<T>) -> Named<T> {
        value.map_or(Named::Nobody, Named::One)
    }

    fn value(self) -> Option<T> {
        match self {
            Named::One(value) => Some(value),
            Named::Nobody => None,
        }
    }
}

impl TicketChange {
    fn needs(&self) -> Permission {
        match self {
            TicketChange::Assign { .. } => Permission::TicketsAssign,
            TicketChange::Resolve { .. } => Permission::TicketsResolve,
            TicketChange::Close { .. } => Permission::TicketsClose,
            TicketChange::Reopen { .. } => Permission::TicketsReopen,
            TicketChange::Cancel { .. } | TicketChange::AddTags { .. } | TicketChange::RemoveTags { .. } => {
                Permission::TicketsUpdate
            }
        }
    }
}

/// What came of one ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub ticket: TicketId,
    /// Why it could not be done; none: it is done.
    pub problem: Option<String>,
}

/// How far a [`ChangeTickets`] is: kept with each ticket, so that it goes on where it was.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    pub by: Option<UserId>,
    pub tickets: usize,
    pub outcomes: Vec<Outcome>,
}

/// Before anything is begun: what is wrong with the change itself, and would fail with each ticket.
pub async fn check(tx: &mut Tx, actor: &Actor, change: &TicketChange) -> Result<()> {
    permission::check(actor, change.needs())?;
    match change {
        TicketChange::Assign { assignee: None, team: None, .. } => {
            Err(Error::invalid("/assignee", "name an assignee, a team, or both"))
        }
        TicketChange::Assign { assignee, team, .. } => {
            if let Some(Named::One(team)) = team {
                people::must_be_team(tx, *team, "/team").await?;
            }
            if let Some(Named::One(user)) = assignee {
                people::must_be_staff(tx, *user, "/assignee").await?;
            }
            Ok(())
        }
        TicketChange::Resolve { resolution } => clean_resolution(resolution).map(drop),
        TicketChange::AddTags { tags } | TicketChange::RemoveTags { tags } => {
            if !(1..=text::MAX_TAGS).contains(&tags.len()) {
                return Err(Error::invalid("/tags", format!("name 1 to {} tags", text::MAX_TAGS)));
            }
            let wrong = tags.iter().position(|tag| text::tag(tag).is_none());
            wrong.map_or(Ok(()), |at| Err(Error::invalid(format!("/tags/{at}"), tags::RULE)))
        }
        TicketChange::Close { .. } | TicketChange::Reopen { .. } | TicketChange::Cancel { .. } => Ok(()),
    }
}

/// Enqueues the job that does it. `token`: what the actor came with, whose scopes hold for the job too.
pub async fn start(
    tx: &mut Tx,
    actor: &Actor,
    token: Option<ApiTokenId>,
    change: TicketChange,
    tickets: Vec<TicketId>,
) -> Result<JobId> {
    check(tx, actor, &change).await?;
    let by = actor.user_id().ok_or_else(|| Error::forbidden("only people change many tickets at once"))?;
    let id = JobId::new();
    let job = ChangeTickets { by, token, change, tickets };
    crate::enqueue(tx, &[NewJob::of(&job).organization(actor.organization).id(id)]).await?;
    Ok(id)
}

/// Who asked for it, with what they may now.
pub async fn author(tx: &mut Tx, by: UserId, token: Option<ApiTokenId>) -> Result<Actor> {
    let gone = || Error::forbidden("who asked for this has no access any more");
    let mut limits = None;
    if let Some(token) = token {
        let token = store::api_tokens::get(tx, token).await?;
        if token.revoked_at.is_some() || token.expires_at.is_some_and(|end| end <= tx.now()) {
            return Err(gone());
        }
        limits = api_tokens::limits(token.scopes.as_deref());
    }
    let person = store::rights::of(tx, by).await?;
    let person =
        person.filter(|person| person.may_enter && person.suspended_for.is_none()).ok_or_else(gone)?;
    Ok(Actor::user(tx.organization(), by, person.name, person.rights.limited(limits)))
}

/// Does it to one of them.
pub async fn change_one(tx: &mut Tx, actor: &Actor, id: TicketId, change: &TicketChange) -> Result<()> {
    match change {
        TicketChange::Assign { assignee, team, reason } => {
            let assignee = assignee.map(Named::value);
            let assignment = Assignment { assignee, team: team.map(Named::value), reason: reason.clone() };
            assign(tx, actor, id, assignment).await?;
        }
        TicketChange::Resolve { resolution } => drop(resolve(tx, actor, id, resolution).await?),
        TicketChange::Close { reason } => drop(close(tx, actor, id, reason.as_deref()).await?),
        TicketChange::Reopen { reason } => drop(reopen(tx, actor, id, reason.as_deref()).await?),
        TicketChange::Cancel { reason } => drop(cancel(tx, actor, id, reason.as_deref()).await?),
        TicketChange::AddTags { tags } => {
            for tag in tags {
                add_tag(tx, actor, id, tag).await?;
            }
        }
        TicketChange::RemoveTags { tags } => {
            for tag in tags {
                match remove_tag(tx, actor, id, tag).await {
                    // Nobody misses it; whether the ticket is seen was asked for with the lock.
                    Err(Error::NotFound) => drop(super::see(tx, actor, id).await?),
                    other => other?,
                }
            }
        }
    }
    Ok(())
}

/// How far the job is, for who asked for it and for who may see jobs.
pub async fn progress(tx: &mut Tx, actor: &Actor, job: JobId) -> Result<(JobView, Changed)> {
    let job = admin::show(tx, job, Some(actor.organization.0)).await?.job;
    if job.kind != ChangeTickets::KIND {
        return Err(Error::NotFound);
    }
    let told = job.result.clone().or_else(|| job.progress.clone());
    let mut changed: Changed = told.and_then(|told| serde_json::from_value(told).ok()).unwrap_or_default();
    let args = job.args.clone().and_then(|args| serde_json::from_value::<ChangeTickets>(args).ok());
    if let Some(args) = args {
        (changed.by, changed.tickets) = (Some(args.by), args.tickets.len());
    }
    let own = changed.by.is_some() && changed.by == actor.user_id();
    if !own && permission::check(actor, Permission::JobsRead).is_err() {
        return Err(Error::NotFound);
    }
    Ok((job, changed))
}
