//! One file per job kind; the file name is the kind.

pub mod ingest_alert;
pub mod notify_channel;
pub mod react;
