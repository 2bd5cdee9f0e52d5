//! One-time codes from a shared secret and the time (RFC 6238, with RFC 4226 below it): SHA-1, six digits, thirty seconds. That is the one
//! combination that every authenticator takes.

use chrono::{DateTime, Utc};
use ring::hmac;
use std::fmt::Write;

pub const DIGITS: u32 = 6;
pub const PERIOD: i64 = 30;
/// Clocks of telephones go wrong, and people type slowly.
const WINDOW: i64 = 1;
/// RFC 4226, section 4, R6 recommends 160 bits.
pub const SECRET_BYTES: usize = 20;

pub fn step_at(now: DateTime<Utc>) -> i64 {
    now.timestamp().div_euclid(PERIOD)
}

/// The code of a time step.
pub fn code(secret: &[u8], step: i64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let bytes = tag.as_ref();
    let at = usize::from(bytes[bytes.len() - 1] & 0x0f);
    let number = u32::from_be_bytes([bytes[at] & 0x7f, bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    format!("{:0width$}", number % 10u32.pow(DIGITS), width = DIGITS as usize)
}

/// The time step that a code is for, if it is for one around now.
pub fn step_of(secret: &[u8], typed: &str, now: DateTime<Utc>) -> Option<i64> {
    let current = step_at(now);
    let steps = (current - WINDOW)..=(current + WINDOW);
    // All are compared, so that the time does not tell which it was.
    steps.fold(None, |found, step| {
        let same = constant_time_eq(code(secret, step).as_bytes(), typed.as_bytes());
        if same { Some(step) } else { found }
    })
}

fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

/// RFC 4648, section 6, without padding, as authenticators take it.
pub fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digit = |chunk: &[u8], n: usize| {
        let (byte, bit) = (n * 5 / 8, n * 5 % 8);
        let pair = u16::from_be_bytes([chunk[byte], chunk.get(byte + 1).copied().unwrap_or(0)]);
        char::from(ALPHABET[usize::from(pair >> (11 - bit) & 31)])
    };
    bytes
        .chunks(5)
        .flat_map(|chunk| (0..(chunk.len() * 8).div_ceil(5)).map(move |n| digit(chunk, n)))
        .collect()
}

/// What an authenticator reads from a QR code. `issuer` and `account` are shown to its owner.
pub fn uri(secret: &[u8], issuer: &str, account: &str) -> String {
    let (issuer, account) = (percent(issuer), percent(account));
    format!(
        "otpauth://totp/{issuer}:{account}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}&period={PERIOD}",
        base32(secret)
    )
}

fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, of which six digits are the last six of eight.
    #[test]
    fn the_vectors_of_the_standard() {
        let secret = b"12345678901234567890";
        for (time, expected) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(code(secret, time / PERIOD), expected[2..], "{time}");
        }
    }

    #[test]
    fn a_step_before_and_after_is_taken_and_no_other() {
        let (secret, now) = (b"12345678901234567890", DateTime::from_timestamp(1_800_000_015, 0).unwrap());
        let current = step_at(now);
        for step in current - 5..=current + 5 {
            let expected = ((step - current).abs() <= 1).then_some(step);
            assert_eq!(step_of(secret, &code(secret, step), now), expected);
        }
        for wrong in ["", "12345", "1234567", "abcdef"] {
            assert_eq!(step_of(secret, wrong, now), None);
        }
    }

    /// RFC 4648, section 10.
    #[test]
    fn base32_is_that_of_the_standard() {
        for (text, expected) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(text.as_bytes()), expected);
        }
    }

    #[test]
    fn names_cannot_leave_their_place_in_the_uri() {
        let uri = uri(&[0; 20], "Acme & Söhne?secret=x", "ada@acme.example");
        assert!(
            uri.starts_with(
                "otpauth://totp/Acme%20%26%20S%C3%B6hne%3Fsecret%3Dx:ada@acme.example?secret=AAAA"
            ),
            "{uri}"
        );
    }
}
