//! Microsoft Teams through a Workflows webhook ("Post to a channel when a webhook request is received"), which takes
//! Adaptive Cards. The older Office 365 connectors are retired.
//!
//! Source: <https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook>.

use crate::http::{Client, Request};
use crate::sending::{Attempt, Outcome};
use serde_json::{Value, json};
use uuid::Uuid;

/// `card`: an Adaptive Card; `key`: the same at every attempt.
pub async fn send(
    client: &Client,
    webhook_url: &str,
    key: Uuid,
    card: &Value,
    trace_parent: Option<&str>,
) -> Attempt {
    let request = Request::post_json(webhook_url, &message(card))
        .header("idempotency-key", key.to_string())
        .trace_parent(trace_parent);
    match client.send(request).await {
        // 202 from Workflows: taken over, the flow posts it.
        Ok(response) => Attempt::new(Outcome::Sent).answered(response.status, response.excerpt()),
        Err(error) => Attempt::failed(&error),
    }
}

/// The card in its envelope, as it goes over the wire.
pub fn message(card: &Value) -> Value {
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        }],
    })
}
