//! Who may do what: the one place where everybody asks.
//!
//! A person's [`Rights`] are what their shipped role and their custom roles grant, each permission with a [`Scope`]. Most permissions are asked
//! for the whole organization ([`check`]); those on a ticket also ask how the person stands to it ([`decide`]): requester, watcher, assignee, in
//! its team, in its department, and whether it is confidential. Lists ask for the same in SQL ([`Reach`]).

mod decision;
mod rights;
#[cfg(test)]
mod tests;

pub use decision::{Decision, Reach, Standing, Tickets, Why, decide, may_see, reach};
pub use rights::{Exceeds, HeldRole, Limits, Permissions, Rights, Scope, covers, covers_user};

use crate::{Actor, Role, UnknownWord, Who};
use serde::{Deserialize, Serialize};

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $text:literal : $($role:ident)|+ ;)+) => {
        /// One thing that can be permitted. The text form (`tickets.assign`) is part of the interface.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Permission {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl Permission {
            pub const ALL: &'static [Permission] = &[$(Permission::$name,)+];

            pub fn as_str(self) -> &'static str {
                match self { $(Permission::$name => $text,)+ }
            }

            /// The shipped roles that have it.
            pub fn roles(self) -> &'static [Role] {
                match self { $(Permission::$name => &[$(Role::$role),+],)+ }
            }
        }
    };
}

permissions! {
    /// See every ticket of the organization.
    TicketsView = "tickets.view": Admin | Manager | Agent;
    /// See the tickets one requested or watches.
    TicketsViewOwn = "tickets.view_own": Admin | Manager | Agent | EndUser;
    /// Open a ticket for oneself.
    TicketsCreate = "tickets.create": Admin | Manager | Agent | EndUser;
    /// Open a ticket for somebody else.
    TicketsCreateForOthers = "tickets.create_for_others": Admin | Manager | Agent;
    /// Title, description, impact, urgency, status, tags, links, watchers, configuration items.
    TicketsUpdate = "tickets.update": Admin | Manager | Agent;
    TicketsAssign = "tickets.assign": Admin | Manager | Agent;
    TicketsEscalate = "tickets.escalate": Admin | Manager | Agent;
    /// Comments and attachments that the requester sees.
    TicketsCommentPublic = "tickets.comment_public": Admin | Manager | Agent | EndUser;
    /// Notes among staff: reading and writing them.
    TicketsCommentInternal = "tickets.comment_internal": Admin | Manager | Agent;
    TicketsResolve = "tickets.resolve": Admin | Manager | Agent;
    TicketsClose = "tickets.close": Admin | Manager | Agent;
    /// Reopen: also the requester of the ticket.
    TicketsReopen = "tickets.reopen": Admin | Manager | Agent | EndUser;
    /// Approve changes and requests. Nothing asks for approvals yet; roles can be prepared for it.
    TicketsApprove = "tickets.approve": Admin | Manager;
    /// Make a ticket confidential, or no longer so.
    TicketsSetConfidential = "tickets.set_confidential": Admin | Manager | Agent;
    /// See confidential tickets that one has no part in.
    TicketsViewConfidential = "tickets.view_confidential": Admin;
    /// Be assigned tickets and be a member of teams; what such people answer counts as staff's.
    TicketsWork = "tickets.work": Admin | Manager | Agent;

    /// The directory: users, teams, departments.
    PeopleRead = "people.read": Admin | Manager | Agent;
    /// Create, change and deactivate users; set roles.
    PeopleManage = "people.manage": Admin;
    /// Custom roles: make and change them, grant and take them. Nobody grants what they do not have.
    RolesManage = "roles.manage": Admin;
    /// Teams, their members, departments.
    TeamsManage = "teams.manage": Admin | Manager;
    OrganizationManage = "organization.manage": Admin;
    /// All organizations of the installation: beside the permission, only in the operator's organization.
    PlatformManage = "platform.manage": Admin;

    SlaRead = "sla.read": Admin | Manager | Agent;
    /// Policies, calendars, escalation chains.
    SlaManage = "sla.manage": Admin | Manager;
    NotificationsRead = "notifications.read": Admin | Manager | Agent;
    /// Channels (with their secrets), rules, templates.
    NotificationsManage = "notifications.manage": Admin;
    /// Outgoing webhooks and what became of their deliveries.
    WebhooksRead = "webhooks.read": Admin | Manager;
    /// Make webhooks, and be the one whose rights decide what they tell.
    WebhooksManage = "webhooks.manage": Admin;
    /// Run reports and read their executions.
    ReportsRun = "reports.run": Admin | Manager;
    ReportsManage = "reports.manage": Admin | Manager;
    CmdbRead = "cmdb.read": Admin | Manager | Agent;
    CmdbManage = "cmdb.manage": Admin | Manager;
    /// Discovery sources: configuration (may hold secrets), runs, previews.
    DiscoveryRun = "discovery.run": Admin | Manager;
    DiscoveryManage = "discovery.manage": Admin;

    MailboxesManage = "mailboxes.manage": Admin;
    AlertSourcesManage = "alert_sources.manage": Admin;
    /// Alerts as they arrived.
    AlertsRead = "alerts.read": Admin | Manager | Agent;
    /// Kept raw input: mail and payloads, which may hold anything.
    InboxRead = "inbox.read": Admin | Manager;
    InboxReplay = "inbox.replay": Admin;

    JobsRead = "jobs.read": Admin | Manager;
    /// Retry, cancel, discard.
    JobsManage = "jobs.manage": Admin;
    LanesRead = "lanes.read": Admin | Manager;
    /// Pause and resume: beside the role, only in the operator's organization.
    LanesManage = "lanes.manage": Admin;

    /// The audit log of the organization: who did what, from where, with the values. Exporting it.
    AuditRead = "audit.read": Admin;
    /// How long it is kept, and legal holds.
    AuditManage = "audit.manage": Admin;
    /// All data of one person: export it, and make them anonymous.
    PrivacyManage = "privacy.manage": Admin;
    /// Where people log in besides here, and what they get by it. Who decides that can log in as anybody, so it takes all rights of an admin.
    IdentityProvidersManage = "identity_providers.manage": Admin;

    /// Keep people and teams by SCIM, with all that the account of the token may.
    ScimProvision = "scim.provision": Admin;

    /// One's own API tokens. A token can do what its user can.
    TokensOwn = "tokens.own": Admin | Manager | Agent | EndUser;
    /// Tokens of everybody in the organization: list and revoke.
    TokensManage = "tokens.manage": Admin;
    /// Follow the live stream: staff see all events of the organization, end users those of their own tickets.
    EventsFollow = "events.follow": Admin | Manager | Agent | EndUser;
}

