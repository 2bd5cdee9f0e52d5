//! A small client of the public API for tests: every answer is kept whole, so that a failed assertion shows it.

use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    pub base: String,
    pub token: String,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub bytes: Vec<u8>,
    /// `Null` when the body is not JSON.
    pub body: Value,
}

impl Answer {
    /// The body, when the status is `status`.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", String::from_utf8_lossy(&self.bytes));
        self.body
    }
}

impl Client {
    pub fn new(base: &str, token: &str) -> Client {
        Client { http: crate::http_client(), base: base.to_owned(), token: token.to_owned() }
    }

    /// The same server, another person.
    pub fn with_token(&self, token: &str) -> Client {
        Client { token: token.to_owned(), ..self.clone() }
    }

    /// A request with the token; change it and hand it to [`Client::send`].
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.base) };
        let request = self.http.request(method, url);
        if self.token.is_empty() { request } else { request.bearer_auth(&self.token) }
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status(), answer.headers().clone());
        let bytes = answer.bytes().await.expect("a body").to_vec();
        let body = serde_json::from_slice(&bytes).unwrap_or_default();
        Answer { status, headers, bytes, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// All items of a list, page by page.
    pub async fn all(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let join = if path.contains('?') { '&' } else { '?' };
            let after = cursor.map(|c| format!("&cursor={c}")).unwrap_or_default();
            let page = self.get(&format!("{path}{join}page_size=200{after}")).await.expect(200);
            items.extend(page["items"].as_array().expect("items").iter().cloned());
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return items;
            }
        }
    }

    /// Asks again until `good` accepts the body: what a person does who waits for something to appear.
    ///
    /// # Panics
    /// After thirty seconds, with the last answer.
    pub async fn until(&self, path: &str, good: impl Fn(&Value) -> bool) -> Value {
        self.within(Duration::from_secs(30), path, good).await
    }

    /// As [`Client::until`], for what takes longer.
    ///
    /// # Panics
    /// After `patience`, with the last answer.
    pub async fn within(&self, patience: Duration, path: &str, good: impl Fn(&Value) -> bool) -> Value {
        let begin = std::time::Instant::now();
        loop {
            let answer = self.get(path).await;
            if answer.status.is_success() && good(&answer.body) {
                return answer.body;
            }
            assert!(begin.elapsed() < patience, "{path} never became as expected; last: {answer:?}");
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }
}
