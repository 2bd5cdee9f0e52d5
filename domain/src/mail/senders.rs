//! Who becomes known to an organization by writing a mail to it.

use crate::EmailAddress;
use crate::words::words;

words! {
    /// What an organization does with mail of people it does not know.
    SenderPolicy("sender policy") {
        /// Everybody becomes an end user.
        Open => "open",
        /// Who writes from one of the organization's domains becomes an end user.
        KnownDomains => "known_domains",
        /// Nobody: people are made by administrators.
        Closed => "closed",
    }
}

/// Most domains that an organization names.
pub const MOST_DOMAINS: usize = 200;

impl SenderPolicy {
    /// Whether somebody unknown with this address is let in. `domains` are as [`domain`] wrote them.
    pub fn admits(self, domains: &[String], address: &EmailAddress) -> bool {
        match self {
            SenderPolicy::Open => true,
            SenderPolicy::Closed => false,
            SenderPolicy::KnownDomains => domains.iter().any(|domain| covers(domain, address.host())),
        }
    }

    /// Why somebody was not, in words for a person who looks into the inbox.
    pub fn refusal(self) -> &'static str {
        match self {
            SenderPolicy::Open => "the sender was refused",
            SenderPolicy::KnownDomains => {
                "refused: the sender is not known here, and their domain is not one of the organization's (sender_policy known_domains)"
            }
            SenderPolicy::Closed => {
                "refused: the sender is not known here, and nobody becomes known by writing (sender_policy closed)"
            }
        }
    }
}

/// `example.org` is that host alone, `*.example.org` all below it.
fn covers(domain: &str, host: &str) -> bool {
    match domain.strip_prefix("*.") {
        Some(above) => host.strip_suffix(above).is_some_and(|below| below.len() > 1 && below.ends_with('.')),
        None => domain == host,
    }
}

/// A domain as it is stored: lower case, `*.` in front for all that is below it. `None`: it is none.
pub fn domain(text: &str) -> Option<String> {
    let text = text.trim().to_lowercase();
    let host = text.strip_prefix("*.").unwrap_or(&text);
    // What stands behind the @ of an address, and no top-level domain: half the world would be known.
    let fits = EmailAddress::parse(&format!("x@{host}")).is_ok_and(|address| address.host() == host);
    let is_plain = host.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '.');
    (fits && is_plain && host.contains('.')).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn admits(policy: SenderPolicy, domains: &[&str], address: &str) -> bool {
        let domains: Vec<String> = domains.iter().map(|text| domain(text).unwrap()).collect();
        policy.admits(&domains, &EmailAddress::parse(address).unwrap())
    }

    #[test]
    fn a_domain_is_that_host_and_a_star_what_is_below_it() {
        use SenderPolicy::*;
        assert!(admits(Open, &[], "a@anywhere.example"));
        assert!(!admits(Closed, &["example.org"], "a@example.org"));
        let known = ["Example.org ", "*.corp.example", "müller.example"];
        for address in ["a@EXAMPLE.ORG", "a@b.corp.example", "a@b.c.corp.example", "a@müller.example"] {
            assert!(admits(KnownDomains, &known, address), "{address}");
        }
        for address in [
            "a@sub.example.org",
            "a@example.org.evil.example",
            "a@evilexample.org",
            "a@corp.example",
            "a@evilcorp.example",
            "a@example.com",
        ] {
            assert!(!admits(KnownDomains, &known, address), "{address}");
        }
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        for wrong in [
            "", "*", "*.", "*.*", "org", "*.org", "a@b.c", "a b.c", "-a.b", "a..b", ".a.b", "*.a.*.b",
            "a.b/c", "a.b.",
        ] {
            assert_eq!(domain(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_stored_is_read_the_same(text in "\\PC{0,40}") {
            if let Some(stored) = domain(&text) {
                prop_assert_eq!(domain(&stored), Some(stored));
            }
        }
    }
}
