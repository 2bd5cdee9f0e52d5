//! What makes two mails the same mail.
//!
//! The same mail arrives twice with different trace headers (`Received`, `Return-Path`, signatures), with other line
//! ends (a pipe) or with white space at its end. What its sender wrote stays the same: who, to whom, when, about what,
//! the Message-ID, and the body. A different text under a known Message-ID is a different mail, so that nothing is lost.

/// The headers that the sender wrote and no relay changes.
const WRITTEN: [&str; 10] = [
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "in-reply-to",
    "references",
    "content-type",
    "content-transfer-encoding",
];

/// Feeds the identity of a raw mail to a hash, piece by piece.
pub fn feed(raw: &[u8], mut hash: impl FnMut(&[u8])) {
    let (header, body) = split(raw);
    let mut written: Vec<Vec<u8>> = Vec::new();
    for field in fields(header) {
        let Some(colon) = field.iter().position(|b| *b == b':') else {
            continue;
        };
        let name = field[..colon].trim_ascii().to_ascii_lowercase();
        if WRITTEN.iter().any(|w| w.as_bytes() == name) {
            let words = field[colon + 1..].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let mut line = name;
            for word in words {
                line.push(b' ');
                line.extend_from_slice(word);
            }
            written.push(line);
        }
    }
    // Nothing that looks like a mail: all of it counts.
    if written.is_empty() {
        hash(raw);
        return;
    }
    written.sort();
    for line in &written {
        hash(line);
        hash(b"\n");
    }
    hash(b"\n");
    for line in body.trim_ascii_end().split(|b| *b == b'\n') {
        hash(line.strip_suffix(b"\r").unwrap_or(line));
        hash(b"\n");
    }
}

/// Header and body, at the first empty line.
pub fn split(raw: &[u8]) -> (&[u8], &[u8]) {
    let mut start = 0;
    while let Some(length) = raw[start..].iter().position(|b| *b == b'\n') {
        let line = &raw[start..start + length];
        if line.is_empty() || line == b"\r" {
            return (&raw[..start], &raw[start + length + 1..]);
        }
        start += length + 1;
    }
    (raw, &[])
}

/// The fields of a header, still folded.
fn fields(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut end = 0;
        loop {
            end += rest[end..].iter().position(|b| *b == b'\n').map_or(rest.len() - end, |p| p + 1);
            if end == rest.len() || !matches!(rest[end], b' ' | b'\t') {
                break;
            }
        }
        let (field, tail) = rest.split_at(end);
        rest = tail;
        Some(field)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(raw: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        feed(raw, |piece| all.extend_from_slice(piece));
        all
    }

    const MAIL: &[u8] = b"Received: from a\r\n\tby b\r\nFrom: ada@example.org\r\nSubject: a long\r\n subject\r\nMessage-ID: <1@x>\r\n\r\nHello\r\nyou\r\n";

    #[test]
    fn trace_headers_line_ends_and_folding_do_not_matter() {
        let again: &[u8] = b"Return-Path: <x@y>\nReceived: from c by d\nDKIM-Signature: v=1\nFrom:  ada@example.org\nMessage-ID: <1@x>\nSubject: a long subject\n\nHello\nyou\n\n";
        assert_eq!(identity(MAIL), identity(again));
    }

    #[test]
    fn words_do_matter() {
        for (from, to) in [("ada@", "bob@"), ("<1@x>", "<2@x>"), ("Hello", "hello"), ("a long", "along")] {
            let other = String::from_utf8(MAIL.to_vec()).unwrap().replace(from, to);
            assert_ne!(identity(MAIL), identity(other.as_bytes()), "{from}");
        }
        assert_ne!(identity(b"garbage 1"), identity(b"garbage 2"));
    }

    proptest! {
        #[test]
        fn never_panics_and_sees_every_byte_of_a_body(raw in prop::collection::vec(any::<u8>(), 0..400), at in 0usize..40, with in any::<u8>()) {
            identity(&raw);
            let body: Vec<u8> = (0..40).map(|i| b'a' + (i % 20)).collect();
            let mut other = body.clone();
            other[at] = with;
            let mail = |body: &[u8]| [b"From: a@b\r\n\r\n".as_slice(), body].concat();
            if other != body && !with.is_ascii_whitespace() {
                prop_assert_ne!(identity(&mail(&body)), identity(&mail(&other)));
            }
        }
    }
}
