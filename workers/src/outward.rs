//! What workers do outside of the house: with connectors alone, so that a process without a database can do it
//! (`relaydesk worker --remote`). Handlers prepare it before and apply what came of it afterwards.

use crate::Shared;
use connectors::discovery::{Location, ReadError, Reader};
use connectors::http::Client;
use connectors::mail::Mailer;
use connectors::mail::outgoing::{Accepted, Outgoing, Refused};
use connectors::sending::Attempt;
use connectors::{slack, teams};
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
    Performers::default().request::<SendChat>().request::<DeliverMail>().request::<ReadInventory>()
}

impl Shared {
    /// Done here, or by a remote worker when the lane of the job has such.
    pub(crate) async fn outward<R: Request<Tools>>(
        &self,
        job: &Running,
        request: R,
    ) -> Result<R::Reply, NotPerformed> {
        match &self.remote {
            Some(remote) if remote.has(&job.lane) => remote.perform(job, &request).await,
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
