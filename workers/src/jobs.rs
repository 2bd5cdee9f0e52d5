//! One file per job kind; the file name is the kind.

pub mod change_tickets;
pub mod check_sla;
pub mod deliver_webhook;
pub mod escalate;
pub mod import_users;
pub mod ingest_alert;
pub mod ingest_mail;
pub mod manage_jobs;
pub mod notify_channel;
pub mod offer_password_reset;
pub mod prune;
pub mod react;
pub mod recompute_sla;
pub mod replay_webhook;
pub mod run_discovery;
pub mod run_report;
pub mod seal_audit;
pub mod send_mail;
pub mod start_discovery;
pub mod start_scheduled_report;
pub mod sweep;
