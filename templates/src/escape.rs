//! Escaping for messages that are JSON: whatever people write stays inside its string, and stays words.

use handlebars::{
    Context, Handlebars, Helper, HelperDef, HelperResult, Output, RenderContext, RenderErrorReason,
};

/// How one character is written in a part of this kind. `out` receives JSON string content.
pub type Escape = fn(char, &mut String);

/// Slack reads `<…>` as links and mentions, and `&…;` as entities.
/// <https://docs.slack.dev/messaging/formatting-message-text#escaping>
pub fn slack(c: char, out: &mut String) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        other => json(other, out),
    }
}

/// RFC 8259, 7.
pub fn json(c: char, out: &mut String) {
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        control if control < ' ' => out.push_str(&format!("\\u{:04x}", control as u32)),
        other => out.push(other),
    }
}

pub fn all(text: &str, escape: Escape) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    text.chars().for_each(|c| escape(c, &mut out));
    out
}

/// `{{cut text 2800}}`: the text, escaped, and not longer than that many UTF-16 units as the peer counts them: after
/// its own escaping, before JSON's. What is cut off is marked by an ellipsis.
pub struct Cut(pub Escape);

impl HelperDef for Cut {
    fn call<'reg: 'rc, 'rc>(
        &self,
        helper: &Helper<'rc>,
        _: &'reg Handlebars<'reg>,
        _: &'rc Context,
        _: &mut RenderContext<'reg, 'rc>,
        out: &mut dyn Output,
    ) -> HelperResult {
        let missing = |index| RenderErrorReason::ParamNotFoundForIndex("cut", index);
        let text = helper.param(0).and_then(|p| p.value().as_str()).ok_or_else(|| missing(0))?;
        let limit = helper.param(1).and_then(|p| p.value().as_u64()).ok_or_else(|| missing(1))?;
        out.write(&self.cut(text, usize::try_from(limit).unwrap_or(usize::MAX)))?;
        Ok(())
    }
}

impl Cut {
    fn cut(&self, text: &str, limit: usize) -> String {
        let (mut out, mut length, mut at_limit) = (String::new(), 0, None);
        for c in text.chars() {
            let start = out.len();
            (self.0)(c, &mut out);
            // JSON's own escapes stand for one unit.
            length += if out[start..].starts_with('\\') { 1 } else { out[start..].encode_utf16().count() };
            if length < limit {
                at_limit = Some(out.len());
            } else if length > limit {
                out.truncate(at_limit.unwrap_or(0));
                out.push('…');
                break;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_between_characters_never_inside_an_entity() {
        let cut = |text: &str, limit| Cut(slack).cut(text, limit);
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "ab…");
        assert_eq!(cut("a&b", 7), "a&amp;b");
        assert_eq!(cut("a&bc", 7), "a&amp;…");
        assert_eq!(cut("a&bc", 4), "a…");
        assert_eq!(cut("\n\n\n\n", 3), "\\n\\n…");
        assert_eq!(cut("\u{1F525}\u{1F525}", 3), "\u{1F525}…");
    }
}
