//! What workers do outside of the house: with connectors alone, so that a process without a database can do it
//! (`relaydesk worker --remote`). Handlers prepare it before and apply what came of it afterwards.

use crate::Shared;
use connectors::discovery::{Location, ReadError, Reader};
use connectors::http::Client;
use connectors::mail::Mailer;
use connectors::mail::outgoing::{Accepted, Outgoing, Refused};
use connectors::sending::{Attempt, Outcome as Sending};
use connectors::{slack, teams, webhook};
use queue::Running;
use queue::remote::{NotPerformed, Performers, Request};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

/// What it takes. A remote worker has its own: its destinations, its relay.
#[derive(Clone, Debug)]
pub struct Tools {
    pub http: Client,
    pub mailer: Option<Mailer>,
}

/// All of it, for a remote worker.
pub fn performers() -> Performers<Tools> {
    Performers::default()
        .request::<SendChat>()
        .request::<SendWebhook>()
        .request::<DeliverMail>()
        .request::<ReadInventory>()
}

/// Until a remote worker is asked for again, because nobody took it.
pub(crate) const NO_WORKER: Duration = Duration::from_secs(10);

/// Until it is looked again for the key of a secret: somebody must put it back, or set the secret anew.
pub(crate) const NO_KEY: Duration = Duration::from_secs(60);

/// What is said when nobody did, for so long that somebody has to know.
pub(crate) fn no_key_came(why: &str) -> String {
    let hours = domain::gate::PATIENCE.num_hours();
    format!(
        "{why}; no worker could open it for {hours} hours: put its key back into RELAYDESK_JOB_KEYS, or set the secret anew, and try this once more"
    )
}

/// What comes from a remote worker is not ours: it is written down, and decides how long others wait.
pub(crate) trait Foreign {
    /// No longer than what the connectors say here.
    fn bounded(self) -> Self;
}

/// Nobody is waited for longer than this, as in connectors.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Of words for the ledger.
const LONGEST_TEXT: usize = 1_000;

impl Foreign for String {
    fn bounded(self) -> Self {
        let is_fine = |c: &char| !c.is_control() || matches!(c, '\n' | '\t');
        self.chars().filter(is_fine).take(LONGEST_TEXT).collect()
    }
}

impl Foreign for Attempt {
    fn bounded(self) -> Self {
        let outcome = match self.outcome {
            Sending::Sent => Sending::Sent,
            Sending::RetryAfter(wait, why) => Sending::RetryAfter(wait.min(LONGEST_WAIT), why.bounded()),
            Sending::SlowDown(why) => Sending::SlowDown(why.bounded()),
            Sending::Unreachable(why) => Sending::Unreachable(why.bounded()),
            Sending::Retry(why) => Sending::Retry(why.bounded()),
            Sending::GiveUp(why) => Sending::GiveUp(why.bounded()),
        };
        Attempt { outcome, status: self.status, response: self.response.map(Foreign::bounded) }
    }
}

impl Foreign for <DeliverMail as Request<Tools>>::Reply {
    fn bounded(self) -> Self {
        let accepted = |Accepted { code, response }| Accepted { code, response: response.bounded() };
        let refused = |refused| match refused {
            Refused::Transient { code, response } => {
                Refused::Transient { code, response: response.bounded() }
            }
            Refused::Permanent { code, response } => {
                Refused::Permanent { code, response: response.bounded() }
            }
            Refused::Unreachable(why) => Refused::Unreachable(why.bounded()),
            Refused::Unsendable(why) => Refused::Unsendable(why.bounded()),
        };
        self.map(|answer| answer.map(accepted).map_err(refused))
    }
}

impl Foreign for <ReadInventory as Request<Tools>>::Reply {
    fn bounded(self) -> Self {
        self.map_err(|NotRead { why, is_transient, retry_after }| NotRead {
            why: why.bounded(),
            is_transient,
            retry_after: retry_after.map(|wait| wait.min(LONGEST_WAIT)),
        })
    }
}

