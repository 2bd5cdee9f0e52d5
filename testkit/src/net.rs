//! Ports and TLS.

use std::net::{Ipv4Addr, TcpListener};

/// A TCP port on loopback that was free a moment ago. For servers that can't be told "any port"; ours can (`:0`).
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// rustls needs a provider of cryptography before the first HTTP client is made. Harmless when done twice.
pub fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// For talking to Relaydesk and to the sinks, which are all on loopback.
#[expect(clippy::disallowed_methods, reason = "tests reach loopback, which the product's own client refuses")]
pub fn http_client() -> reqwest::Client {
    install_crypto();
    reqwest::Client::builder().timeout(std::time::Duration::from_secs(30)).build().expect("an HTTP client")
}
