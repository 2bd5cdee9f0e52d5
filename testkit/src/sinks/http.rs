//! An HTTP server that records every request and answers as the test has scripted it.

use super::record::Record;
use crate::install_crypto;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One received request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub at: Instant,
    /// The status it was answered with.
    pub answered: StatusCode,
}

impl Request {
    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("a JSON body: {error}: {:?}", self.body))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// What to answer.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    headers: Vec<(String, String)>,
    body: String,
    delay: Duration,
}

impl Answer {
    pub fn status(code: u16) -> Answer {
        let status = StatusCode::from_u16(code).expect("an HTTP status");
        Answer { status, headers: Vec::new(), body: String::new(), delay: Duration::ZERO }
    }

    pub fn header(mut self, name: &str, value: impl ToString) -> Answer {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    pub fn body(mut self, body: impl Into<String>) -> Answer {
        self.body = body.into();
        self
    }

    pub fn json(self, body: &serde_json::Value) -> Answer {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Answer only after this time: a slow peer.
    pub fn after(mut self, delay: Duration) -> Answer {
        self.delay = delay;
        self
    }

    fn into_response(self) -> Response {
        let mut response = (self.status, self.body).into_response();
        for (name, value) in self.headers {
            let name = axum::http::HeaderName::try_from(name).expect("a header name");
            response.headers_mut().insert(name, value.parse().expect("a header value"));
        }
        response
    }
}

/// Answers `200 ok` unless told otherwise. Stops when dropped.
#[derive(Debug)]
pub struct HttpSink {
    address: SocketAddr,
    shared: Shared,
    server: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Shared {
    record: Record<Request>,
    script: Arc<Mutex<VecDeque<Answer>>>,
    otherwise: Arc<Mutex<Answer>>,
}

impl HttpSink {
    pub async fn start() -> HttpSink {
        HttpSink::start_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// At an address that was free a moment ago: a peer that comes back.
    pub async fn start_at(address: SocketAddr) -> HttpSink {
        install_crypto();
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Shared {
            record: Record::new(),
            script: Arc::default(),
            otherwise: Arc::new(Mutex::new(Answer::status(200).body("ok"))),
        };
        let router = Router::new().fallback(receive).with_state(shared.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("the sink serves");
        });
        HttpSink { address, shared, server }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT` + `path` (which starts with `/`).
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next requests get these answers, one each, in this order.
    pub fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        self.shared.script.lock().unwrap_or_else(PoisonError::into_inner).extend(answers);
    }

    /// Requests that the script does not cover get this answer.
    pub fn otherwise(&self, answer: Answer) {
        *self.shared.otherwise.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.record.all()
    }

    /// All requests, as soon as there are at least `n`; panics after `timeout`.
    pub async fn wait_for(&self, n: usize, timeout: Duration) -> Vec<Request> {
        self.shared.record.wait_for("HTTP requests", n, timeout).await
    }

    /// All of them, as soon as they are as `good` wants them; panics after a minute, naming `what`.
    pub async fn until(&self, what: &str, good: impl Fn(&[Request]) -> bool) -> Vec<Request> {
        self.shared.record.until(what, good).await
    }
}

impl Drop for HttpSink {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn receive(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let scripted = shared.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let answer =
        scripted.unwrap_or_else(|| shared.otherwise.lock().unwrap_or_else(PoisonError::into_inner).clone());
    let at = Instant::now();
    shared.record.push(Request { method, uri, headers, body, at, answered: answer.status });
    tokio::time::sleep(answer.delay).await;
    answer.into_response()
}
