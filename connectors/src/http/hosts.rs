//! Which hosts outgoing connections may go to, where an operator wants a list of them (ASVS 5.0, 13.2.4).
//!
//! What is compared is the host as the address has it once it is parsed, which is the one that is connected to: in lower case, names with other
//! letters as `xn--…`, old notations of addresses in the usual one. A name that resolves to an address is not that address.

use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;
use url::{Host, Url};

/// One host, or all names below one; at one port, or at any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern {
    /// The names below `host`, and not `host` itself.
    below: bool,
    host: Host,
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a host such as hooks.example.com, *.example.com, 192.0.2.7 or [2001:db8::7], with or without :port"
)]
pub struct NotAPattern;

impl FromStr for HostPattern {
    type Err = NotAPattern;

    fn from_str(text: &str) -> Result<Self, NotAPattern> {
        let (below, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // The colons of an IPv6 address are within brackets.
        let (host, port) = match rest.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => {
                let port: NonZeroU16 = port.parse().map_err(|_| NotAPattern)?;
                (host, Some(port.get()))
            }
            Some(_) => return Err(NotAPattern),
            None => (rest, None),
        };
        let host = match Host::parse(host).map_err(|_| NotAPattern)? {
            Host::Domain(name) => {
                let name = without_dot(&name);
                if !are_labels(name) || name.contains('*') {
                    return Err(NotAPattern);
                }
                Host::Domain(name.to_owned())
            }
            _ if below => return Err(NotAPattern),
            address => address,
        };
        Ok(HostPattern { below, host, port })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.below { "*." } else { "" };
        write!(f, "{star}{}", self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl HostPattern {
    pub(super) fn admits(&self, url: &Url) -> bool {
        let port = self.port.is_none() || self.port == url.port_or_known_default();
        port && match (&self.host, url.host()) {
            (Host::Domain(listed), Some(Host::Domain(asked))) => {
                let asked = without_dot(asked);
                match self.below {
                    true => asked
                        .strip_suffix(listed.as_str())
                        .and_then(|rest| rest.strip_suffix('.'))
                        .is_some_and(are_labels),
                    false => asked == listed,
                }
            }
            (Host::Ipv4(listed), Some(Host::Ipv4(asked))) => *listed == asked,
            (Host::Ipv6(listed), Some(Host::Ipv6(asked))) => *listed == asked,
            _ => false,
        }
    }
}

/// `example.com.` is `example.com`, looked up without the search list of the system.
fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

fn are_labels(name: &str) -> bool {
    name.split('.').all(|label| !label.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(pattern: &str, address: &str) -> bool {
        let pattern: HostPattern = pattern.parse().unwrap_or_else(|_| panic!("{pattern}"));
        pattern.admits(&address.parse().unwrap_or_else(|_| panic!("{address}")))
    }

    #[test]
    fn a_host_is_itself_in_all_spellings() {
        for address in [
            "https://hooks.example.com/x",
            "http://HOOKS.Example.COM",
            "https://hooks.example.com./",
            "https://hooks.example.com:8443/",
            "https://%68ooks.example.com/",
            "https://user:evil.example@hooks.example.com/",
            "https://hooks。example.com/",
        ] {
            assert!(admits("hooks.example.com", address), "{address}");
            assert!(admits("Hooks.Example.com.", address), "{address}");
            assert!(admits("*.example.com", address), "{address}");
        }
        assert!(admits("bücher.example", "https://xn--bcher-kva.example/"));
        assert!(admits("xn--bcher-kva.example", "https://BÜCHER.example/"));
        assert!(admits("192.0.2.7", "http://0xc0000207/") && admits("0xc0000207", "http://192.0.2.7/"));
        assert!(admits("[2001:db8::7]", "http://[2001:db8:0:0::7]:81/"));
    }

    #[test]
    fn whoever_only_looks_like_it_stays_outside() {
        for address in [
            "https://evil.example/",
            "https://evil.example/?hooks.example.com",
            "https://evil.example#@hooks.example.com",
            "https://hooks.example.com@evil.example/",
            "https://hooks.example.com:x@evil.example/",
            "https://evil.example\\@hooks.example.com/",
            "https://hooks.example.com.evil.example/",
            "https://evilhooks.example.com.evil.example/",
            "https://hooks-example.com/",
            "https://hooks.example.co/",
            "https://hooks.example.com../",
            "https://hооks.example.соm/",
            "http://192.0.2.7/",
            "http://[2001:db8::7]/",
        ] {
            assert!(!admits("hooks.example.com", address), "{address}");
            assert!(!admits("*.example.com", address), "{address}");
        }
        assert!(!admits("hooks.example.com", "https://x.hooks.example.com/"));
        assert!(!admits("hooks.example.com", "https://example.com/"));
        for address in ["https://example.com/", "https://evilexample.com/", "https://.example.com/"] {
            assert!(!admits("*.example.com", address), "{address}");
        }
        assert!(
            !admits("192.0.2.7", "http://[::ffff:192.0.2.7]/") && !admits("192.0.2.7", "http://192.0.2.70/")
        );
        assert!(!admits("192.0.2.7", "http://192.0.2.7.example/"));
    }

    #[test]
    fn a_port_is_that_port() {
        assert!(admits("hooks.example.com:443", "https://hooks.example.com/"));
        assert!(admits("*.example.com:8443", "https://a.b.example.com:8443/"));
        assert!(admits("[2001:db8::7]:80", "http://[2001:db8::7]/"));
        for address in ["http://hooks.example.com/", "https://hooks.example.com:444/"] {
            assert!(!admits("hooks.example.com:443", address), "{address}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_told() {
        for text in [
            "",
            "*",
            "*.",
            "*.*",
            "*.*.example.com",
            "a*.example.com",
            "hooks.*.com",
            "*.192.0.2.7",
            "https://x.example",
            "x.example/path",
            "user@x.example",
            "x.example:",
            "x.example:0",
            "x.example:65536",
            "x.example:+80",
            "::1",
            "x..example",
            ".example.com",
            "192.0.2.256",
            "two words",
            "[::1",
            "*.[::1]",
        ] {
            assert_eq!(text.parse::<HostPattern>(), Err(NotAPattern), "{text}");
        }
        for text in ["hooks.example.com", "*.example.com:8443", "192.0.2.7:80", "[2001:db8::7]:80"] {
            assert_eq!(text.parse::<HostPattern>().unwrap().to_string(), text);
        }
    }
}
