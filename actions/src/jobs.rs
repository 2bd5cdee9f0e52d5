//! The catalogue of jobs: what can be asked of the workers. The work itself stands in `workers/src/jobs/<kind>.rs`.
//!
//! The arguments stand here, below the workers, because verbs enqueue them and arrows point down. They are small: an id
//! of the row that holds the facts. A field is only ever added with a default, so that old jobs stay readable. What people may ask about
//! months later (mail, alerts, messages) keeps its history long, what only ticks keeps it short.

use crate::tickets::bulk::TicketChange;
use chrono::{DateTime, Utc};
use domain::{
    ApiTokenId, DeliveryId, DiscoveryRunId, DiscoverySourceId, EscalationId, EventId, InboxId,
    ReportExecutionId, ReportScheduleId, SlaClockId, TicketId, UserId, UserImportId, WebhookDeliveryId,
    WebhookId,
};
use queue::admin::{Bulk, Cursor};
use queue::{Catalogue, Job, Limit, Retention};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The names of the lanes. A lane is a queue with a worker pool of its own.
pub mod lane {
    pub const INGEST: &str = "ingest";
    pub const REACT: &str = "react";
    pub const TIMERS: &str = "timers";
    /// Chat.
    pub const OUTBOUND: &str = "outbound";
    pub const MAIL: &str = "mail";
    pub const REPORTS: &str = "reports";
    pub const DISCOVERY: &str = "discovery";
    pub const MAINTENANCE: &str = "maintenance";

    pub const ALL: [&str; 8] = [INGEST, REACT, TIMERS, OUTBOUND, MAIL, REPORTS, DISCOVERY, MAINTENANCE];
}

/// A kept message becomes a ticket, a comment, or nothing (and why).
#[derive(Debug, Serialize, Deserialize)]
pub struct IngestMail {
    pub inbox: InboxId,
}
impl Job for IngestMail {
    const KIND: &'static str = "ingest_mail";
    const LANE: &'static str = lane::INGEST;
    const RETENTION: Retention = Retention::Long;
}

/// A kept monitoring payload opens, updates or resolves incidents. One with very many groups takes several jobs, one after
/// the other, so that nobody waits long for the next ticket number.
#[derive(Debug, Serialize, Deserialize)]
pub struct IngestAlert {
    pub inbox: InboxId,
    /// How many groups of the payload are done, in the order of their keys.
    #[serde(default)]
    pub done: usize,
    /// What these came to, for the inbox.
    #[serde(default)]
    pub so_far: Option<AlertProgress>,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct AlertProgress {
    /// Something was of use.
    pub used: bool,
    pub incident: Option<TicketId>,
}

impl IngestAlert {
    pub fn new(inbox: InboxId) -> Self {
        IngestAlert { inbox, done: 0, so_far: None }
    }
}
impl Job for IngestAlert {
    const KIND: &'static str = "ingest_alert";
    const LANE: &'static str = lane::INGEST;
    const RETENTION: Retention = Retention::Long;
}

/// An event happened: enqueue what the table of reactions and the organization's rules say.
#[derive(Debug, Serialize, Deserialize)]
pub struct React {
    pub event: EventId,
}
impl Job for React {
    const KIND: &'static str = "react";
    const LANE: &'static str = lane::REACT;
}

/// A deadline of an SLA clock (warning or breach) is due: judge it.
#[derive(Debug, Serialize, Deserialize)]
pub struct CheckSla {
    pub clock: SlaClockId,
    /// The deadline for which this timer was set. It has been replaced by another if the clock says otherwise.
    #[serde(default)]
    pub at: Option<DateTime<Utc>>,
}
impl Job for CheckSla {
    const KIND: &'static str = "check_sla";
    const LANE: &'static str = lane::TIMERS;
    const RETENTION: Retention = Retention::Short;
}

/// The next step of a running escalation.
#[derive(Debug, Serialize, Deserialize)]
pub struct Escalate {
    pub escalation: EscalationId,
    /// The step for which this timer was set.
    #[serde(default)]
    pub step: Option<i32>,
}
impl Job for Escalate {
    const KIND: &'static str = "escalate";
    const LANE: &'static str = lane::TIMERS;
}

/// Policies or calendars were edited: work out the clocks of open tickets anew, some at a time.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecomputeSla {
    /// Goes on after this ticket.
    #[serde(default)]
    pub after: Option<TicketId>,
}
impl Job for RecomputeSla {
    const KIND: &'static str = "recompute_sla";
    const LANE: &'static str = lane::MAINTENANCE;
    const RETENTION: Retention = Retention::Short;
}

