//! Texts that come from outside, made fit to be kept.

/// Longest title, in characters.
pub const MAX_TITLE: usize = 500;
/// Longest description or comment, in characters. More is an attachment.
pub const MAX_TEXT: usize = 500_000;
/// Longest tag, in characters.
pub const MAX_TAG: usize = 64;
/// Most tags of one ticket.
pub const MAX_TAGS: usize = 50;
const MAX_FILE_NAME: usize = 255;

/// Whether there is anything to see in it: spaces, control characters and those that Unicode draws as nothing
/// (Default_Ignorable_Code_Point, and the blank Braille pattern) alone are no text.
pub fn is_visible(text: &str) -> bool {
    text.chars().any(|c| !(c.is_whitespace() || c.is_control() || is_ignorable(c)))
}

/// Whether it turns the direction of what follows (Bidi_Control without the plain marks, which right-to-left names need): with these a text can
/// look like another one.
pub fn turns_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Unicode 17, DerivedCoreProperties.txt.
pub fn is_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// One line without control characters, cut to [`MAX_TITLE`]: what a mail's subject becomes. Empty when there is
/// nothing to see in it.
pub fn title(raw: &str) -> String {
    if !is_visible(raw) {
        return String::new();
    }
    let line = raw.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    truncated(&line.collect::<Vec<_>>().join(" "), MAX_TITLE)
}

/// Without NUL (which Postgres cannot store) and with plain line ends.
pub fn body(raw: &str) -> String {
    raw.replace("\r\n", "\n").replace('\0', "")
}

/// A tag as it is stored: lower case. `None` when it is empty, too long, invisible, or more than one line.
pub fn tag(raw: &str) -> Option<String> {
    let tag = raw.trim().to_lowercase();
    let fits = is_visible(&tag)
        && tag.chars().count() <= MAX_TAG
        && !tag.chars().any(|c| c.is_control() || c == ',');
    fits.then_some(tag)
}

/// The last part of whatever path was sent, without control characters; `attachment` when nothing is left.
/// It is shown and sent back, never used as a path.
pub fn file_name(raw: &str) -> String {
    let last = raw.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|c| !c.is_control()).collect();
    let name = name.trim();
    if matches!(name, "" | "." | "..") {
        return "attachment".to_owned();
    }
    if name.chars().count() <= MAX_FILE_NAME {
        return name.to_owned();
    }
    // Keep a short extension: it says what the file is.
    match name.rsplit_once('.') {
        Some((stem, extension)) if extension.chars().count() <= 16 => {
            format!("{}.{extension}", truncated(stem, MAX_FILE_NAME - 1 - extension.chars().count()))
        }
        _ => truncated(name, MAX_FILE_NAME),
    }
}

/// `type/subtype` in lower case without parameters (RFC 6838, 4.2), or `application/octet-stream`.
pub fn media_type(raw: &str) -> String {
    let bare = raw.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_name = |name: &str| {
        (1..=127).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b))
    };
    match bare.split_once('/') {
        Some((main, sub)) if is_name(main) && is_name(sub) => bare,
        _ => "application/octet-stream".to_owned(),
    }
}

/// The first `length` characters; an ellipsis shows that there was more.
pub fn truncated(text: &str, length: usize) -> String {
    if text.chars().count() <= length {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(length.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_lose_their_paths() {
        assert_eq!(file_name("../../etc/passwd"), "passwd");
        assert_eq!(file_name("C:\\Users\\ada\\Übersicht.pdf"), "Übersicht.pdf");
        assert_eq!(file_name("a\r\nb.txt"), "ab.txt");
        assert_eq!(file_name(".."), "attachment");
        let long = file_name(&format!("{}.pdf", "ä".repeat(400)));
        assert!(long.ends_with("….pdf") && long.chars().count() == 255);
    }

    #[test]
    fn media_types_are_bare() {
        assert_eq!(media_type("Text/HTML; charset=utf-8"), "text/html");
        assert_eq!(media_type("application/vnd.ms-excel"), "application/vnd.ms-excel");
        for odd in ["", "text", "text/", "text/html\r\nX: y", "/x", "a/b/c"] {
            assert_eq!(media_type(odd), "application/octet-stream", "{odd:?}");
        }
    }

    #[test]
    fn tags_are_lower_case_words() {
        assert_eq!(tag("  VPN ").as_deref(), Some("vpn"));
        assert_eq!(tag("a,b"), None);
        assert_eq!(tag(" "), None);
        assert_eq!(tag("\u{200b}"), None);
    }

    #[test]
    fn what_nobody_can_see_is_no_text() {
        for nothing in
            ["", " \t\u{a0}\u{3000}", "\u{200b}\u{200d}\u{feff}", "\u{2800}\u{3164}", "\u{ad}\u{e0041}\u{1}"]
        {
            assert!(!is_visible(nothing) && title(nothing).is_empty(), "{nothing:?}");
        }
        // Joiners and variation selectors belong to words and pictures.
        for text in ["a", "\u{200b}a", "\u{1f468}\u{200d}\u{1f4bb}", "می\u{200c}خواهم"] {
            assert!(is_visible(text) && !title(text).is_empty(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_fits(raw in ".{0,700}") {
            prop_assert!(title(&raw).chars().count() <= MAX_TITLE);
            prop_assert!(!title(&raw).contains(['\n', '\r', '\0']));
            let name = file_name(&raw);
            prop_assert!((1..=255).contains(&name.chars().count()));
            prop_assert!(!name.contains(['/', '\\', '\r', '\n', '\0']));
            prop_assert_eq!(title(&title(&raw)), title(&raw));
        }
    }
}
