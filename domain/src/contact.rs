//! How somebody can be reached besides the address of their account.

use crate::words::words;

words! {
    ContactKind("kind of contact") {
        Email => "email",
        Phone => "phone",
        Mobile => "mobile",
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactWay {
    pub kind: ContactKind,
    pub value: String,
    /// `work`, `at night` …
    pub label: Option<String>,
    /// At most one of each kind. Mail about tickets goes to the preferred address.
    pub is_preferred: bool,
}

/// Most that a person has.
pub const MOST_CONTACT_WAYS: usize = 20;

/// A telephone number as people write it: digits, with `+` in front and the usual signs between. `None`: it is none.
pub fn phone_number(text: &str) -> Option<String> {
    let text = text.trim();
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let fits = |c: char| c.is_ascii_digit() || " +-./()".contains(c);
    let plus = text.rfind('+').is_none_or(|at| at == 0);
    // ITU-T E.164 has fifteen; an extension may follow.
    ((3..=20).contains(&digits) && text.len() <= 40 && text.chars().all(fits) && plus)
        .then(|| text.to_owned())
}

/// A language tag (RFC 5646) by its shape: `de`, `de-DE`, `zh-Hans-CN`. With `_` it is taken too, as systems write it. `None`: it is none.
pub fn language_tag(text: &str) -> Option<String> {
    let text = text.trim().replace('_', "-");
    let mut parts = text.split('-');
    let language = parts.next().is_some_and(|first| {
        matches!(first.len(), 2 | 3 | 5..=8) && first.chars().all(|c| c.is_ascii_alphabetic())
    });
    let rest =
        parts.all(|part| (1..=8).contains(&part.len()) && part.chars().all(|c| c.is_ascii_alphanumeric()));
    (language && rest && text.len() <= 35).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_languages_look_like_it() {
        for good in ["+49 (30) 123-456", "110", "030/1234.5"] {
            assert_eq!(phone_number(good).as_deref(), Some(good));
        }
        for bad in ["", "12", "call me", "=1+1", "49+30", "++49301", "1;2222"] {
            assert_eq!(phone_number(bad), None, "{bad}");
        }
        for (text, tag) in [("de", "de"), ("de_DE", "de-DE"), ("zh-Hans-CN", "zh-Hans-CN"), ("tlh", "tlh")] {
            assert_eq!(language_tag(text).as_deref(), Some(tag));
        }
        for bad in ["", "d", "german language", "de-", "12", "de-toolongpart", "de--DE"] {
            assert_eq!(language_tag(bad), None, "{bad}");
        }
    }
}
