//! How one attempt to send a message ended: the same words for chat, webhooks and mail.

use crate::http;
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The peer has accepted it.
    Sent,
    /// The peer asked to come back after this long.
    RetryAfter(Duration, String),
    /// The peer asked to slow down, and not for how long.
    SlowDown(String),
    /// There was no connection, or no answer in time.
    Unreachable(String),
    /// It may work later: the peer is down or out of order.
    Retry(String),
    /// It will never work like this: wrong address, revoked token, message refused.
    GiveUp(String),
}

/// An attempt, as the ledger records it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub outcome: Outcome,
    /// HTTP status or SMTP reply code, if the peer answered.
    pub status: Option<u16>,
    /// Beginning of the peer's answer.
    pub response: Option<String>,
}

impl Attempt {
    pub fn new(outcome: Outcome) -> Self {
        Attempt { outcome, status: None, response: None }
    }

    pub fn answered(mut self, status: u16, response: impl Into<String>) -> Self {
        self.status = Some(status);
        self.response = Some(response.into());
        self
    }

    /// What a failed HTTP request means: 429 and 503 wait as long as they ask, other 5xx and transport errors are
    /// retried, everything else is final.
    pub fn failed(error: &http::Error) -> Self {
        let words = error.to_string();
        let outcome = match error {
            http::Error::Status { code: 429 | 503, retry_after: Some(wait), .. } => {
                Outcome::RetryAfter(*wait, words)
            }
            http::Error::Status { code: 429, .. } => Outcome::SlowDown(words),
            http::Error::Status { code: 408 | 425 | 500..=599, .. } => Outcome::Retry(words),
            http::Error::Timeout | http::Error::Unreachable(_) => Outcome::Unreachable(words),
            // It said 2xx first; only the words after it are too many.
            http::Error::TooLong { status, .. } => {
                return Attempt::new(Outcome::Sent).answered(*status, words);
            }
            http::Error::Status { .. }
            | http::Error::Address(_)
            | http::Error::Refused { .. }
            | http::Error::NotListed { .. } => Outcome::GiveUp(words),
        };
        match error {
            http::Error::Status { code, excerpt, .. } => {
                Attempt::new(outcome).answered(*code, excerpt.clone())
            }
            _ => Attempt::new(outcome),
        }
    }
}
