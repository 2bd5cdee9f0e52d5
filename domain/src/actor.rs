//! Who does something: a person with their rights, or Relaydesk itself.

use crate::{OrganizationId, Rights, UserId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The four shipped roles; everybody has one of them. What each may do stands in one place, `permission.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Admin,
    Manager,
    Agent,
    EndUser,
}

impl Role {
    pub const ALL: [Role; 4] = [Role::Admin, Role::Manager, Role::Agent, Role::EndUser];

    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Manager => "manager",
            Role::Agent => "agent",
            Role::EndUser => "end_user",
        }
    }

    /// Agents and above: people who work on tickets.
    pub fn is_staff(self) -> bool {
        self != Role::EndUser
    }
}

impl std::str::FromStr for Role {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        Role::ALL
            .into_iter()
            .find(|role| role.as_str() == s)
            .ok_or_else(|| format!("unknown role {s:?}: expected admin, manager, agent or end_user"))
    }
}

/// Who acts, and in which organization. Every verb in `actions` takes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub organization: OrganizationId,
    pub who: Who,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    User {
        id: UserId,
        name: String,
        /// All that they may, by way of whatever role.
        rights: Arc<Rights>,
    },
    /// Relaydesk itself; the label says which part, for example a job kind: `ingest_mail`.
    System { label: &'static str },
}

impl Actor {
    pub fn system(organization: OrganizationId, label: &'static str) -> Self {
        Actor { organization, who: Who::System { label } }
    }

    pub fn user(organization: OrganizationId, id: UserId, name: impl Into<String>, rights: Rights) -> Self {
        Actor { organization, who: Who::User { id, name: name.into(), rights: Arc::new(rights) } }
    }

    /// `None` of Relaydesk itself, which may do everything.
    pub fn rights(&self) -> Option<&Rights> {
        match &self.who {
            Who::User { rights, .. } => Some(rights),
            Who::System { .. } => None,
        }
    }

    pub fn user_id(&self) -> Option<UserId> {
        match &self.who {
            Who::User { id, .. } => Some(*id),
            Who::System { .. } => None,
        }
    }

    /// `user` or `system`, as history and events store it.
    pub fn kind(&self) -> &'static str {
        match self.who {
            Who::User { .. } => "user",
            Who::System { .. } => "system",
        }
    }

    /// The name as history shows it.
    pub fn label(&self) -> &str {
        match &self.who {
            Who::User { name, .. } => name,
            Who::System { label } => label,
        }
    }
}
