//! Forged forwarding headers (attack H21): they change nothing, unless a trusted proxy wrote them.

use crate::support::{Api, request};
use api::{Forwarding, Proxies};
use axum::extract::ConnectInfo;
use axum::http::Method;
use serde_json::json;
use std::net::SocketAddr;

const LOGIN: &str = "/api/v1/auth/login";

impl Api {
    async fn login_from(&self, peer: &str, headers: &[(&'static str, &str)], password: &str) -> u16 {
        let body = json!({"email": "agent@acme.example", "password": password});
        let mut request = request(Method::POST, LOGIN, "", Some(body));
        request.extensions_mut().insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 50_000)));
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        self.send(request).await.status.as_u16()
    }

    async fn addresses(&self, sql: &'static str) -> Vec<String> {
        sqlx::query_scalar(sql).fetch_all(&mut self.test_db.owner().await).await.unwrap()
    }
}

fn behind(networks: &[&str], header: Forwarding) -> Proxies {
    Proxies { networks: networks.iter().map(|network| network.parse().unwrap()).collect(), header }
}

#[tokio::test]
async fn a_forged_address_is_neither_believed_nor_logged() {
    let mut api = Api::start().await;
    let agent = api.organization.agent.user_id().unwrap();
    api.set_password(agent, "correct horse battery").await;
    let forged = [
        ("x-forwarded-for", "198.51.100.1"),
        ("forwarded", "for=198.51.100.1"),
        ("x-real-ip", "198.51.100.1"),
    ];
    for networks in [&[][..], &["10.0.0.0/8"]] {
        api.set(|settings| settings.proxies = behind(networks, Forwarding::XForwardedFor));
        assert_eq!(api.login_from("203.0.113.9", &forged, "correct horse battery").await, 200);
    }
    let seen = api.addresses("select distinct host(ip::inet) from sessions").await;
    assert_eq!(seen, ["203.0.113.9"]);
    let seen = api.addresses("select distinct address from audit_entries where address is not null").await;
    assert!(seen.iter().all(|address| address == "203.0.113.9"), "{seen:?}");
}

#[tokio::test]
async fn what_a_trusted_proxy_says_is_the_clients_address_everywhere() {
    let mut api = Api::start().await;
    let agent = api.organization.agent.user_id().unwrap();
    api.set_password(agent, "correct horse battery").await;
    api.set(|settings| settings.proxies = behind(&["10.0.0.0/8"], Forwarding::XForwardedFor));
    // The client sent the first, the proxy appended the second.
    let through = [("x-forwarded-for", "127.0.0.1, 198.51.100.7"), ("forwarded", "for=192.0.2.1")];
    assert_eq!(api.login_from("10.0.0.1", &through, "correct horse battery").await, 200);
    assert_eq!(api.addresses("select host(ip::inet) from sessions").await, ["198.51.100.7"]);
    let logged = api.addresses("select distinct address from audit_entries where address is not null").await;
    assert!(logged.iter().all(|address| address == "198.51.100.7") && !logged.is_empty(), "{logged:?}");
    api.set(|settings| settings.proxies = behind(&["10.0.0.0/8"], Forwarding::Forwarded));
    assert_eq!(api.login_from("10.0.0.1", &through, "correct horse battery").await, 200);
    let seen = api.addresses("select host(ip::inet) from sessions order by created_at").await;
    assert_eq!(seen, ["198.51.100.7", "192.0.2.1"]);
}

/// With an address of their own in each request the throttle would never see the same network twice.
#[tokio::test]
async fn the_throttle_of_logins_is_not_led_astray() {
    let mut api = Api::start().await;
    api.set(|settings| settings.proxies = behind(&["10.0.0.0/8"], Forwarding::XForwardedFor));
    let guess = async |peer: &str, forged: String| {
        api.login_from(peer, &[("x-forwarded-for", &forged)], "a wrong password").await
    };
    let mut refused = None;
    for n in 0..200_u8 {
        if guess("203.0.113.9", format!("198.51.100.{n}")).await == 429 {
            refused = Some(n);
            break;
        }
    }
    assert!(refused.is_some(), "a forger was never told to wait");
    // Through the proxy others are others, and the forger's words stand left of the address that the proxy saw.
    assert_eq!(guess("10.0.0.1", "198.51.100.250".to_owned()).await, 401);
    assert_eq!(guess("10.0.0.1", "198.51.100.251, 203.0.113.9".to_owned()).await, 429);
}
