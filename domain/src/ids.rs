//! Typed ids: a `TicketId` cannot be passed where a `UserId` is wanted. On the wire they are plain UUIDs
//! (version 7, so that they sort by creation); in logs (`Debug`) they show what they are.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident => $prefix:literal),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }
        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }
        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, ":{}"), self.0)
            }
        }
        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(s: &str) -> Result<Self, Self::Err> {
                s.parse().map(Self)
            }
        }
    )+};
}

ids! {
    OrganizationId => "organization",
    DepartmentId => "department",
    TeamId => "team",
    RoleId => "role",
    RoleGrantId => "role_grant",
    UserId => "user",
    UserImportId => "user_import",
    SessionId => "session",
    ApiTokenId => "api_token",
    IdentityProviderId => "identity_provider",
    ExternalIdentityId => "external_identity",
    SignInId => "sign_in",
    TicketId => "ticket",
    CommentId => "comment",
    LinkId => "link",
    HistoryId => "history",
    AttachmentId => "attachment",
    EventId => "event",
    InboxId => "inbox",
    MailboxId => "mailbox",
    AlertSourceId => "alert_source",
    AlertId => "alert",
    SlaPolicyId => "sla_policy",
    CalendarId => "calendar",
    SlaClockId => "sla_clock",
    BreachId => "breach",
    ChainId => "escalation_chain",
    EscalationId => "escalation",
    ChannelId => "channel",
    RuleId => "rule",
    DeliveryId => "delivery",
    ReportScheduleId => "report_schedule",
    ReportExecutionId => "report_execution",
    CiId => "ci",
    DiscoverySourceId => "discovery_source",
    DiscoveryRunId => "discovery_run",
    CiCategoryId => "ci_category",
    CiRelationshipId => "ci_relationship",
    WebhookId => "webhook",
    WebhookDeliveryId => "webhook_delivery",
}
