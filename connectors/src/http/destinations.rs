//! Which addresses outgoing connections may go to.
//!
//! Addresses come from people (webhooks, inventories), so without a check they could point Relaydesk at its own network: server-side
//! request forgery (OWASP API7:2023). Refused is everything that the IANA special-purpose registries (RFC 6890 and
//! its successors) do not call globally reachable, in every notation in which an IPv4 address can hide in an IPv6 one.

use super::HostPattern;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use url::Url;

/// The rule, with the exceptions of the operator (`RELAYDESK_ALLOW_PRIVATE_DESTINATIONS`) and the hosts to which they
/// may keep it (`RELAYDESK_EGRESS_HOSTS`).
#[derive(Clone, Debug, Default)]
pub struct Destinations {
    allowed: Vec<IpNet>,
    /// None: all.
    hosts: Vec<HostPattern>,
}

/// An address that outgoing connections may not go to, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {what}")]
pub struct RefusedAddress {
    pub address: IpAddr,
    pub what: &'static str,
}

impl Destinations {
    pub fn allowing(allowed: impl IntoIterator<Item = IpNet>) -> Self {
        Destinations { allowed: allowed.into_iter().collect(), hosts: Vec::new() }
    }

    /// Only these hosts, and of their addresses those that could be reached without the list; an empty list is none.
    pub fn only(self, hosts: impl IntoIterator<Item = HostPattern>) -> Self {
        Destinations { hosts: hosts.into_iter().collect(), ..self }
    }

    /// Whether the host of an address may be connected to at its port, wherever it may lead.
    pub fn admits(&self, url: &Url) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|host| host.admits(url))
    }

    pub fn check(&self, address: IpAddr) -> Result<(), RefusedAddress> {
        let real = unwrapped(address);
        let listed = |ip: &IpAddr| self.allowed.iter().any(|net| net.contains(ip));
        if listed(&address) || listed(&real) {
            return Ok(());
        }
        let what = match real {
            IpAddr::V4(v4) => special_v4(v4),
            IpAddr::V6(v6) => special_v6(v6),
        };
        what.map_or(Ok(()), |what| Err(RefusedAddress { address, what }))
    }
}

impl fmt::Display for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<String> = self.allowed.iter().map(ToString::to_string).collect();
        f.write_str(&list.join(","))
    }
}

/// The IPv4 address to which an IPv6 one leads, if it is one of the forms that the system or a gateway translates:
/// IPv4-mapped and IPv4-compatible (RFC 4291), NAT64 (RFC 6052). Such an address is judged by where it leads.
fn unwrapped(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let s = v6.segments();
    let low = Ipv4Addr::from(((s[6] as u32) << 16) | s[7] as u32);
    let mapped = s[..5] == [0; 5] && s[5] == 0xffff;
    let compatible = s[..6] == [0; 6] && low.to_bits() > 1;
    let nat64 = s[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    if mapped || compatible || nat64 { IpAddr::V4(low) } else { address }
}

fn special_v4(ip: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = ip.octets();
    Some(match (a, b, c) {
        (0, ..) => "an address of this host",
        (127, ..) => "a loopback address",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "a private address",
        (100, 64..=127, _) => "an address behind a carrier's NAT",
        (169, 254, _) => "a link-local address",
        (192, 0, 0) => "reserved for protocols",
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => "reserved for documentation",
        (192, 88, 99) => "a 6to4 relay",
        (198, 18..=19, _) => "reserved for benchmarks",
        (224..=239, ..) => "a multicast address",
        (240.., ..) => "a reserved or broadcast address",
        _ => return None,
    })
}

fn special_v6(ip: Ipv6Addr) -> Option<&'static str> {
    let s = ip.segments();
    Some(match s[0] {
        _ if ip.is_unspecified() => "an address of this host",
        _ if ip.is_loopback() => "a loopback address",
        0xfc00..=0xfdff => "a private address",
        0xfe80..=0xfebf => "a link-local address",
        0xfec0..=0xfeff => "a site-local address",
        0xff00.. => "a multicast address",
        0x2002 => "a 6to4 address",
        0x2001 if s[1] == 0x0db8 => "reserved for documentation",
        0x3fff if s[1] < 0x1000 => "reserved for documentation",
        // Teredo (2001::/32), benchmarks, ORCHID and the like.
        0x2001 if s[1] < 0x0200 => "reserved for protocols",
        // ISATAP (RFC 5214) hides an IPv4 address behind an interface identifier.
        _ if s[5] == 0x5efe && s[4] & 0xfdff == 0 => "an ISATAP address",
        0x2000..=0x3fff => return None,
        _ => "not a global unicast address",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_addresses_are_free() {
        let rule = Destinations::default();
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2a00:1450:4001:81b::200e",
            "::ffff:1.1.1.1",
            "64:ff9b::1.1.1.1",
        ] {
            assert_eq!(rule.check(public.parse().unwrap()), Ok(()), "{public}");
        }
    }

    #[test]
    fn the_allow_list_opens_what_it_names_and_no_more() {
        let rule = Destinations::allowing(["127.0.0.0/8".parse().unwrap(), "fd12::/16".parse().unwrap()]);
        for open in ["127.0.0.1", "127.255.0.9", "::ffff:127.0.0.1", "fd12::1"] {
            assert_eq!(rule.check(open.parse().unwrap()), Ok(()), "{open}");
        }
        for closed in ["10.0.0.1", "::1", "fd13::1", "169.254.169.254"] {
            assert!(rule.check(closed.parse().unwrap()).is_err(), "{closed}");
        }
        assert_eq!(rule.to_string(), "127.0.0.0/8,fd12::/16");
    }
}
