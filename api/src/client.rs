//! Who is at the other end: the peer of the connection, or, when that is a proxy of ours, the address that it forwards.
//!
//! Only one header is believed, and of it only what trusted proxies wrote: each appends the address that it saw, so the list is
//! read from its right end, and the first address that is no proxy of ours is the client. What stands left of it was
//! written by the client and says what they like (`docs/configuration.md`, "Behind a proxy").

use axum::http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The address of the client, in the extensions of each request.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClientAddress(pub Option<IpAddr>);

/// The header that the proxies write. The other one comes from the client as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarding {
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// Whose word about the client's address is taken. The default: nobody's.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    pub networks: Vec<IpNet>,
    pub header: Forwarding,
}

impl Proxies {
    /// Where the request comes from; `peer` is who is connected.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        let hops = self.hops(headers);
        let mut hops = hops.iter().rev();
        while self.trusts(client) {
            // Something that is no address (`unknown`, a name): what is known for sure is the proxy that wrote it.
            let Some(Some(hop)) = hops.next() else { break };
            client = *hop;
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Left to right, over all headers of the name.
    fn hops(&self, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
        const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
        if self.networks.is_empty() {
            return Vec::new();
        }
        let (name, read): (_, fn(&str) -> Option<IpAddr>) = match self.header {
            Forwarding::XForwardedFor => (X_FORWARDED_FOR, address),
            Forwarding::Forwarded => (header::FORWARDED, forwarded_for),
        };
        let lines = headers.get_all(name).into_iter();
        lines
            .flat_map(|line| match line.to_str() {
                Ok(line) => line.split(',').map(|hop| read(hop.trim())).collect(),
                Err(_) => vec![None],
            })
            .collect()
    }
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]:4711`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    parsed.ok().map(|address: IpAddr| address.to_canonical())
}

/// The `for=` of one element: `for="[2001:db8::1]:4711";proto=https`. A comma inside of quotes is taken for the end of an
/// element: no address has one.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("for"))?;
    address(value.trim_matches('"'))
}

/// Whom an address belongs to: of IPv6 a customer gets (at least) 64 bits to choose from.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(header: Forwarding, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let networks = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        Proxies { networks, header }.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_rightmost_hop_that_is_no_proxy_of_ours_is_the_client() {
        let xff =
            |peer: &str, value: &str| seen(Forwarding::XForwardedFor, peer, &[("x-forwarded-for", value)]);
        for (peer, value, expected) in [
            // Nobody of ours: whatever they say.
            ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
            ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
            ("fd00::1", "2001:db8::7", "2001:db8::7"),
            // The left end was sent by the client.
            ("10.0.0.1", "127.0.0.1, 198.51.100.1", "198.51.100.1"),
            ("10.0.0.1", "10.0.0.9, 198.51.100.1", "198.51.100.1"),
            // Two of ours in a row.
            ("10.0.0.1", "198.51.100.1, 10.0.0.2", "198.51.100.1"),
            ("10.0.0.1", "1.1.1.1, 198.51.100.1 , 10.0.0.2", "198.51.100.1"),
            // From the inside.
            ("10.0.0.1", "10.0.0.7", "10.0.0.7"),
            // What is no address ends the search at what is known.
            ("10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.1, ", "10.0.0.1"),
            ("10.0.0.1", "198.51.100.1, 10.0.0.256, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "198.51.100.1:5555", "198.51.100.1"),
            ("10.0.0.1", "[2001:db8::7]:5555", "2001:db8::7"),
            ("10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ] {
            assert_eq!(xff(peer, value), expected, "{peer}: {value}");
        }
        assert_eq!(seen(Forwarding::XForwardedFor, "10.0.0.1", &[]), "10.0.0.1");
        let lines = [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "198.51.100.1")];
        assert_eq!(seen(Forwarding::XForwardedFor, "10.0.0.1", &lines), "198.51.100.1");
    }

    #[test]
    fn the_other_header_is_the_clients_own() {
        let both = [("x-forwarded-for", "198.51.100.1"), ("forwarded", "for=192.0.2.5")];
        assert_eq!(seen(Forwarding::XForwardedFor, "10.0.0.1", &both), "198.51.100.1");
        assert_eq!(seen(Forwarding::Forwarded, "10.0.0.1", &both), "192.0.2.5");
        for (value, expected) in [
            ("for=192.0.2.5;proto=https;by=10.0.0.1", "192.0.2.5"),
            ("proto=https; For=\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("for=127.0.0.1, for=192.0.2.5, for=10.0.0.2", "192.0.2.5"),
            ("for=192.0.2.5, for=_hidden", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            assert_eq!(seen(Forwarding::Forwarded, "10.0.0.1", &[("forwarded", value)]), expected, "{value}");
        }
    }
}
