//! Payloads of monitoring systems, read into the words of `domain::alert`. Tolerant of fields we do not know, strict about
//! those we need: a payload that can't be used says at which JSON pointer, and why.

pub mod alertmanager;
pub mod generic;
mod json;

pub use json::MAX_DEPTH;

use chrono::{DateTime, Utc};
use domain::alert::{AlertSourceKind, Notification};

/// What is wrong at one place of a payload; `pointer` as in RFC 6901, empty for the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub pointer: String,
    pub detail: String,
}

/// A payload that can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", summary(.faults))]
pub struct InvalidPayload {
    pub faults: Vec<Fault>,
}

fn summary(faults: &[Fault]) -> String {
    let texts: Vec<_> = faults
        .iter()
        .map(|fault| match fault.pointer.as_str() {
            "" => fault.detail.clone(),
            pointer => format!("{pointer}: {}", fault.detail),
        })
        .collect();
    texts.join("; ")
}

/// Reads a payload of `kind`. `received_at` stands in for times that the sender does not give.
pub fn parse(
    kind: AlertSourceKind,
    body: &[u8],
    received_at: DateTime<Utc>,
) -> Result<Notification, InvalidPayload> {
    match kind {
        AlertSourceKind::Alertmanager => alertmanager::parse(body, received_at),
        AlertSourceKind::Generic => generic::parse(body, received_at),
    }
}
