//! What a password must be like: long, and not among the first that somebody tries. Rules of composition only make passwords predictable
//! (NIST SP 800-63B-4, 3.1.1.2); how many tries one takes is estimated instead, from lists of passwords, words and names, and from the
//! patterns that people make of them (ASVS 5.0, 6.2.4).

use crate::ticket::text::is_visible;
use std::ops::RangeInclusive;
use zxcvbn::zxcvbn;

/// In characters. The upper end only keeps hashing cheap to refuse.
pub const LENGTH: RangeInclusive<usize> = 12..=128;
/// How many passwords, the present one included, may not be taken again.
pub const REMEMBERED: usize = 5;
/// Shorter words stand in too many good passwords by chance.
const SHORTEST_WORD: usize = 4;
/// Passwords that take fewer tries are known, or nearly. Of all lists of common passwords nothing comes near it; what throttles let through
/// in a hundred years is far below.
const TRIES: u64 = 100_000_000;
/// What is strong with its first characters is strong; the estimate takes longer than its square with the length.
const LOOKED_AT: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    #[error("must be {least} to {most} characters long", least = LENGTH.start(), most = LENGTH.end())]
    Length,
    #[error("must not be of spaces alone")]
    Blank,
    #[error("must not contain {0:?}: who guesses begins with the names of people and organizations")]
    Word(String),
    #[error(
        "is among the first that somebody tries who guesses: take a few words that have nothing to do with each other"
    )]
    Guessable,
}

/// What no password goes without, wherever it comes from.
pub fn check_shape(password: &str) -> Result<(), Weak> {
    if !LENGTH.contains(&password.chars().count()) {
        return Err(Weak::Length);
    }
    if !is_visible(password) {
        return Err(Weak::Blank);
    }
    Ok(())
}

/// `about`: names and addresses of the person and the organization. Takes some milliseconds.
pub fn check(password: &str, about: &[&str]) -> Result<(), Weak> {
    check_shape(password)?;
    let lower = password.to_lowercase();
    match words(about).into_iter().find(|word| lower.contains(word.as_str())) {
        Some(word) => Err(Weak::Word(word)),
        None if is_guessable(password, about) => Err(Weak::Guessable),
        None => Ok(()),
    }
}

fn is_guessable(password: &str, about: &[&str]) -> bool {
    let beginning: String = password.chars().take(LOOKED_AT).collect();
    let about: Vec<&str> = about.iter().copied().chain(["relaydesk"]).collect();
    let tries = |text: &str| zxcvbn(text, &about).guesses();
    tries(&beginning) < TRIES && (beginning.len() == password.len() || tries(password) < TRIES)
}

fn words(about: &[&str]) -> Vec<String> {
    let parts = about.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    let words = parts.chain(["relaydesk"]).map(str::to_lowercase);
    words.filter(|word| word.chars().count() >= SHORTEST_WORD).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_and_composition_does_not() {
        for good in [
            "correct horse battery",
            "пароль из слов",
            "drei alte Dampfer",
            "vkqzpmwtbxjd",
            &"w k q ".repeat(21),
        ] {
            assert_eq!(check(good, &[]), Ok(()), "{good}");
        }
        for short in ["Tr0ub4dor&3", "", &"x".repeat(129), "пароль"] {
            assert_eq!(check(short, &[]), Err(Weak::Length), "{short}");
        }
        for blank in ["            ", "\u{200b} \u{200b} \u{200b} \u{200b} \u{200b} \u{200b} \u{200b}"] {
            assert_eq!(check(blank, &[]), Err(Weak::Blank), "{blank:?}");
        }
    }

    /// Twelve characters and more, and still among the first that are tried.
    #[test]
    fn what_is_tried_first_is_refused() {
        for known in [
            "password1234",
            "Password123!",
            "P@ssw0rd1234",
            "passwordpassword",
            "123456789012",
            "1234567890123456",
            "qwertyuiop12",
            "qwertyuiop[]",
            "1q2w3e4r5t6y",
            "1qaz2wsx3edc",
            "iloveyou1234",
            "welcome12345",
            "letmeinletmein",
            "administrator",
            "Administrator1",
            "changeme1234",
            "abcdefghijkl",
            "abcd1234abcd",
            "aaaaaaaaaaab",
            "111111111111",
            "sunshine2024",
            "zaq12wsxcde3",
            "asdfghjkl123",
            "football1234",
            "trustno1trustno1",
            "monkeymonkey",
            "december2025",
            "qazwsxedcrfv",
        ] {
            assert_eq!(check(known, &[]), Err(Weak::Guessable), "{known}");
        }
        let repeated = "x".repeat(128);
        assert_eq!(check(&repeated, &[]), Err(Weak::Guessable));
        // Strong at its end only is strong enough.
        let late = format!("{}vkqz pmwt bxjd hlfc", "a".repeat(LOOKED_AT));
        assert_eq!(check(&late, &[]), Ok(()));
    }

    #[test]
    fn names_are_what_guessing_begins_with() {
        let about = ["ada.lovelace@acme.example", "Ada Lovelace", "acme", "Acme & Söhne"];
        for (password, word) in [
            ("i am LoveLace 1815", "lovelace"),
            ("welcome to ACME!", "acme"),
            ("vater und söhne 1", "söhne"),
            ("Relaydesk-2026-11", "relaydesk"),
        ] {
            assert_eq!(check(password, &about), Err(Weak::Word(word.into())), "{password}");
        }
        assert_eq!(check("canada is far away", &about), Ok(()), "three letters are no word");
    }
}
