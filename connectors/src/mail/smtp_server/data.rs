//! The end of a message and its dots (RFC 5321, 4.5.2).

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    /// A dot at the start of a line.
    Dot,
    DotCr,
    Text,
    Cr,
}

/// Takes the bytes after DATA as they come, in pieces of any size; the message ends at CR LF . CR LF.
#[derive(Debug)]
pub struct DataReader {
    at: At,
}

impl Default for DataReader {
    fn default() -> Self {
        // The CR LF of the DATA command counts: an empty message is a single dot.
        DataReader { at: At::LineStart }
    }
}

impl DataReader {
    /// Appends to `out` what belongs to the message. Answers how many bytes were used when the message ended in them;
    /// what follows are commands.
    pub fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let mut i = 0;
        while i < bytes.len() {
            let byte = bytes[i];
            self.at = match (self.at, byte) {
                (At::Text, b) if b != b'\r' => {
                    let length = bytes[i..].iter().position(|b| *b == b'\r').unwrap_or(bytes.len() - i);
                    out.extend_from_slice(&bytes[i..i + length]);
                    i += length;
                    continue;
                }
                (At::LineStart, b'.') => At::Dot,
                (At::Dot, b'\r') => At::DotCr,
                (At::DotCr, b'\n') => return Some(i + 1),
                // The dot was followed by something else: it was put there by the sender's SMTP and goes.
                (At::DotCr, b) => {
                    out.push(b'\r');
                    out.push(b);
                    if b == b'\r' { At::Cr } else { At::Text }
                }
                (At::Cr, b'\n') => {
                    out.push(b'\n');
                    At::LineStart
                }
                (_, b) => {
                    out.push(b);
                    if b == b'\r' { At::Cr } else { At::Text }
                }
            };
            i += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(wire: &[u8], piece: usize) -> Option<(Vec<u8>, usize)> {
        let (mut reader, mut out, mut used) = (DataReader::default(), Vec::new(), 0);
        for chunk in wire.chunks(piece) {
            match reader.take(chunk, &mut out) {
                Some(length) => return Some((out, used + length)),
                None => used += chunk.len(),
            }
        }
        None
    }

    #[test]
    fn ends_only_at_crlf_dot_crlf() {
        for (wire, message) in [
            (".\r\n", Some("")),
            ("a\r\n.\r\n", Some("a\r\n")),
            ("..\r\n.b\r\n.\r\n", Some(".\r\nb\r\n")),
            ("a\n.\n", None),
            ("a\n.\r\n", None),
            ("a\r\n.\n", None),
            ("a\r.\r\n", None),
            ("a\r.\r", None),
            ("a\r\n.\r", None),
            ("a\r\n.\r\r\n.\r\n", Some("a\r\n\r\r\n")),
            ("a\r\n\0.\r\n", None),
        ] {
            for piece in 1..6 {
                let read = read(wire.as_bytes(), piece).map(|(m, _)| String::from_utf8(m).unwrap());
                assert_eq!(read.as_deref(), message, "{wire:?} in pieces of {piece}");
            }
        }
    }

    /// What a correct client sends.
    fn stuff(message: &[u8]) -> Vec<u8> {
        let mut wire = Vec::new();
        for (i, line) in message.split(|b| *b == b'\n').enumerate() {
            if i > 0 {
                wire.push(b'\n');
            }
            let starts_line = i == 0 || wire.ends_with(b"\r\n");
            if starts_line && line.starts_with(b".") {
                wire.push(b'.');
            }
            wire.extend_from_slice(line);
        }
        wire.extend_from_slice(b"\r\n.\r\n");
        wire
    }

    proptest! {
        #[test]
        fn gives_back_what_was_sent(message in prop::collection::vec(prop::sample::select(b"ab.\r\n\0\xff".to_vec()), 0..60), piece in 1usize..9, after in "[A-Z]{0,8}") {
            // A message whose last byte is CR would merge with the end mark; clients send whole lines.
            prop_assume!(!message.ends_with(b"\r"));
            let mut wire = stuff(&message);
            let end = wire.len();
            wire.extend_from_slice(after.as_bytes());
            let (read, used) = read(&wire, piece).expect("an end");
            prop_assert_eq!(used, end);
            prop_assert_eq!(&read[..read.len() - 2], &message[..]);
        }
    }
}