/// One message to one chat channel, as its delivery row describes it.
#[derive(Debug, Serialize, Deserialize)]
pub struct NotifyChannel {
    pub delivery: DeliveryId,
}
impl Job for NotifyChannel {
    const KIND: &'static str = "notify_channel";
    const LANE: &'static str = lane::OUTBOUND;
    const RETENTION: Retention = Retention::Long;
    /// A slow endpoint must not hold all places of the lane. The key is the channel, given when it is enqueued.
    const LIMITS: &'static [Limit] = &[Limit::at_once(4).per_key()];
}

/// One event to one webhook, as its delivery row describes it.
#[derive(Debug, Serialize, Deserialize)]
pub struct DeliverWebhook {
    pub delivery: WebhookDeliveryId,
}
impl Job for DeliverWebhook {
    const KIND: &'static str = "deliver_webhook";
    const LANE: &'static str = lane::OUTBOUND;
    const MAX_ATTEMPTS: i16 = domain::webhook::MOST_ATTEMPTS;
    /// A slow receiver must hold neither the places of the lane nor those of its organization. The key is the webhook.
    const LIMITS: &'static [Limit] = &[Limit::at_once(2).per_key(), Limit::at_once(6).per_tenant()];
}

/// What happened in a time is told to a webhook once more, a piece after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReplayWebhook {
    pub webhook: WebhookId,
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
    /// What was replayed since then is not replayed again.
    pub asked_at: DateTime<Utc>,
    /// Also what was delivered.
    #[serde(default)]
    pub even_delivered: bool,
    /// Goes on after this event, by its time and position.
    #[serde(default)]
    pub after: Option<(DateTime<Utc>, i64)>,
    /// How many so far.
    #[serde(default)]
    pub replayed: u64,
}
impl Job for ReplayWebhook {
    const KIND: &'static str = "replay_webhook";
    const LANE: &'static str = lane::MAINTENANCE;
    const TIMEOUT: Duration = Duration::from_secs(600);
}

/// One e-mail, as its delivery row describes it.
#[derive(Debug, Serialize, Deserialize)]
pub struct SendMail {
    pub delivery: DeliveryId,
}
impl Job for SendMail {
    const KIND: &'static str = "send_mail";
    const LANE: &'static str = lane::MAIL;
    const RETENTION: Retention = Retention::Long;
}

/// Somebody has typed this address and says that they forgot their password: if it is somebody's, they get a mail. A job, so that who asks
/// cannot tell.
#[derive(Debug, Serialize, Deserialize)]
pub struct OfferPasswordReset {
    pub email: String,
    /// The slug; absent: every organization in which the address is known.
    #[serde(default)]
    pub organization: Option<String>,
    /// From where it was asked for.
    #[serde(default)]
    pub address: Option<String>,
}
impl Job for OfferPasswordReset {
    const KIND: &'static str = "offer_password_reset";
    const LANE: &'static str = lane::MAIL;
    const RETENTION: Retention = Retention::Short;
}

/// A report schedule is due: make an execution of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct StartScheduledReport {
    pub schedule: ReportScheduleId,
}
impl Job for StartScheduledReport {
    const KIND: &'static str = "start_scheduled_report";
    const LANE: &'static str = lane::REPORTS;
    const RETENTION: Retention = Retention::Short;
}

/// Take the people of a table in, or say what is wrong with it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ImportUsers {
    pub import: UserImportId,
}
impl Job for ImportUsers {
    const KIND: &'static str = "import_users";
    const LANE: &'static str = lane::REPORTS;
    /// It holds many rows.
    const LIMITS: &'static [Limit] = &[Limit::at_once(1).per_tenant()];
    const TIMEOUT: Duration = Duration::from_secs(1800);
    const MAX_ATTEMPTS: i16 = 5;
}

/// Generate one report and hand it to its recipients.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunReport {
    pub execution: ReportExecutionId,
}
impl Job for RunReport {
    const KIND: &'static str = "run_report";
    const LANE: &'static str = lane::REPORTS;
    /// Reports are heavy, and many are due on the hour.
    const LIMITS: &'static [Limit] = &[Limit::at_once(2).per_tenant()];
    const TIMEOUT: Duration = Duration::from_secs(600);
}

