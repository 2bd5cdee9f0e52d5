//! Ticket numbers as people write them: `INC0000123`.

use super::TicketKind;
use std::fmt;
use std::str::FromStr;

/// A prefix of three letters and at least seven digits, counted per organization and kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TicketNumber {
    pub kind: TicketKind,
    pub serial: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a ticket number: expected something like INC0000123")]
pub struct NotANumber;

const MIN_DIGITS: usize = 7;
/// More digits than any counter reaches, fewer than overflow.
const MAX_DIGITS: usize = 15;

impl TicketNumber {
    pub fn new(kind: TicketKind, serial: u64) -> Self {
        TicketNumber { kind, serial }
    }

    /// The first number in a line of text, for example a mail's subject: `Re: [INC0000123] printer on fire`.
    /// A number inside a longer word does not count.
    pub fn find_in(text: &str) -> Option<TicketNumber> {
        TicketNumber::all_in(text).next()
    }

    /// Every number in the text, in order.
    pub fn all_in(text: &str) -> impl Iterator<Item = TicketNumber> + '_ {
        text.split(|c: char| !c.is_alphanumeric()).filter_map(|word| word.parse().ok())
    }
}

impl fmt::Display for TicketNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:07}", self.kind.prefix(), self.serial)
    }
}

impl FromStr for TicketNumber {
    type Err = NotANumber;

    /// Letters in either case; the digits padded with zeros to seven.
    fn from_str(s: &str) -> Result<Self, NotANumber> {
        let (prefix, digits) = s.split_at_checked(3).ok_or(NotANumber)?;
        let kind = TicketKind::ALL
            .iter()
            .find(|kind| kind.prefix().eq_ignore_ascii_case(prefix))
            .ok_or(NotANumber)?;
        let proper = (MIN_DIGITS..=MAX_DIGITS).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit())
            // Beyond seven digits there is no padding, so that a number has one spelling.
            && (digits.len() == MIN_DIGITS || !digits.starts_with('0'));
        if !proper {
            return Err(NotANumber);
        }
        Ok(TicketNumber { kind: *kind, serial: digits.parse().map_err(|_| NotANumber)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn is_found_in_subjects() {
        let found = |text| TicketNumber::find_in(text).map(|n| n.to_string());
        assert_eq!(found("Re: [INC0000123] printer on fire").as_deref(), Some("INC0000123"));
        assert_eq!(found("AW: inc0000007: Drucker brennt").as_deref(), Some("INC0000007"));
        assert_eq!(found("CHG12345678, done").as_deref(), Some("CHG12345678"));
        assert_eq!(found("about INC0000002 and INC0000003").as_deref(), Some("INC0000002"));
        for no in ["", "INC123", "XINC0000123", "INC0000123a", "INC00001234", "ÄÖ€0000123", "ABC0000123"]
        {
            assert_eq!(found(no), None, "{no}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(kind in 0usize..4, serial in 0u64..1_000_000_000_000) {
            let number = TicketNumber::new(TicketKind::ALL[kind], serial);
            prop_assert_eq!(number.to_string().parse(), Ok(number));
            let subject = format!("Re: [{number}] x");
            prop_assert_eq!(TicketNumber::find_in(&subject), Some(number));
        }

        #[test]
        fn no_text_makes_it_stumble(text in "\\PC*") {
            for number in TicketNumber::all_in(&text) {
                prop_assert!(text.to_ascii_uppercase().contains(&number.to_string()));
            }
        }
    }
}