impl Permission {
    /// Whether it can be granted for less than the organization: those on tickets that are there.
    pub fn has_scopes(self) -> bool {
        self.fixed_scope().is_none()
    }

    /// The only scope in which it can be granted, if there is only one.
    pub fn fixed_scope(self) -> Option<Scope> {
        use Permission::*;
        match self {
            TicketsView
            | TicketsUpdate
            | TicketsAssign
            | TicketsEscalate
            | TicketsCommentPublic
            | TicketsCommentInternal
            | TicketsResolve
            | TicketsClose
            | TicketsReopen
            | TicketsApprove
            | TicketsSetConfidential
            | TicketsViewConfidential => None,
            TicketsViewOwn => Some(Scope::Own),
            _ => Some(Scope::Organization),
        }
    }
}

impl std::str::FromStr for Permission {
    type Err = UnknownWord;
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Permission::ALL.iter().copied().find(|permission| permission.as_str() == text).ok_or_else(|| {
            UnknownWord {
                what: "permission",
                given: text.to_owned(),
                expected: "one that `GET user-permissions` lists".into(),
            }
        })
    }
}

/// Whether a shipped role has it.
pub fn allows(role: Role, permission: Permission) -> bool {
    permission.roles().contains(&role)
}

/// Refused: says which permission is missing, and why what one has does not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Denied {
    pub permission: Permission,
    pub why: Why,
}

fn names(roles: &[Role]) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")
}

/// Relaydesk itself (jobs, incoming mail, alerts) may do everything; a person what is granted to them in some scope. Whether that reaches a
/// given ticket, [`decide`] says.
pub fn check(actor: &Actor, permission: Permission) -> Result<(), Denied> {
    match &actor.who {
        Who::System { .. } => Ok(()),
        Who::User { rights, .. } if rights.scope(permission).is_some() => Ok(()),
        Who::User { rights, .. } => Err(Denied { permission, why: Why::missing(rights, permission) }),
    }
}

/// For what tells of all tickets at once, as reports do: whoever gets it must see all tickets too (but for confidential ones, which
/// are in none of it).
pub fn check_wide(actor: &Actor, permission: Permission) -> Result<(), Denied> {
    check(actor, permission)?;
    match actor.rights().map(|rights| rights.scope(Permission::TicketsView)) {
        None | Some(Some(Scope::Organization)) => Ok(()),
        Some(Some(scope)) => Err(Denied { permission, why: Why::OutOfScope(Permission::TicketsView, scope) }),
        Some(None) => {
            check(actor, Permission::TicketsView)?;
            Ok(())
        }
    }
}
