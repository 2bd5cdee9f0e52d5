//! Telling other systems of events: Standard Webhooks (<https://www.standardwebhooks.com>, specification 1.0).
//!
//! What is signed is `ID.TIMESTAMP.BODY`; a signature is `v1,` and the HMAC-SHA-256 of it in base64. With two secrets (one is being replaced) there
//! are two signatures with a space between them.

use crate::http::{Client, Request};
use crate::sending::{Attempt, Outcome};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use std::time::Duration;

/// Receivers are asked to take a message in and work on it afterwards.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Nothing in an answer matters but its status; its beginning is kept for people.
const RESPONSE_LIMIT: usize = 16 * 1024;

/// What goes out.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The same at every attempt.
    pub id: &'a str,
    /// Of this attempt, in seconds since 1970.
    pub timestamp: i64,
    /// The value of `webhook-signature`.
    pub signature: &'a str,
    pub body: &'a str,
    pub trace_parent: Option<&'a str>,
}

/// The value of `webhook-signature`, a signature for each secret.
pub fn signature<'a>(
    secrets: impl IntoIterator<Item = &'a [u8]>,
    id: &str,
    timestamp: i64,
    body: &str,
) -> String {
    let one = |secret: &[u8]| {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body.as_bytes());
        format!("v1,{}", STANDARD.encode(context.sign()))
    };
    secrets.into_iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Only 2xx is an acceptance; redirects are not followed.
pub async fn send(http: &Client, url: &str, message: Message<'_>) -> Attempt {
    let request = Request::post(url, "application/json", message.body.to_owned())
        .header("webhook-id", message.id)
        .header("webhook-timestamp", message.timestamp.to_string())
        .header("webhook-signature", message.signature)
        .trace_parent(message.trace_parent)
        .timeout(TIMEOUT)
        .response_limit(RESPONSE_LIMIT);
    match http.send(request).await {
        Ok(response) => Attempt::new(Outcome::Sent).answered(response.status, response.excerpt()),
        Err(error) => Attempt::failed(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification's own libraries.
    #[test]
    fn the_signature_is_that_of_the_specification() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", r#"{"test": 2432232314}"#);
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signature([&*secret], id, 1_614_265_330, body), expected);
        let both = signature([&b"another"[..], &*secret], id, 1_614_265_330, body);
        assert!(both.starts_with("v1,") && both.ends_with(&format!(" {expected}")), "{both}");
    }
}
