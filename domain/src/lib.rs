//! Words and rules of the service desk. Pure: no I/O, no async, no clock (`now` is always an argument).
//!
//! Glossary (ITIL 4 terms where there is one):
//! * **organization**: the tenant. Everything belongs to exactly one.
//! * **ticket**: the common core of incidents, service requests, problems and changes.
//! * **requester**: the person for whom a ticket exists; **assignee**: the agent who works on it.
//! * **impact × urgency → priority**: an editable matrix per organization.
//! * **SLA clock**: one running target (first response, resolution) of one ticket.

mod absence;
mod actor;
pub mod alert;
pub mod calendar;
mod channel;
pub mod cmdb;
mod contact;
mod email_address;
pub mod escalation;
pub mod event_type;
pub mod gate;
mod ids;
pub mod inventory;
pub mod mail;
pub mod password;
pub mod people_sheet;
pub mod permission;
pub mod reconcile;
mod report;
mod rule;
pub mod scim;
pub mod sign_in;
pub mod sla;
pub mod sla_policy;
pub mod ticket;
pub mod webhook;
mod words;

pub use absence::{Absence, LONGEST_ABSENCE};
pub use actor::{Actor, Role, Who};
pub use channel::{ChannelConfig, ChannelKind, InvalidField, MASK, STAND_INS};
pub use contact::{ContactKind, ContactWay, MOST_CONTACT_WAYS, language_tag, phone_number};
pub use email_address::{EmailAddress, InvalidEmailAddress};
pub use event_type::EventPattern;
pub use ids::*;
pub use permission::{Permission, Rights};
pub use report::{InvalidPeriod, Period, PeriodKind, ReportKind, safe_cell};
pub use rule::{Conditions, Facts, SLA_EVENTS, TICKET_VERBS, check_event};
pub use webhook::{WebhookOff, WebhookStatus};
pub use words::UnknownWord;
