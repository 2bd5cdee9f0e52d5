//! Who may do what: the one place where the code asks.
//!
//! Organization-wide permissions hang on the role alone. Besides them, tickets have an owner's side: an end user sees and
//! answers the tickets that they requested or watch (`Own*`), and nothing else. Whether a given ticket is "own" is
//! for the caller to find out: see [`sees_all_tickets`].

use crate::{Actor, Role, Who};
use serde::Serialize;

macro_rules! permissions {
    ($($(#[$doc:meta])* $name:ident = $text:literal : $($role:ident)|+ ;)+) => {
        /// One thing that can be permitted. The text form (`tickets.assign`) is part of the interface.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        pub enum Permission {
            $($(#[$doc])* #[serde(rename = $text)] $name,)+
        }

        impl Permission {
            pub const ALL: &'static [Permission] = &[$(Permission::$name,)+];

            pub fn as_str(self) -> &'static str {
                match self { $(Permission::$name => $text,)+ }
            }

            /// The roles that have it.
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

    /// The directory: users, teams, departments.
    PeopleRead = "people.read": Admin | Manager | Agent;
    /// Create, change and deactivate users; set roles.
    PeopleManage = "people.manage": Admin;
    /// Teams, their members, departments.
    TeamsManage = "teams.manage": Admin | Manager;
    OrganizationManage = "organization.manage": Admin;

    SlaRead = "sla.read": Admin | Manager | Agent;
    /// Policies, calendars, escalation chains.
    SlaManage = "sla.manage": Admin | Manager;
    NotificationsRead = "notifications.read": Admin | Manager | Agent;
    /// Channels (with their secrets), rules, templates.
    NotificationsManage = "notifications.manage": Admin;
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

    /// One's own API tokens. A token can do what its user can.
    TokensOwn = "tokens.own": Admin | Manager | Agent | EndUser;
    /// Tokens of everybody in the organization: list and revoke.
    TokensManage = "tokens.manage": Admin;
    /// Follow the live stream: staff see all events of the organization, end users those of their own tickets.
    EventsFollow = "events.follow": Admin | Manager | Agent | EndUser;
}

pub fn allows(role: Role, permission: Permission) -> bool {
    permission.roles().contains(&role)
}

/// Refused: says which permission is missing and who has it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this needs the permission {} ({} may)", permission.as_str(), names(permission.roles()))]
pub struct Denied {
    pub permission: Permission,
}

fn names(roles: &[Role]) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")
}

/// Relaydesk itself (jobs, incoming mail, alerts) may do everything; a person what their role allows.
pub fn check(actor: &Actor, permission: Permission) -> Result<(), Denied> {
    match actor.who {
        Who::System { .. } => Ok(()),
        Who::User { role, .. } if allows(role, permission) => Ok(()),
        Who::User { .. } => Err(Denied { permission }),
    }
}

/// False for end users: they see the tickets they requested or watch, everything else is "not found" to them.
pub fn sees_all_tickets(actor: &Actor) -> bool {
    check(actor, Permission::TicketsView).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OrganizationId, UserId};
    use std::fmt::Write;

    /// The table of `docs/security.md`, which must be this.
    fn table() -> String {
        let mut out =
            String::from("| permission | admin | manager | agent | end user |\n|---|---|---|---|---|\n");
        for permission in Permission::ALL {
            let marks = Role::ALL.map(|role| if allows(role, *permission) { "yes" } else { "" });
            writeln!(out, "| `{}` | {} |", permission.as_str(), marks.join(" | ")).unwrap();
        }
        out
    }

    #[test]
    fn the_documented_matrix_is_the_real_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/security.md");
        let page = std::fs::read_to_string(path).unwrap();
        assert!(page.contains(&table()), "docs/security.md must contain this table:\n\n{}", table());
    }

    #[test]
    fn a_role_can_do_all_that_the_role_below_it_can() {
        for permission in Permission::ALL {
            for pair in Role::ALL.windows(2) {
                assert!(allows(pair[0], *permission) || !allows(pair[1], *permission), "{permission:?}");
            }
        }
    }

    #[test]
    fn end_users_have_exactly_the_owners_side() {
        let theirs: Vec<_> =
            Permission::ALL.iter().filter(|p| allows(Role::EndUser, **p)).map(|p| p.as_str()).collect();
        assert_eq!(
            theirs,
            [
                "tickets.view_own",
                "tickets.create",
                "tickets.comment_public",
                "tickets.reopen",
                "tokens.own",
                "events.follow"
            ]
        );
    }

    #[test]
    fn the_system_may_and_a_refusal_names_the_permission() {
        let organization = OrganizationId::new();
        let system = Actor::system(organization, "ingest_mail");
        assert_eq!(check(&system, Permission::OrganizationManage), Ok(()));
        let who = Who::User { id: UserId::new(), role: Role::EndUser, name: "Ada".into() };
        let person = Actor { organization, who };
        let denied = check(&person, Permission::PeopleManage).unwrap_err();
        assert_eq!(denied.to_string(), "this needs the permission people.manage (admin may)");
        assert!(!sees_all_tickets(&person));
    }
}
