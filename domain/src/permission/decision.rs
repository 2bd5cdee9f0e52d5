//! Whether somebody may do something with a ticket, and why.

use super::{Denied, Permission, Rights, Scope, names};
use crate::{Actor, DepartmentId, TeamId, UserId, Who};
use std::fmt;

/// How a person stands to a ticket. More of it never allows less ([`Standing::is_confidential`] apart).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub is_requester: bool,
    pub is_watcher: bool,
    pub is_assignee: bool,
    /// In the team that has the ticket.
    pub is_in_team: bool,
    /// The team that has it, or its requester, is of the person's department or of one below it.
    pub is_in_department: bool,
    /// Only who has a part in the ticket sees it, and who may see such tickets.
    pub is_confidential: bool,
}

impl Standing {
    /// As far as the ticket's own fields tell.
    pub fn by_fields(
        rights: &Rights,
        requester: Option<UserId>,
        assignee: Option<UserId>,
        team: Option<TeamId>,
        is_confidential: bool,
    ) -> Standing {
        Standing {
            is_requester: requester == Some(rights.user),
            is_assignee: assignee == Some(rights.user),
            is_in_team: team.is_some_and(|team| rights.teams.contains(&team)),
            is_confidential,
            ..Standing::default()
        }
    }

    fn is_own(self) -> bool {
        self.is_requester || self.is_watcher || self.is_assignee
    }

    fn has_part(self) -> bool {
        self.is_own() || self.is_in_team
    }

    fn is_within(self, scope: Scope) -> bool {
        match scope {
            Scope::Own => self.is_own(),
            Scope::Team => self.has_part(),
            Scope::Department => self.has_part() || self.is_in_department,
            Scope::Organization => true,
        }
    }
}

/// Allowed or not, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Relaydesk itself.
    System,
    /// Has it in a scope in which the ticket is.
    Granted(Permission, Scope),
    NotGranted(Permission),
    /// The person has it, the credential they use does not.
    BeyondLimits(Permission),
    /// Has it, but not for this ticket.
    OutOfScope(Permission, Scope),
    /// Would see it if it were not confidential.
    Confidential,
}

impl Why {
    pub(super) fn missing(rights: &Rights, permission: Permission) -> Why {
        match rights.granted(permission) {
            Some(_) => Why::BeyondLimits(permission),
            None => Why::NotGranted(permission),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::System => write!(f, "Relaydesk itself may"),
            Why::Granted(permission, scope) => {
                write!(f, "has the permission {} in the scope {}", permission.as_str(), scope.as_str())
            }
            Why::NotGranted(permission) => {
                let roles = names(permission.roles());
                write!(f, "this needs the permission {} ({roles} may)", permission.as_str())
            }
            Why::BeyondLimits(permission) => {
                write!(f, "this needs the permission {}, which this token does not have", permission.as_str())
            }
            Why::OutOfScope(permission, scope) => {
                let whose = match scope {
                    Scope::Own => "those one requested, watches or is assigned",
                    Scope::Team => "those of one's teams",
                    Scope::Department => "those of one's department",
                    Scope::Organization => "all",
                };
                write!(
                    f,
                    "this needs the permission {} for this ticket: it is granted for {whose}",
                    permission.as_str()
                )
            }
            Why::Confidential => write!(
                f,
                "the ticket is confidential: its requester, assignee, team and watchers see it, and who has the permission {}",
                Permission::TicketsViewConfidential.as_str()
            ),
        }
    }
}

fn allowed(why: Why) -> Decision {
    Decision { allowed: true, why }
}

fn denied(why: Why) -> Decision {
    Decision { allowed: false, why }
}

fn asked(rights: &Rights, permission: Permission, standing: Standing) -> Decision {
    match rights.scope(permission) {
        None => denied(Why::missing(rights, permission)),
        Some(scope) if standing.is_within(scope) => allowed(Why::Granted(permission, scope)),
        Some(scope) => denied(Why::OutOfScope(permission, scope)),
    }
}

/// Whether the ticket is there for this person.
pub fn may_see(rights: &Rights, standing: Standing) -> Decision {
    let mut decision = asked(rights, Permission::TicketsView, standing);
    if !decision.allowed {
        let own = asked(rights, Permission::TicketsViewOwn, standing);
        // The wider permission explains better why it does not reach.
        if own.allowed || rights.scope(Permission::TicketsView).is_none() {
            decision = own;
        }
    }
    if decision.allowed && standing.is_confidential && !standing.has_part() {
        let special = asked(rights, Permission::TicketsViewConfidential, standing);
        return if special.allowed { special } else { denied(Why::Confidential) };
    }
    decision
}

/// Whether this person may do it to the ticket. What they do not see they cannot touch either.
pub fn decide(rights: &Rights, permission: Permission, standing: Standing) -> Decision {
    let seen = may_see(rights, standing);
    if !seen.allowed || matches!(permission, Permission::TicketsView | Permission::TicketsViewOwn) {
        return seen;
    }
    if permission.has_scopes() {
        return asked(rights, permission, standing);
    }
    match rights.scope(permission) {
        Some(scope) => allowed(Why::Granted(permission, scope)),
        None => denied(Why::missing(rights, permission)),
    }
}

impl Decision {
    pub fn or_denied(self, permission: Permission) -> Result<(), Denied> {
        if self.allowed { Ok(()) } else { Err(Denied { permission, why: self.why }) }
    }
}

/// Which tickets an actor sees, for lists: the same as [`may_see`], said of all at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every ticket there is.
    Everything,
    Nothing,
    Some(Tickets),
}

/// Those within `scope`; of the confidential ones those in which the person has a part, and those within `confidential`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tickets {
    pub user: UserId,
    pub teams: Vec<TeamId>,
    pub departments: Vec<DepartmentId>,
    pub scope: Scope,
    pub confidential: Option<Scope>,
}

pub fn reach(actor: &Actor) -> Reach {
    let Who::User { rights, .. } = &actor.who else { return Reach::Everything };
    let own = rights.scope(Permission::TicketsViewOwn).map(|_| Scope::Own);
    let Some(scope) = rights.scope(Permission::TicketsView).max(own) else { return Reach::Nothing };
    let confidential = rights.scope(Permission::TicketsViewConfidential);
    if (scope, confidential) == (Scope::Organization, Some(Scope::Organization)) {
        return Reach::Everything;
    }
    let (user, teams, departments) = (rights.user, rights.teams.clone(), rights.departments.clone());
    Reach::Some(Tickets { user, teams, departments, scope, confidential })
}

impl Reach {
    /// Sees every ticket that is not confidential: what most of staff do.
    pub fn is_organization_wide(&self) -> bool {
        match self {
            Reach::Everything => true,
            Reach::Nothing => false,
            Reach::Some(tickets) => tickets.scope == Scope::Organization,
        }
    }
}
