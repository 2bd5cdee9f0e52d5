//! HTML of strangers: made harmless, made readable as text.

use std::borrow::Cow;
use std::sync::LazyLock;

/// Larger HTML is not shown, only its text.
const MAX_HTML: usize = 1024 * 1024;
/// Above this the reader gives up on layout and takes the words only.
const MAX_LAYOUT: usize = 512 * 1024;
/// Tags nested deeper than this are nobody's letter.
const MAX_DEPTH: usize = 400;
const MAX_LINKS: usize = 5_000;
/// The HTML parser grows a text by one copy for each entity.
const MAX_ENTITIES: usize = 20_000;

/// Allow-list: no scripts, styles, forms, frames; pictures only from the mail itself (`cid:`), so that nothing is
/// fetched from outside when somebody reads it.
static CLEANER: LazyLock<ammonia::Builder<'static>> = LazyLock::new(|| {
    let mut builder = ammonia::Builder::default();
    builder
        .add_url_schemes(["cid"])
        .url_relative(ammonia::UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"))
        .attribute_filter(|element, attribute, value| match (element, attribute) {
            ("img", "src") => value.starts_with("cid:").then_some(Cow::Borrowed(value)),
            (_, "cite" | "longdesc") => None,
            _ => Some(Cow::Borrowed(value)),
        });
    builder
});

/// `None` when there is nothing to show, or too much.
pub fn sanitise(html: &str) -> Option<String> {
    if html.len() > MAX_HTML || html.matches("<a ").count() > MAX_LINKS || is_bomb(html) {
        return None;
    }
    let clean = CLEANER.clean(html).to_string();
    (!clean.trim().is_empty()).then_some(clean)
}

/// The readable text, with line breaks where the layout has some.
pub fn to_text(html: &str) -> String {
    let text = if html.len() > MAX_LAYOUT || is_bomb(html) {
        None
    } else {
        html2text::config::plain_no_decorate()
            .raw_mode(true)
            .no_table_borders()
            .no_link_wrapping()
            .allow_width_overflow()
            .string_from_read(html.as_bytes(), 1_000)
            .ok()
    };
    let text = text.unwrap_or_else(|| mail_parser::decoders::html::html_to_text(html));
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim().to_owned()
}

/// Made to keep a parser busy, not to be read.
fn is_bomb(html: &str) -> bool {
    html.matches('&').count() > MAX_ENTITIES || depth(html) > MAX_DEPTH
}

/// How deep elements are nested, roughly: tags opened and not closed again. An upper bound is good enough.
fn depth(html: &str) -> usize {
    let (mut now, mut most) = (0usize, 0usize);
    let bytes = html.as_bytes();
    for (at, _) in html.match_indices('<') {
        match bytes.get(at + 1) {
            Some(b'/') => now = now.saturating_sub(1),
            Some(letter) if letter.is_ascii_alphabetic() && !is_void(&html[at + 1..]) => {
                now += 1;
                most = most.max(now);
            }
            _ => {}
        }
    }
    most
}

/// Elements that have no end, or whose end is often left out.
fn is_void(tag: &str) -> bool {
    let name: String =
        tag.chars().take_while(char::is_ascii_alphanumeric).take(8).collect::<String>().to_lowercase();
    [
        "br", "img", "hr", "meta", "link", "input", "area", "base", "col", "wbr", "p", "li", "td", "tr",
        "th", "o",
    ]
    .contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_active_survives() {
        for attack in [
            "<script>alert(1)</script><p>x</p>",
            "<img src=x onerror=alert(1)><p>x</p>",
            "<a href=\"javascript:alert(1)\">x</a>",
            "<p style=\"background:url(https://evil)\">x</p>",
            "<style>@import 'https://evil'</style><p>x</p>",
            "<meta http-equiv=refresh content=0><p>x</p>",
            "<form action=https://evil><input name=q></form><p>x</p>",
            "<iframe src=https://evil></iframe><p>x</p>",
            "<svg><script>alert(1)</script></svg><p>x</p>",
            "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>x",
            "<img src=\"https://evil/pixel.gif\">x",
            "<object data=https://evil></object>x",
        ] {
            let clean = sanitise(attack).unwrap_or_default().to_lowercase();
            for bad in [
                "<script",
                "onerror",
                "javascript:",
                "style",
                "https://evil",
                "<form",
                "<iframe",
                "<meta",
                "<object",
            ] {
                assert!(!clean.contains(bad), "{attack} became {clean}");
            }
        }
    }

    #[test]
    fn letters_stay_readable() {
        let html = "<p>Hallo <b>Jürgen</b>,<br>der Drucker</p><p>brennt.</p><img src=\"cid:logo@x\">";
        assert!(sanitise(html).unwrap().contains("cid:logo@x"));
        assert_eq!(to_text(html), "Hallo Jürgen,\nder Drucker\n\nbrennt.");
    }

    #[test]
    fn bombs_are_cheap() {
        let started = std::time::Instant::now();
        for bomb in [
            "<div>".repeat(100_000),
            "<b><i>".repeat(50_000),
            "<table><tr><td>".repeat(20_000),
            "<a href=\"https://x.example\">x</a>".repeat(20_000),
            "<".repeat(300_000),
            "&amp;".repeat(200_000),
            "&amp;".repeat(MAX_ENTITIES),
            "<p ".repeat(100_000),
        ] {
            sanitise(&bomb);
            to_text(&bomb);
        }
        assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
    }

    proptest! {
        #[test]
        fn never_panics(html in "(<[a-z]{1,6}( [a-z]{1,4}=\"?[a-z:]{0,5})?>?|</[a-z]{1,6}>|[a-zäü&;<> \n]{0,8}){0,40}") {
            to_text(&html);
            if let Some(clean) = sanitise(&html) {
                prop_assert!(!clean.contains("<script"));
            }
        }
    }
}