impl Shared {
    /// Done here, or by a remote worker when the lane of the job has such.
    pub(crate) async fn outward<R: Request<Tools>>(
        &self,
        job: &Running,
        request: R,
    ) -> Result<R::Reply, NotPerformed>
    where
        R::Reply: Foreign,
    {
        match &self.remote {
            Some(remote) if remote.has(&job.lane) => {
                remote.perform(job, &request).await.map(Foreign::bounded)
            }
            _ => {
                let tools = Tools { http: self.http.clone(), mailer: self.mailer.clone() };
                Ok(request.perform(&tools).await)
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatAddress {
    SlackWebhook { url: String },
    SlackBot { token: String, channel: String, api_url: Option<String> },
    Teams { url: String },
}

/// One message to one chat.
#[derive(Serialize, Deserialize)]
pub struct SendChat {
    pub to: ChatAddress,
    /// The same at every attempt.
    pub key: Uuid,
    pub payload: Value,
    pub trace_parent: Option<String>,
}

impl Request<Tools> for SendChat {
    const KIND: &'static str = "send_chat";
    type Reply = Attempt;

    async fn perform(self, tools: &Tools) -> Attempt {
        let trace_parent = self.trace_parent.as_deref();
        let message = slack::Message { key: self.key, payload: &self.payload, trace_parent };
        match &self.to {
            ChatAddress::SlackWebhook { url } => slack::send_webhook(&tools.http, url, message).await,
            ChatAddress::SlackBot { token, channel, api_url } => {
                slack::post_message(&tools.http, api_url.as_deref(), token, channel, message).await
            }
            ChatAddress::Teams { url } => {
                teams::send(&tools.http, url, self.key, &self.payload, trace_parent).await
            }
        }
    }
}

/// One signed message to one webhook. The secret stays where the platform is.
#[derive(Serialize, Deserialize)]
pub struct SendWebhook {
    pub url: String,
    /// The same at every attempt.
    pub message_id: String,
    /// In seconds since 1970; it is signed.
    pub timestamp: i64,
    pub signature: String,
    pub body: String,
    pub trace_parent: Option<String>,
}

impl Request<Tools> for SendWebhook {
    const KIND: &'static str = "send_webhook";
    type Reply = Attempt;

    async fn perform(self, tools: &Tools) -> Attempt {
        let message = webhook::Message {
            id: &self.message_id,
            timestamp: self.timestamp,
            signature: &self.signature,
            body: &self.body,
            trace_parent: self.trace_parent.as_deref(),
        };
        webhook::send(&tools.http, &self.url, message).await
    }
}

/// One mail to one recipient. The reply is `None` where there is no relay.
#[derive(Serialize, Deserialize)]
pub struct DeliverMail(pub Outgoing);

impl Request<Tools> for DeliverMail {
    const KIND: &'static str = "deliver_mail";
    type Reply = Option<Result<Accepted, Refused>>;

    async fn perform(self, tools: &Tools) -> Self::Reply {
        match &tools.mailer {
            Some(mailer) => Some(mailer.send(&self.0).await),
            None => None,
        }
    }
}

/// An inventory at an address. Files are read where the platform is.
#[derive(Serialize, Deserialize)]
pub struct ReadInventory {
    pub url: String,
    /// One more, for example an authorization.
    pub header: Option<(String, String)>,
}

#[derive(Serialize, Deserialize)]
pub struct InventoryBytes(#[serde(with = "connectors::bytes64")] pub Vec<u8>);

/// Why an inventory was not read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NotRead {
    pub why: String,
    pub is_transient: bool,
    pub retry_after: Option<Duration>,
}

impl From<ReadError> for NotRead {
    fn from(error: ReadError) -> Self {
        NotRead {
            why: error.to_string(),
            is_transient: error.is_transient(),
            retry_after: error.retry_after(),
        }
    }
}

impl Request<Tools> for ReadInventory {
    const KIND: &'static str = "read_inventory";
    type Reply = Result<InventoryBytes, NotRead>;

    async fn perform(self, tools: &Tools) -> Self::Reply {
        let reader = Reader { http: tools.http.clone(), folder: None };
        let header = self.header.as_ref().map(|(name, value)| (name.as_str(), value.as_str()));
        Ok(InventoryBytes(reader.read(&Location::Url(self.url.clone()), header).await?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred years, a NUL, and more text than fits a ledger.
    fn forged() -> (Duration, String) {
        (Duration::from_secs(100 * 365 * 86_400), format!("a\0b\u{1b}\n{}", "ü".repeat(1 << 20)))
    }

    fn is_bounded(text: &str) -> bool {
        text.starts_with("ab\nü") && text.chars().count() == LONGEST_TEXT
    }

    #[test]
    fn an_attempt_says_no_more_than_one_of_ours() {
        let (wait, text) = forged();
        for outcome in [
            Sending::RetryAfter(wait, text.clone()),
            Sending::SlowDown(text.clone()),
            Sending::Unreachable(text.clone()),
            Sending::Retry(text.clone()),
            Sending::GiveUp(text.clone()),
        ] {
            let attempt = Attempt::new(outcome).answered(503, text.clone()).bounded();
            assert!(is_bounded(&attempt.response.unwrap()));
            match attempt.outcome {
                Sending::RetryAfter(wait, why) => assert!(wait == LONGEST_WAIT && is_bounded(&why)),
                Sending::SlowDown(why)
                | Sending::Unreachable(why)
                | Sending::Retry(why)
                | Sending::GiveUp(why) => assert!(is_bounded(&why)),
                Sending::Sent => unreachable!("it failed"),
            }
        }
        let short = Duration::from_secs(5);
        let attempt = Attempt::new(Sending::RetryAfter(short, "busy".into())).answered(429, "later");
        assert_eq!(attempt.clone().bounded(), attempt, "what is true stays as it is");
    }

    #[test]
    fn a_relay_and_an_inventory_say_no_more_than_ours() {
        let (wait, text) = forged();
        let accepted = Some(Ok(Accepted { code: 250, response: text.clone() })).bounded();
        assert!(matches!(accepted, Some(Ok(accepted)) if is_bounded(&accepted.response)));
        let response = text.clone();
        for refused in [
            Refused::Transient { code: 450, response: response.clone() },
            Refused::Permanent { code: 550, response },
            Refused::Unreachable(text.clone()),
            Refused::Unsendable(text.clone()),
        ] {
            match Some(Err(refused)).bounded() {
                Some(Err(
                    Refused::Transient { response: why, .. }
                    | Refused::Permanent { response: why, .. }
                    | Refused::Unreachable(why)
                    | Refused::Unsendable(why),
                )) => assert!(is_bounded(&why)),
                other => panic!("{other:?}"),
            }
        }
        let not_read: Result<InventoryBytes, _> =
            Err(NotRead { why: text, is_transient: true, retry_after: Some(wait) });
        let error = not_read.bounded().err().unwrap();
        assert!(is_bounded(&error.why) && error.retry_after == Some(LONGEST_WAIT));
    }
}
