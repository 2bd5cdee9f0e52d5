//! Slack, and what speaks its language: an incoming webhook or a bot token (`chat.postMessage`), Block Kit messages.
//!
//! Sources: <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>,
//! <https://docs.slack.dev/reference/methods/chat.postMessage>.

use crate::http::{Client, Error, Request, Response};
use crate::sending::{Attempt, Outcome};
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

const API: &str = "https://slack.com/api";

/// A message under a key that is the same at every attempt, so that a peer that keeps keys can drop a repetition.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub key: Uuid,
    /// `{"text", "blocks"}`.
    pub payload: &'a Value,
    pub trace_parent: Option<&'a str>,
}

pub async fn send_webhook(client: &Client, webhook_url: &str, message: Message<'_>) -> Attempt {
    let request = Request::post_json(webhook_url, message.payload)
        .header("idempotency-key", message.key.to_string())
        .trace_parent(message.trace_parent);
    match client.send(request).await {
        Ok(response) => Attempt::new(Outcome::Sent).answered(response.status, response.excerpt()),
        Err(error) => Attempt::failed(&error),
    }
}

/// `api_url`: base address of a Slack-compatible server; `None`: Slack itself.
pub async fn post_message(
    client: &Client,
    api_url: Option<&str>,
    bot_token: &str,
    channel: &str,
    message: Message<'_>,
) -> Attempt {
    let mut payload = message.payload.clone();
    payload["channel"] = channel.into();
    payload["client_msg_id"] = message.key.to_string().into();
    let request = Request::post_json(
        format!("{}/chat.postMessage", api_url.unwrap_or(API).trim_end_matches('/')),
        &payload,
    )
    .header("authorization", format!("Bearer {bot_token}"))
    .header("idempotency-key", message.key.to_string())
    .trace_parent(message.trace_parent);
    match client.send(request).await {
        Ok(response) => judge(&response),
        // Without its words nobody knows whether it was posted.
        Err(error @ Error::TooLong { .. }) => Attempt::new(Outcome::Retry(error.to_string())),
        Err(error) => Attempt::failed(&error),
    }
}

#[derive(Deserialize)]
struct Reply {
    ok: bool,
    error: Option<String>,
}

/// The API answers 200 also to what it did not do.
fn judge(response: &Response) -> Attempt {
    let outcome = match serde_json::from_slice::<Reply>(&response.body) {
        Err(_) => Outcome::Retry("the answer is not one of Slack's".into()),
        Ok(Reply { ok: true, .. }) => Outcome::Sent,
        Ok(Reply { error, .. }) => failure(error.as_deref().unwrap_or("unknown_error"), response),
    };
    Attempt::new(outcome).answered(response.status, response.excerpt())
}

fn failure(error: &str, response: &Response) -> Outcome {
    let words = format!("slack says {error}");
    match error {
        "ratelimited" | "rate_limited" => match crate::http::retry_after(&response.headers) {
            Some(wait) => Outcome::RetryAfter(wait, words),
            None => Outcome::SlowDown(words),
        },
        // Sent before under the same client_msg_id.
        "duplicate_message" | "duplicate_client_msg_id" => Outcome::Sent,
        "internal_error"
        | "fatal_error"
        | "service_unavailable"
        | "request_timeout"
        | "team_added_to_org"
        | "message_limit_exceeded" => Outcome::Retry(words),
        "channel_not_found" | "not_in_channel" | "is_archived" => {
            Outcome::GiveUp(format!("{words}: check the channel and invite the bot to it"))
        }
        "invalid_auth" | "not_authed" | "account_inactive" | "token_revoked" | "token_expired"
        | "missing_scope" | "no_permission" => {
            Outcome::GiveUp(format!("{words}: give the channel a new bot token with chat:write"))
        }
        _ => Outcome::GiveUp(words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderMap;

    fn judged_after(retry_after: &str, body: &str) -> Outcome {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", retry_after.parse().unwrap());
        judge(&Response { status: 200, headers, body: body.to_owned().into() }).outcome
    }

    fn judged(body: &str) -> Outcome {
        judged_after("3", body)
    }

    #[test]
    fn errors_have_types() {
        assert_eq!(judged(r#"{"ok":true,"ts":"1"}"#), Outcome::Sent);
        assert!(
            matches!(judged(r#"{"ok":false,"error":"ratelimited"}"#), Outcome::RetryAfter(wait, _) if wait.as_secs() == 3)
        );
        for useless in ["soon", "-1", ""] {
            let outcome = judged_after(useless, r#"{"ok":false,"error":"ratelimited"}"#);
            assert!(matches!(outcome, Outcome::SlowDown(_)), "{useless:?}: {outcome:?}");
        }
        assert!(matches!(judged(r#"{"ok":false,"error":"internal_error"}"#), Outcome::Retry(_)));
        assert!(matches!(judged("<html>"), Outcome::Retry(_)));
        for last in ["channel_not_found", "invalid_auth", "token_revoked", "is_archived", "invalid_blocks"] {
            let body = format!(r#"{{"ok":false,"error":"{last}"}}"#);
            assert!(matches!(judged(&body), Outcome::GiveUp(why) if why.contains(last)));
        }
    }
}
