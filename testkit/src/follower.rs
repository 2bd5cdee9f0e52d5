//! A listener of the live stream (Server-Sent Events).

use crate::Client;
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

/// How long a test waits for a message.
const WAIT: Duration = Duration::from_secs(60);

pub struct Follower {
    response: reqwest::Response,
    /// What has come of the next messages.
    text: String,
}

/// A message that is no comment.
#[derive(Clone, Debug)]
pub struct Message {
    pub id: Option<String>,
    pub event: String,
    pub data: Value,
}

impl Client {
    /// Follows what happens, from the message after `last` on.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn follow(&self, last: Option<&str>) -> Follower {
        let mut request =
            self.request(Method::GET, "/api/v1/events/stream").timeout(Duration::from_secs(600));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200, "{response:?}");
        Follower { response, text: String::new() }
    }
}

impl Follower {
    /// # Panics
    /// After a minute, and when the stream ends.
    pub async fn next(&mut self) -> Message {
        tokio::time::timeout(WAIT, self.message()).await.expect("a message in time")
    }

    /// The next message that is meant; those before it are passed over.
    ///
    /// # Panics
    /// After a minute, and when the stream ends.
    pub async fn until(&mut self, meant: impl Fn(&Message) -> bool) -> Message {
        let found = async {
            loop {
                let message = self.message().await;
                if meant(&message) {
                    return message;
                }
            }
        };
        tokio::time::timeout(WAIT, found).await.expect("the message in time")
    }

    async fn message(&mut self) -> Message {
        loop {
            while let Some((message, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    message
                        .lines()
                        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
                        .map(str::to_owned)
                };
                let parts = (field("id"), field("event"), field("data"));
                self.text = rest.to_owned();
                if let (id, Some(event), Some(data)) = parts {
                    let data = serde_json::from_str(&data).expect("JSON");
                    return Message { id, event, data };
                }
            }
            let chunk = self.response.chunk().await.expect("an open stream").expect("a stream that goes on");
            self.text.push_str(std::str::from_utf8(&chunk).expect("whole characters"));
        }
    }
}
