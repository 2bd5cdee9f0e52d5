//! A list of passwords that are known from breaches: the file that haveibeenpwned.com publishes, one `SHA1:COUNT` a line, sorted. It is
//! searched on disk (some 36 reads of a few bytes for its 40 GB), never read as a whole.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Longer than any line: 40 digits, a count, an end.
const LINE: usize = 80;
/// Shorter prefixes would meet too many passwords by chance.
const SHORTEST: usize = 16;

#[derive(Debug)]
pub struct BreachedPasswords {
    file: File,
    length: u64,
}

impl BreachedPasswords {
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let list = BreachedPasswords { file, length };
        if length > 0 {
            list.line(0)?;
        }
        Ok(list)
    }

    pub fn contains(&self, password: &str) -> io::Result<bool> {
        let wanted = hex::encode_upper(digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()));
        // Lines that begin before `low` come before it, those from `high` on after it.
        let (mut low, mut high) = (0, self.length);
        while low < high {
            let middle = low + (high - low) / 2;
            let begin = self.line_from(middle.max(low), low)?;
            if begin >= high {
                high = middle;
                continue;
            }
            let (hash, next) = self.line(begin)?;
            match hash.as_str().cmp(&wanted[..hash.len().min(wanted.len())]) {
                std::cmp::Ordering::Equal => return Ok(true),
                std::cmp::Ordering::Less => low = next,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(false)
    }

    /// Where the first line begins that begins at `at` or later; `first` is known to begin one.
    fn line_from(&self, at: u64, first: u64) -> io::Result<u64> {
        if at == first {
            return Ok(at);
        }
        let bytes = self.read(at - 1)?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        Ok(end.map_or(self.length, |end| at + end as u64))
    }

    /// The hash in the line that begins there, and where the next one begins.
    fn line(&self, begin: u64) -> io::Result<(String, u64)> {
        let bytes = self.read(begin)?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let line = &bytes[..end.unwrap_or(bytes.len())];
        let hash: Vec<u8> = line.iter().copied().take_while(u8::is_ascii_hexdigit).collect();
        if !(SHORTEST..=40).contains(&hash.len()) {
            let what = format!("no line of SHA1:COUNT at byte {begin}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let next = end.map_or(self.length, |end| begin + end as u64 + 1);
        Ok((String::from_utf8_lossy(&hash).to_uppercase(), next))
    }

    fn read(&self, at: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; LINE];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], at + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(
        passwords: &[String],
        ending: &str,
        digits: usize,
    ) -> (tempfile::NamedTempFile, BreachedPasswords) {
        let mut lines: Vec<String> = passwords
            .iter()
            .map(|password| {
                let hash = hex::encode_upper(digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes()));
                format!("{}:{}", &hash[..digits], password.len() * 7919)
            })
            .collect();
        lines.sort();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines.join(ending)).unwrap();
        let list = BreachedPasswords::open(file.path()).unwrap();
        (file, list)
    }

    proptest! {
        #[test]
        fn finds_what_is_in_it_and_nothing_else(
            known in proptest::collection::hash_set("[a-z0-9]{1,12}", 0..60), digits in 16usize..=40, crlf in any::<bool>()
        ) {
            let known: Vec<String> = known.into_iter().collect();
            let (_file, list) = list(&known, if crlf { "\r\n" } else { "\n" }, digits);
            for password in &known {
                prop_assert!(list.contains(password).unwrap(), "{}", password);
                let other = format!("{password}!");
                prop_assert!(!list.contains(&other).unwrap());
            }
        }
    }

    #[test]
    fn another_file_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "password\n123456\n").unwrap();
        let error = BreachedPasswords::open(file.path()).unwrap_err();
        assert!(error.to_string().contains("SHA1:COUNT"), "{error}");
        assert!(BreachedPasswords::open(Path::new("/nowhere/at/all")).is_err());
    }
}
