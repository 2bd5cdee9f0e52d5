//! The one HTTP client. Every outgoing request of Relaydesk goes through it, so that what holds for one holds for all:
//! resolve → check → connect to the checked address, no redirects, no proxies, time limits, size limits.

mod destinations;
mod hosts;
mod retry_after;

pub use destinations::{Destinations, RefusedAddress};
pub use hosts::{HostPattern, NotAPattern};
pub use retry_after::retry_after;

use bytes::{Bytes, BytesMut};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use url::Host;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(15);
/// Answers of peers are small; who wants more (an inventory) says so.
const RESPONSE_LIMIT: usize = 1024 * 1024;
/// As much of an answer as the ledger and error texts keep.
const EXCERPT: usize = 500;

/// Error texts never hold the path or query of an address: for webhooks they are the secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("not a usable address: {0}")]
    Address(String),
    /// The destination is one that outgoing connections must not reach.
    #[error(
        "destination {host} refused: {refused}; an operator can allow it with RELAYDESK_ALLOW_PRIVATE_DESTINATIONS"
    )]
    Refused { host: String, refused: RefusedAddress },
    /// The operator lists hosts, and this is none of them.
    #[error("destination {host} refused: it is not in the operator's list of hosts (RELAYDESK_EGRESS_HOSTS)")]
    NotListed { host: String },
    #[error("no answer in time")]
    Timeout,
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The peer answered with this 2xx, and then with more than anybody wants to read.
    #[error("the answer is longer than {limit} bytes")]
    TooLong { limit: usize, status: u16 },
    /// The peer answered, and not with 2xx. Redirects are among them: they are not followed.
    #[error("answered {code}: {excerpt}")]
    Status { code: u16, retry_after: Option<Duration>, excerpt: String },
}

#[derive(Debug)]
pub struct Request {
    method: Method,
    url: String,
    headers: Vec<(String, String)>,
    body: Option<Bytes>,
    timeout: Duration,
    limit: usize,
}

impl Request {
    pub fn get(url: impl Into<String>) -> Self {
        let (headers, body) = (Vec::new(), None);
        Request {
            method: Method::GET,
            url: url.into(),
            headers,
            body,
            timeout: TIMEOUT,
            limit: RESPONSE_LIMIT,
        }
    }

    pub fn post_json(url: impl Into<String>, body: &serde_json::Value) -> Self {
        Request::post(url, "application/json; charset=utf-8", body.to_string())
    }

    /// These very bytes.
    pub fn post(url: impl Into<String>, media_type: &str, body: impl Into<Bytes>) -> Self {
        Request { method: Method::POST, body: Some(body.into()), ..Request::get(url) }
            .header("content-type", media_type)
    }

    /// `application/x-www-form-urlencoded`.
    pub fn post_form(url: impl Into<String>, fields: &[(&str, &str)]) -> Self {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        Request { method: Method::POST, body: Some(body.into()), ..Request::get(url) }
            .header("content-type", "application/x-www-form-urlencoded")
    }

    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// W3C Trace Context, if there is one.
    pub fn trace_parent(self, trace_parent: Option<&str>) -> Self {
        match trace_parent {
            Some(value) => self.header("traceparent", value),
            None => self,
        }
    }

    /// From the first byte sent to the last byte received.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Bytes of the answer, after decompression.
    pub fn response_limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }
}

#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Response {
    /// The beginning of the body, on one line of printable characters.
    pub fn excerpt(&self) -> String {
        excerpt(&self.body)
    }
}

/// Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    inner: reqwest::Client,
    destinations: Arc<Destinations>,
}