/// A discovery source is due: make a run of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct StartDiscovery {
    pub source: DiscoverySourceId,
}
impl Job for StartDiscovery {
    const KIND: &'static str = "start_discovery";
    const LANE: &'static str = lane::DISCOVERY;
    const RETENTION: Retention = Retention::Short;
}

/// Read one inventory and reconcile the configuration items with it.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunDiscovery {
    pub run: DiscoveryRunId,
}
impl Job for RunDiscovery {
    const KIND: &'static str = "run_discovery";
    const LANE: &'static str = lane::DISCOVERY;
    const MAX_ATTEMPTS: i16 = 4;
    const TIMEOUT: Duration = Duration::from_secs(1800);
}

/// Somebody wants many jobs retried, cancelled or discarded: a piece at a time.
#[derive(Debug, Serialize, Deserialize)]
pub struct ManageJobs {
    pub bulk: Bulk,
}
impl Job for ManageJobs {
    const KIND: &'static str = "manage_jobs";
    const LANE: &'static str = lane::MAINTENANCE;
    const RETENTION: Retention = Retention::Long;
    const TIMEOUT: Duration = Duration::from_secs(3600);
}

/// How far a [`ManageJobs`] is: kept with each piece, so that it goes on where it was.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Managed {
    /// Jobs changed so far.
    pub jobs: i64,
    pub cursor: Cursor,
}

/// Somebody wants the same done to many tickets: one after the other.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChangeTickets {
    pub by: UserId,
    /// What they came with: its scopes hold here too.
    pub token: Option<ApiTokenId>,
    pub change: TicketChange,
    pub tickets: Vec<TicketId>,
}
impl Job for ChangeTickets {
    const KIND: &'static str = "change_tickets";
    const LANE: &'static str = lane::MAINTENANCE;
    const RETENTION: Retention = Retention::Long;
    const TIMEOUT: Duration = Duration::from_secs(3600);
}

/// What was kept long enough goes: of the inbox, the ledger, reports, and files that no attachment names.
#[derive(Debug, Serialize, Deserialize)]
pub struct Prune {}
impl Job for Prune {
    const KIND: &'static str = "prune";
    const LANE: &'static str = lane::MAINTENANCE;
    const MAX_ATTEMPTS: i16 = 3;
    const TIMEOUT: Duration = Duration::from_secs(3600);
}

/// Seals what was written to the audit logs since the last time.
#[derive(Debug, Serialize, Deserialize)]
pub struct SealAudit {}
impl Job for SealAudit {
    const KIND: &'static str = "seal_audit";
    const LANE: &'static str = lane::MAINTENANCE;
    const MAX_ATTEMPTS: i16 = 3;
    const TIMEOUT: Duration = Duration::from_secs(600);
    const RETENTION: Retention = Retention::Short;
}

/// Safety net: finds deadlines that no timer judged, deliveries and kept messages or payloads without a job. Events have none:
/// an event and its job are written together, and a reaction that failed for good is a dead job, which a person can retry.
#[derive(Debug, Serialize, Deserialize)]
pub struct Sweep {}
impl Job for Sweep {
    const KIND: &'static str = "sweep";
    const LANE: &'static str = lane::MAINTENANCE;
    const RETENTION: Retention = Retention::Short;
}

/// All of them, to check arguments by that somebody has edited. A test holds it against what the workers know.
pub fn catalogue() -> Catalogue {
    Catalogue::new()
        .kind::<ChangeTickets>()
        .kind::<CheckSla>()
        .kind::<DeliverWebhook>()
        .kind::<Escalate>()
        .kind::<ImportUsers>()
        .kind::<IngestAlert>()
        .kind::<IngestMail>()
        .kind::<ManageJobs>()
        .kind::<NotifyChannel>()
        .kind::<OfferPasswordReset>()
        .kind::<Prune>()
        .kind::<React>()
        .kind::<RecomputeSla>()
        .kind::<ReplayWebhook>()
        .kind::<RunDiscovery>()
        .kind::<RunReport>()
        .kind::<SealAudit>()
        .kind::<SendMail>()
        .kind::<StartDiscovery>()
        .kind::<StartScheduledReport>()
        .kind::<Sweep>()
}
