//! An e-mail address as Relaydesk compares and stores it: lower case, one `@`, no surprises.
//!
//! Letters that only look foreign (the kelvin sign, whose lower case is a plain k) are refused: whoever gets an address with one would be
//! taken for the person whose address has the plain one.
//!
//! RFC 5321 allows the local part to be case-sensitive and quoted; in practice nobody relies on it, and two people whose
//! addresses differ in case only would be a security problem. Internationalised addresses (RFC 6531) are accepted.

use crate::ticket::text::is_ignorable;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EmailAddress(String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEmailAddress {
    #[error("an e-mail address has the form name@host")]
    Form,
    #[error("an e-mail address is at most 254 characters long (64 before the @)")]
    Length,
    #[error(
        "an e-mail address contains no spaces, control or invisible characters, commas, quotes or brackets"
    )]
    Characters,
}

impl EmailAddress {
    pub fn parse(text: &str) -> Result<Self, InvalidEmailAddress> {
        let becomes_plain = |c: char| !c.is_ascii() && c.to_lowercase().any(|lower| lower.is_ascii());
        if text.chars().any(becomes_plain) {
            return Err(InvalidEmailAddress::Characters);
        }
        let text = text.trim().to_lowercase();
        let (local, host) = text.rsplit_once('@').ok_or(InvalidEmailAddress::Form)?;
        if local.is_empty() || host.is_empty() || local.contains('@') {
            return Err(InvalidEmailAddress::Form);
        }
        // The limits are in octets (RFC 5321, 4.5.3.1).
        if text.len() > 254 || local.len() > 64 {
            return Err(InvalidEmailAddress::Length);
        }
        let refused =
            |c: char| c.is_whitespace() || c.is_control() || is_ignorable(c) || "\"(),:;<>[]\\".contains(c);
        if text.chars().any(refused) {
            return Err(InvalidEmailAddress::Characters);
        }
        let label = |label: &str| !label.is_empty() && !label.starts_with('-') && !label.ends_with('-');
        if !host.split('.').all(label) || !local.split('.').all(|part| !part.is_empty()) {
            return Err(InvalidEmailAddress::Form);
        }
        Ok(EmailAddress(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn local_part(&self) -> &str {
        self.0.split_once('@').map_or("", |(local, _)| local)
    }

    pub fn host(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, host)| host)
    }
}

impl FromStr for EmailAddress {
    type Err = InvalidEmailAddress;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        EmailAddress::parse(text)
    }
}

impl TryFrom<String> for EmailAddress {
    type Error = InvalidEmailAddress;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        EmailAddress::parse(&text)
    }
}

impl From<EmailAddress> for String {
    fn from(address: EmailAddress) -> String {
        address.0
    }
}

impl AsRef<str> for EmailAddress {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lower_cases_and_trims() {
        let address = EmailAddress::parse(" Ada.Lovelace@Example.ORG ").unwrap();
        assert_eq!(address.as_str(), "ada.lovelace@example.org");
        assert_eq!((address.local_part(), address.host()), ("ada.lovelace", "example.org"));
        assert!(EmailAddress::parse("jürgen@müller.example").is_ok());
        assert!(EmailAddress::parse("root@localhost").is_ok());
    }

    #[test]
    fn nobody_is_taken_for_somebody_else_by_a_letter_that_looks_the_same() {
        for strange in ["boo\u{212a}eeper@acme.example", "ada@acme\u{212a}.example", "\u{130}da@acme.example"]
        {
            assert_eq!(EmailAddress::parse(strange), Err(InvalidEmailAddress::Characters), "{strange}");
        }
    }

    #[test]
    fn refuses_what_is_none() {
        for bad in [
            "",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c.d",
            "a@b..c",
            "a..b@c.d",
            ".a@c.d",
            "a@-b.c",
            "a@b.c-",
            "<a@b.c>",
            "a@b.c\r\nbcc: x@y.z",
            "\"a\"@b.c",
            "a,b@c.d",
        ] {
            assert!(EmailAddress::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(EmailAddress::parse(&format!("{}@b.c", "a".repeat(65))), Err(InvalidEmailAddress::Length));
    }

    proptest! {
        #[test]
        fn parsing_is_idempotent_and_never_panics(text in "\\PC{0,80}") {
            if let Ok(address) = EmailAddress::parse(&text) {
                prop_assert_eq!(EmailAddress::parse(address.as_str()).unwrap(), address);
            }
        }
    }
}