impl Client {
    /// Fails when the certificates of the system cannot be read.
    #[expect(clippy::disallowed_methods, reason = "this is the client that the lint points to")]
    pub fn new(destinations: Destinations) -> Result<Self, Error> {
        // Installed once a process; who comes second finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let destinations = Arc::new(destinations);
        let inner = reqwest::Client::builder()
            .dns_resolver(Arc::new(CheckingResolver { destinations: destinations.clone() }))
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(4)
            .user_agent(concat!("relaydesk/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| Error::Unreachable(format!("no HTTP client: {}", innermost(&error))))?;
        Ok(Client { inner, destinations })
    }

    /// Sends, and reads the whole answer. Only 2xx is `Ok`.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        let url = self.checked_url(&request.url)?;
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut headers = HeaderMap::new();
        for (name, value) in &request.headers {
            let name = HeaderName::try_from(name)
                .map_err(|_| Error::Address(format!("bad header name {name:?}")))?;
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| Error::Address(format!("bad value of header {name}")))?;
            value.set_sensitive(name == reqwest::header::AUTHORIZATION);
            headers.append(name, value);
        }
        let mut builder = self.inner.request(request.method, url).headers(headers).timeout(request.timeout);
        if let Some(body) = request.body {
            builder = builder.body(body);
        }
        let mut response = builder.send().await.map_err(|error| transport_error(&error, &host))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| transport_error(&error, &host))? {
            if body.len() + chunk.len() > request.limit {
                if !status.is_success() {
                    break; // an error page: its beginning is enough
                }
                return Err(Error::TooLong { limit: request.limit, status: status.as_u16() });
            }
            body.extend_from_slice(&chunk);
        }
        let response = Response { status: status.as_u16(), headers, body: body.freeze() };
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = retry_after(&response.headers);
        Err(Error::Status { code: response.status, retry_after, excerpt: response.excerpt() })
    }

    /// Address literals never reach the resolver, so they are checked here. `Url` has already brought the old
    /// notations (decimal, octal, hexadecimal) into the usual one.
    fn checked_url(&self, text: &str) -> Result<Url, Error> {
        let url = Url::parse(text).map_err(|error| Error::Address(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Address(format!("the scheme {} is not http or https", url.scheme())));
        }
        if !self.destinations.admits(&url) {
            let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
            return Err(Error::NotListed { host: format!("{}{port}", url.host_str().unwrap_or_default()) });
        }
        let literal = match url.host() {
            Some(Host::Ipv4(v4)) => Some(v4.into()),
            Some(Host::Ipv6(v6)) => Some(v6.into()),
            Some(Host::Domain(_)) => None,
            None => return Err(Error::Address("there is no host in it".into())),
        };
        if let Some(address) = literal {
            self.destinations.check(address).map_err(|refused| Error::Refused {
                host: url.host_str().unwrap_or_default().to_owned(),
                refused,
            })?;
        }
        Ok(url)
    }
}

/// Looks names up and lets through only addresses that may be reached. The connection goes to the very addresses that
/// were checked: a name that resolves differently the next time gains nothing.
struct CheckingResolver {
    destinations: Arc<Destinations>,
}

impl Resolve for CheckingResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let destinations = self.destinations.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let allowed = checked(&destinations, found)?;
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// The addresses that may be reached; an error when there are only others.
fn checked(destinations: &Destinations, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, RefusedAddress> {
    let mut refused = None;
    let mut allowed = Vec::with_capacity(found.len());
    for address in found {
        match destinations.check(address.ip()) {
            Ok(()) => allowed.push(address),
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if allowed.is_empty() => Err(error),
        _ => Ok(allowed),
    }
}

fn transport_error(error: &reqwest::Error, host: &str) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(refused) = current.downcast_ref::<RefusedAddress>() {
            return Error::Refused { host: host.to_owned(), refused: *refused };
        }
        cause = current.source();
    }
    if error.is_timeout() { Error::Timeout } else { Error::Unreachable(innermost(error)) }
}

/// The root cause: the outer errors of reqwest only repeat the address.
fn innermost(error: &dyn StdError) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn excerpt(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(EXCERPT * 4)]);
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(EXCERPT).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
