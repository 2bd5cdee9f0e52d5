//! What somebody may, and by way of which roles.

use super::{Permission, allows};
use crate::{Actor, DepartmentId, Role, RoleId, TeamId, UnknownWord, UserId};
use std::collections::{BTreeMap, BTreeSet};

/// How far a permission on tickets reaches. Each scope includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Tickets that one requested, watches or is assigned.
    Own,
    /// And those of one's teams.
    Team,
    /// And those that a team or a requester of one's department, or of one below it, has.
    Department,
    /// All.
    Organization,
}

impl Scope {
    pub const ALL: [Scope; 4] = [Scope::Own, Scope::Team, Scope::Department, Scope::Organization];

    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Own => "own",
            Scope::Team => "team",
            Scope::Department => "department",
            Scope::Organization => "organization",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| UnknownWord {
            what: "scope",
            given: text.to_owned(),
            expected: "own, team, department, organization".into(),
        })
    }
}

/// What a role grants: each permission with how far it reaches.
pub type Permissions = BTreeMap<Permission, Scope>;

/// A custom role that somebody has, directly or as a member of a team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldRole {
    pub id: RoleId,
    pub name: String,
    /// The team that has the role.
    pub team: Option<TeamId>,
    pub permissions: Permissions,
}

/// The most that somebody may with the credential they use, whatever they may otherwise: an API token with scopes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits(BTreeSet<Permission>);

impl Limits {
    pub fn to(permissions: impl IntoIterator<Item = Permission>) -> Limits {
        let mut all: BTreeSet<Permission> = permissions.into_iter().collect();
        // Who may see all may see their own.
        if all.contains(&Permission::TicketsView) {
            all.insert(Permission::TicketsViewOwn);
        }
        Limits(all)
    }

    pub fn allow(&self, permission: Permission) -> bool {
        self.0.contains(&permission)
    }
}

/// All that a person may, as it is at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    pub user: UserId,
    pub role: Role,
    pub custom: Vec<HeldRole>,
    pub teams: Vec<TeamId>,
    /// Their department and all below it.
    pub departments: Vec<DepartmentId>,
    /// They only ever narrow.
    pub limits: Option<Limits>,
}

impl Rights {
    /// Those of a shipped role and nothing else.
    pub fn of_role(user: UserId, role: Role) -> Rights {
        Rights { user, role, custom: Vec::new(), teams: Vec::new(), departments: Vec::new(), limits: None }
    }

    #[must_use]
    pub fn limited(self, limits: Option<Limits>) -> Rights {
        Rights { limits, ..self }
    }

    /// How far a permission reaches with all roles together; `None`: they do not have it.
    pub fn scope(&self, permission: Permission) -> Option<Scope> {
        if self.is_beyond_limits(permission) { None } else { self.granted(permission) }
    }

    /// The same, whatever credential they use.
    pub fn granted(&self, permission: Permission) -> Option<Scope> {
        let custom = self.custom.iter().filter_map(|role| role.permissions.get(&permission).copied()).max();
        shipped(self.role, permission).max(custom.map(|scope| permission.fixed_scope().unwrap_or(scope)))
    }

    pub fn is_beyond_limits(&self, permission: Permission) -> bool {
        self.limits.as_ref().is_some_and(|limits| !limits.allow(permission))
    }

    /// People who work on tickets.
    pub fn is_staff(&self) -> bool {
        self.granted(Permission::TicketsWork).is_some()
    }

    /// All that they may, with its scope.
    pub fn permissions(&self) -> Permissions {
        Permission::ALL.iter().filter_map(|p| Some((*p, self.scope(*p)?))).collect()
    }
}

/// What a shipped role grants: end users have the owner's side of tickets, staff those of the whole organization.
pub(super) fn shipped(role: Role, permission: Permission) -> Option<Scope> {
    let usual = if role == Role::EndUser { Scope::Own } else { Scope::Organization };
    allows(role, permission).then_some(permission.fixed_scope().unwrap_or(usual))
}

impl Role {
    /// What it grants.
    pub fn permissions(self) -> Permissions {
        Permission::ALL.iter().filter_map(|p| Some((*p, shipped(self, *p)?))).collect()
    }
}

/// More than one has oneself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody grants, takes or governs what they do not have themselves: this needs {} in the scope {}", permission.as_str(), scope.as_str())]
pub struct Exceeds {
    pub permission: Permission,
    pub scope: Scope,
}

/// Whether the actor may hand these out. A team's or a department's tickets are other ones for whoever gets the right: only who has it for the
/// organization has those too.
pub fn covers(actor: &Actor, permissions: &Permissions) -> Result<(), Exceeds> {
    let Some(own) = actor.rights() else { return Ok(()) };
    for (permission, wanted) in permissions {
        let scope = if *wanted == Scope::Own { Scope::Own } else { Scope::Organization };
        // Who sees everything sees their own.
        let has = match permission {
            Permission::TicketsViewOwn => own.scope(*permission).max(own.scope(Permission::TicketsView)),
            _ => own.scope(*permission),
        };
        if has < Some(scope) {
            return Err(Exceeds { permission: *permission, scope });
        }
    }
    Ok(())
}

/// Whether the actor may govern somebody with these rights: set their password, their role, end their account.
pub fn covers_user(actor: &Actor, rights: &Rights) -> Result<(), Exceeds> {
    covers(actor, &Permission::ALL.iter().filter_map(|p| Some((*p, rights.granted(*p)?))).collect())
}
