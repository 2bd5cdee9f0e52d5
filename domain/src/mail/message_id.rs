//! Message-IDs (RFC 5322, 3.6.4), written without angle brackets.

use crate::mail::Mail;
use uuid::Uuid;

/// Longer ones are nobody's: an RFC 5322 line has at most 998 characters.
const MAX: usize = 998;
/// More references than this are not looked up; the newest count.
const MAX_CANDIDATES: usize = 50;

/// The Message-ID of a mail we send. It is made once, with the delivery, and is the same for every attempt; `random` is
/// not to be guessed (a version 4 UUID), because who knows it may write to the ticket.
pub fn outgoing(random: Uuid, host: &str) -> String {
    format!("relaydesk.{}@{host}", random.simple())
}

/// Trims white space and angle brackets. `None` for what can't be one.
pub fn normalise(text: &str) -> Option<String> {
    let id = text.trim().trim_start_matches('<').trim_end_matches('>').trim();
    let good =
        !id.is_empty() && id.len() <= MAX && !id.contains(|c: char| c.is_control() || c == '<' || c == '>');
    good.then(|| id.to_owned())
}

/// All ids of an `In-Reply-To` or `References` value, in its order. Ids are what stands in angle brackets; a value
/// without any is split at white space, as some programs write them.
pub fn all_in(value: &str) -> Vec<String> {
    if value.contains('<') {
        value.split('<').skip(1).filter_map(|part| normalise(part.split('>').next()?)).collect()
    } else {
        value.split_whitespace().filter(|word| word.contains('@')).filter_map(normalise).collect()
    }
}

/// The ids by which a mail may belong to a thread, the nearest first: what it answers, then its references from the
/// newest to the oldest.
pub fn candidates(mail: &Mail) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for id in mail.in_reply_to.iter().chain(mail.references.iter().rev()) {
        if !all.contains(id) {
            all.push(id.clone());
        }
        if all.len() == MAX_CANDIDATES {
            break;
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::tests::mail;
    use proptest::prelude::*;

    #[test]
    fn newest_first() {
        let mail = mail(&[("In-Reply-To", "<c@x>"), ("References", "<a@x> <b@x>\t<c@x>")]);
        assert_eq!(candidates(&mail), ["c@x", "b@x", "a@x"]);
    }

    #[test]
    fn what_programs_write() {
        assert_eq!(all_in("<a@x>,<b@x>"), ["a@x", "b@x"]);
        assert_eq!(all_in("a@x b@x"), ["a@x", "b@x"]);
        assert_eq!(all_in("Message from Ada of Monday <a@x> (sorry)"), ["a@x"]);
        assert_eq!(normalise("  <a@x> "), Some("a@x".into()));
        assert_eq!(normalise("<>"), None);
        assert_eq!(normalise(&"a".repeat(2000)), None);
    }

    proptest! {
        #[test]
        fn ours_are_found_again(random: u128, before in "[a-z @<>]{0,20}", after in r"\PC{0,20}") {
            let id = outgoing(Uuid::from_u128(random), "desk.example");
            prop_assert_eq!(normalise(&id), Some(id.clone()));
            let found = all_in(&format!("{before}<{id}>{after}"));
            prop_assert!(found.contains(&id));
        }

        #[test]
        fn never_panics(value in "\\PC{0,200}") {
            for id in all_in(&value) {
                prop_assert_eq!(normalise(&id), Some(id.clone()));
            }
        }
    }
}
